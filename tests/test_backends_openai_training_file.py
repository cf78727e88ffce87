"""Conversations become the files that endpoints take; what they would refuse is refused here, before the upload."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.errors import InputError
from backends.openai.endpoints import Endpoint
from backends.openai.settings import EndpointSettings
from backends.openai.training_file import check, files_of, remarks, tokens_of
from backends.openai.training_recipe import Recipe, check_endpoint
from backends.types import Message, TuneJob

OPENAI = Endpoint("openai", "https://api.openai.com/v1", "OPENAI_API_KEY")
OTHER = Endpoint("other", "https://other.example/v1", None, EndpointSettings())
SUPERVISED, DPO = Recipe(), Recipe(method="dpo")


def turns(number: int, question: str = "", answer: str = "") -> tuple[Message, ...]:
    asked = question or f"message {number} about {'apple' if number % 2 else 'iron'}"
    return (Message("system", "Sort."), Message("user", asked), Message("assistant", answer or f"answer {number % 2}"))


def job(tmp_path: Path, *extra: tuple[Message, ...], n: int = 12, **changes: Any) -> TuneJob:
    train = (*(turns(number) for number in range(n)), *extra)
    return TuneJob("openai/gpt-4.1-mini", train, (turns(99),), 1, tmp_path, **changes)


def refusal(found: TuneJob, recipe: Recipe = SUPERVISED, endpoint: Endpoint = OPENAI) -> str:
    with pytest.raises(InputError) as raised:
        check(found, recipe, endpoint)
    return str(raised.value)


def test_conversations_are_json_lines_with_their_roles(tmp_path: Path) -> None:
    odd = turns(0, 'a "quoted"\nline – ünïcode \ud800', "x")
    files = files_of(job(tmp_path, odd), SUPERVISED)
    rows = [json.loads(line) for line in files.train.splitlines()]
    assert len(rows) == 13
    assert rows[0] == {
        "messages": [
            {"role": "system", "content": "Sort."},
            {"role": "user", "content": "message 0 about iron"},
            {"role": "assistant", "content": "answer 0"},
        ]
    }
    assert rows[12]["messages"][1]["content"] == 'a "quoted"\nline – ünïcode ?'
    assert len(files.dev.splitlines()) == 1


def test_pairs_are_written_as_preferences(tmp_path: Path) -> None:
    found = job(tmp_path, rejected=("no",) * 12, dev_rejected=("",))
    files = files_of(found, DPO)
    assert json.loads(files.train.splitlines()[1]) == {
        "input": {
            "messages": [{"role": "system", "content": "Sort."}, {"role": "user", "content": "message 1 about apple"}]
        },
        "preferred_output": [{"role": "assistant", "content": "answer 1"}],
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
    }
    # Dev samples without a wrong answer are no pairs; there is then nothing to look at while training.
    assert files.dev == b""
    assert files_of(replace(found, dev_rejected=("no",)), DPO).dev


def test_pairs_need_a_wrong_answer_for_every_sample(tmp_path: Path) -> None:
    assert "12 train samples have no wrong answer (number 1, 2, 3, ...)" in refusal(job(tmp_path), DPO)
    some = ("no",) * 11 + ("",)
    assert "1 train sample has no wrong answer (number 12)" in refusal(job(tmp_path, rejected=some), DPO)
    same = ("answer 0",) + ("no",) * 11
    assert "1 train sample rejects its own target (number 1)" in refusal(job(tmp_path, rejected=same), DPO)
    check(job(tmp_path, rejected=("no",) * 12), DPO, OPENAI)


def test_what_endpoints_refuse_is_refused_before_the_upload(tmp_path: Path) -> None:
    assert "9 train samples are too few" in refusal(job(tmp_path, n=9))
    assert "empty input or target (number 13, train" in refusal(job(tmp_path, turns(0, " ", "x")))
    alike = TuneJob("openai/x", tuple(turns(n, "", "yes") for n in range(12)), (), 1, tmp_path)
    assert "all train samples have one answer" in refusal(alike)


def test_a_secret_refuses_the_upload_and_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "my-very-own-key")
    planted = "sk-planted-0123456789abcdef"
    text = refusal(job(tmp_path, turns(0, f"use {planted}", "x"), turns(1, "use my-very-own-key", "x")))
    assert "api.openai.com" in text
    assert "an API key in 2 samples (the first is number 13)" in text
    assert "allow_secrets" in text
    assert planted not in text
    assert "my-very-own-key" not in text
    rejected = ("no",) * 11 + (planted,)
    assert "an API key" in refusal(job(tmp_path, rejected=rejected), DPO)
    allowed = check(job(tmp_path, turns(0, f"use {planted}", "x")), Recipe(allow_secrets=True), OPENAI)
    assert [one.kind for one in allowed.secrets] == ["an API key"]


def test_personal_data_copies_and_contradictions_are_remarked(tmp_path: Path) -> None:
    found = job(tmp_path, turns(0), turns(1, "", "something else"), turns(2, "mail a@example.com", "x"))
    told = remarks(found, check(found, SUPERVISED, OPENAI))
    assert told == (
        "1 of the 16 samples hold what looks like e-mail addresses.",
        "1 train sample is an exact copy of another; each counts as often as it stands there.",
        "1 input stands in the train split with different answers; a model cannot learn both.",
    )
    assert remarks(job(tmp_path), check(job(tmp_path), SUPERVISED, OPENAI)) == ()


def test_tokens_are_those_of_the_messages_with_their_frames(tmp_path: Path) -> None:
    found = tokens_of(job(tmp_path, n=10), SUPERVISED, OPENAI, "gpt-4.1-mini")
    # 3 tokens around each message; "system Sort." has 3, "user message 0 about iron" 6, "assistant answer 0" 4.
    assert found.counted == 10 * (3 * 3 + 3 + 6 + 4)
    assert found.counted < found.most < 1.5 * found.counted
    pairs = tokens_of(job(tmp_path, n=10, rejected=("no",) * 10), DPO, OPENAI, "gpt-4.1-mini")
    assert pairs.counted == found.counted + 10 * (3 + 2)
    assert pairs.most > 1.8 * found.most
    # Of an unknown encoding only the bytes are a bound.
    assert tokens_of(job(tmp_path, n=10), SUPERVISED, OTHER, "llama").most > 3 * found.counted


def test_an_example_that_would_be_cut_is_refused(tmp_path: Path) -> None:
    long = turns(0, "word " * 70_000, "x")
    with pytest.raises(InputError, match=r"1 train sample has more tokens than the 65,536 .*\(number 13\)"):
        tokens_of(job(tmp_path, long), SUPERVISED, OPENAI, "gpt-4.1-mini")
    tokens_of(job(tmp_path, long), SUPERVISED, OTHER, "gpt-4.1-mini")
    short = Recipe(extra={"context_length": 10})
    with pytest.raises(InputError, match="12 train samples have more tokens than the 10 "):
        tokens_of(job(tmp_path), short, OTHER, "gpt-4.1-mini")


def test_a_file_that_no_endpoint_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.openai.training_file.LARGEST_BYTES", 1000)
    with pytest.raises(InputError, match="the train file has"):
        files_of(job(tmp_path), SUPERVISED)


WRONG = {
    "epochs": [0, 51, True, "3", 2.5],
    "batch_size": [0, 257],
    "learning_rate_multiplier": [0, -1, "fast"],
    "method": ["reinforcement", 3],
    "suffix": ["", "x" * 65, "ü"],
    "max_hours": [0, "12"],
    "cancel_on_interrupt": ["yes", 1],
    "allow_secrets": ["yes"],
    "lora_r": [0, 1.5],
    "lora_dropout": [1.0, -0.1],
    "extra_body": [3, {"x": {1, 2}}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_value_that_means_nothing_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(InputError, match=f"recipe.{key}"):
        Recipe.parse({key: value})


def test_recipes_say_what_they_do_not_know() -> None:
    with pytest.raises(InputError, match="Did you mean 'epochs'"):
        Recipe.parse({"epoch": 3})
    with pytest.raises(InputError, match="without method: dpo"):
        Recipe.parse({"beta": 0.1})
    assert Recipe.parse({"method": "dpo", "beta": 0.1}).hyperparameters(100) == {"n_epochs": 3, "beta": 0.1}


def test_epochs_follow_openais_own_rule_so_that_the_cost_is_known_before() -> None:
    counts = {10: 10, 20: 5, 33: 3, 34: 3, 100: 3, 8000: 3, 10_000: 2, 50_000: 1}
    assert {examples: Recipe().epochs_for(examples) for examples in counts} == counts
    assert Recipe(epochs=2).epochs_for(20) == 2


def test_looking_through_a_job_imports_neither_the_sdk_nor_the_encodings() -> None:
    heavy = "{'openai', 'tiktoken', 'genai_prices'}"
    code = f"import sys; import backends.openai.job_work; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_only_others_know_is_passed_on_to_others_and_refused_for_openai() -> None:
    recipe = Recipe.parse({"lora_r": 16, "learning_rate": 1e-4, "extra_body": {"trainingType": "developerTier"}})
    assert recipe.hyperparameters(100) == {"n_epochs": 3, "lora_r": 16, "learning_rate": 1e-4}
    check_endpoint(recipe, OTHER)
    with pytest.raises(InputError, match="OpenAI does not know lora_r, learning_rate, trainingType"):
        check_endpoint(recipe, OPENAI)
