"""The demo over servers that nobody here wrote: llama.cpp's own and its Python binding's, with SmolLM2-135M.

    ADVISOR_REAL_SAMPLES=256 python -m pytest tests/test_backends_openai_real_servers.py -m network -rs -s

They are installed on the first run where that takes no compiler (tests/real_servers.py); 24 samples unless told.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from advisor import engine
from advisor.scenario.model import Overrides
from backends.local.chat import LocalChat
from backends.openai.capabilities import memory_of
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.settings import EndpointSettings
from backends.types import ChatModel, ChatRequest, Message
from evals.store import Store
from evals.trial import Trial
from tests import real_servers
from tests.real_servers import MODEL, SERVERS

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(7200)]

DEMO = Path(__file__).parent.parent / "scenarios" / "city_hotline"
SAMPLES = int(os.environ.get("ADVISOR_REAL_SAMPLES", "24"))
TECHNIQUES = ("zero_shot", "few_shot", "knn_few_shot")
QUESTIONS = (
    "What is the capital of France?",
    "What is the capital of Italy?",
    "Write the word banana.",
    "How many days has a week?",
    "Name a fruit.",
    "Translate 'good morning' into French.",
    "What do bees make?",
    "Which planet is the largest?",
)
FREE = [ChatRequest((Message("user", question),), max_tokens=12) for question in QUESTIONS]
COMPARED = 64
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "count": {"type": "integer"}},
        "required": ["city", "count"],
        "additionalProperties": False,
    }
)


def tell(figures: str) -> None:
    """What was measured, shown with -s."""
    sys.stdout.write(f"\n{figures}\n")


@pytest.fixture(scope="module", params=list(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Name and address of a running server."""
    name = str(request.param)
    why = real_servers.missing(name)
    if why is not None:
        pytest.skip(why)
    with real_servers.running(name, tmp_path_factory.mktemp("log") / f"{name}.log") as url:
        yield name, url


@pytest.fixture(scope="module")
def same_requests() -> dict[str, list[str]]:
    """Answers to the same requests by server, as far as they have run."""
    return {}


@pytest.fixture
def chat(server: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenAIChat:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    name, url = server
    known = SERVERS[name]
    settings = EndpointSettings(max_concurrency=known.at_once, extra_body=json.dumps(known.extra_body))
    return OpenAIChat(f"real/{MODEL}", Endpoint("real", url, None, settings), MODEL)


def demo(folder: Path, name: str, url: str) -> Path:
    """The demo's scenario with its model behind an endpoint."""
    known = SERVERS[name]
    said = yaml.safe_load((DEMO / "scenario.yaml").read_text(encoding="utf-8"))
    said |= {
        "data": {split: str(DEMO / file) for split, file in said["data"].items()} | {"limit": {"test": SAMPLES}},
        "models": [f"real/{MODEL}"],
        "endpoints": {
            "real": {"base_url": url, "max_concurrency": known.at_once, "extra_body": dict(known.extra_body)}
        },
        "fine_tune": {"when": "never"},
        "budget": {"minutes": 110},
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(said), encoding="utf-8")
    return path


def compared(folder: Path, name: str, url: str) -> list[Trial]:
    finished = engine.compare(demo(folder, name, url), folder / "w", Overrides(diagnose=False))
    assert finished.report["stopped"] is None
    assert finished.report["verdict"]
    with Store.open(folder / "w" / "advisor.db") as store:
        return [trial for trial in store.trials(finished.report["run_id"]) if trial.split == "test"]


def test_the_demo_gives_a_complete_comparison(
    server: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    name, url = server
    labels = yaml.safe_load((DEMO / "scenario.yaml").read_text(encoding="utf-8"))["labels"]
    begun = time.monotonic()
    trials = compared(tmp_path, name, url)
    seconds = time.monotonic() - begun
    assert len(trials) == SAMPLES * len(TECHNIQUES)
    assert [trial.error for trial in trials if trial.error] == []
    assert all(trial.usage.requests and trial.usage.input_tokens and trial.usage.output_tokens for trial in trials)
    valid = [trial.output in labels for trial in trials]
    right = sum(trial.score.value for trial in trials if trial.score) / len(trials)
    tell(f"{name}: {len(trials)} trials in {seconds:.0f} s, {sum(valid)} of the form, {right:.0%} right")
    assert all(valid)


async def test_greedy_answers_are_equal_under_a_form_that_both_servers_take(
    server: tuple[str, str], chat: OpenAIChat, same_requests: dict[str, list[str]]
) -> None:
    # The binding takes no json_schema, and what asks for the other form is part of the prompt.
    memory_of(Endpoint("real", server[1], None), MODEL).learn(frozenset({"strict", "json_schema"}))
    found = same_requests[server[0]] = await asked(chat, few_shot_requests())
    await chat.aclose()
    labels = {row["target"] for row in rows("train")}
    assert set(found) <= labels
    if len(same_requests) == len(SERVERS):
        first, second = same_requests.values()
        equal = sum(one == other for one, other in zip(first, second, strict=True))
        tell(f"{equal} of {len(first)} answers are equal on {' and '.join(same_requests)}")
        assert equal >= 0.9 * len(first)


def rows(split: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DEMO / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def few_shot_requests() -> list[ChatRequest]:
    """The demo's instructions and eight examples before each of its first test messages."""
    said = yaml.safe_load((DEMO / "scenario.yaml").read_text(encoding="utf-8"))
    shown = [Message("system", said["instructions"])]
    for row in rows("train")[:8]:
        shown += [Message("user", row["input"]), Message("assistant", row["target"])]
    return [
        ChatRequest((*shown, Message("user", row["input"])), max_tokens=20, choices=tuple(said["labels"]))
        for row in rows("test")[:COMPARED]
    ]


async def test_free_text_is_that_of_the_same_weights_read_here(server: tuple[str, str], chat: OpenAIChat) -> None:
    ours = LocalChat.open("local/smollm2-135m")
    found = await asked(ours, FREE)
    await ours.aclose()
    theirs = await asked(chat, FREE)
    await chat.aclose()
    equal = sum(mine == other for mine, other in zip(found, theirs, strict=True))
    tell(f"{server[0]}: {equal} of {len(QUESTIONS)} free texts are those of our own backend")
    assert equal >= len(QUESTIONS) // 2


async def asked(chat: ChatModel, requests: Sequence[ChatRequest]) -> list[str]:
    return [(await chat.complete(request)).text.strip() for request in requests]


async def test_json_is_valid_under_its_schema(server: tuple[str, str], chat: OpenAIChat) -> None:
    valid = 0
    for question in QUESTIONS:
        found = await chat.complete(ChatRequest((Message("user", question),), max_tokens=120, json_schema=SCHEMA))
        answer = json.loads(found.text)
        valid += set(answer) == {"city", "count"} and isinstance(answer["count"], int)
    tell(f"{server[0]}: {valid} of {len(QUESTIONS)} answers are valid under the schema")
    assert valid == len(QUESTIONS)
    await chat.aclose()
