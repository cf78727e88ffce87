"""The chain of a scenario: what good steps become, and that each bad one is told with its line and its remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advisor.scenario.load import load_scenario
from backends.errors import InputError
from evals.task import ChainStep
from tests import toys

FEEL = {"name": "feel", "prompt": "How does it feel? {input}"}
DECIDE = {"name": "decide", "prompt": "Given {feel}, what is it?"}


def scenario(folder: Path, *chain: dict[str, Any]) -> Path:
    return toys.scenario(folder, "scripted/echo", chain=list(chain))


def told(folder: Path, *chain: dict[str, Any]) -> list[str]:
    with pytest.raises(InputError) as raised:
        load_scenario(scenario(folder, *chain))
    return [str(problem) for problem in raised.value.problems]


def line_of(folder: Path, text: str) -> int:
    """The first line of the scenario file with this text."""
    lines = (folder / "scenario.yaml").read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_steps_arrive_with_everything_they_declare(tmp_path: Path) -> None:
    (tmp_path / "step.json").write_text('{"type": "object"}', encoding="utf-8")
    full = {**FEEL, "model": "scripted/words", "labels": ["hard", 1], "max_tokens": 20}
    structured = {"name": "decide", "prompt": "{{json}} of {feel} and {input}", "output_schema": "step.json"}
    found = load_scenario(scenario(tmp_path, full, structured))
    assert found.task.chain == (
        ChainStep("feel", FEEL["prompt"], "scripted/words", ("hard", "1"), None, 20),
        ChainStep("decide", "{{json}} of {feel} and {input}", json_schema='{"type": "object"}'),
    )
    assert tmp_path / "step.json" in found.files
    assert not any("prompt" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("second", "key", "expected"),
    [
        ({"prompt": "{feeel}"}, "prompt: '{feeel}", "refers to {feeel}, which is no step. Did you mean {feel}?"),
        ({"prompt": "{Input}"}, "prompt: '{Input}", "refers to {Input}, which is no step. Did you mean {input}?"),
        ({"prompt": "{xyz}"}, "prompt: '{xyz}", "which is no step. It may refer to {input}, {feel}."),
        ({"prompt": "{decide}"}, "prompt: '{decide}", "refers to {decide}, which is the step itself. It may refer to"),
        (
            {"prompt": "{last}"},
            "prompt: '{last}",
            "refers to {last}, which comes later. It may refer to {input}, {feel}.",
        ),
        ({"prompt": "{feel.__class__}"}, "__class__", "has {feel.__class__}, which is no plain name in braces. Write"),
        ({"prompt": "{feel[0]}"}, "feel[0]", "has {feel[0]}, which is no plain name"),
        ({"prompt": "{feel!r}"}, "feel!r", "has {feel!r}, which is no plain name"),
        ({"prompt": "{feel:>9}"}, "feel:>9", "has {feel:>9}, which is no plain name"),
        ({"prompt": "{}"}, "prompt: '{}", "has {}, which is no plain name"),
        ({"prompt": "feel} it"}, "feel} it", "has a brace without its partner. Write {input} or {NAME}"),
        (
            {"name": "my step"},
            "my step",
            "the step name 'my step' cannot be written as a field of a prompt. Use letters",
        ),
        ({"name": "input"}, "name: input", "a step is called 'input', which is the sample's own text."),
        ({"name": "retrieve"}, "name: retrieve", "a step is called 'retrieve', which is what looking documents up is"),
        ({"name": "feel"}, "", "two steps of the chain are called 'feel'. Rename one of the two."),
        ({"model": "scriptd/echo"}, "scriptd/echo", "Did you mean scripted/echo?"),
        ({"labels": ["a", "A"]}, "- A", "labels 'a' and 'A' differ only in case"),
        ({"labels": ["a"]}, "  labels:", "chain[2].labels is ['a'], but must be at least 2 long."),
        ({"max_tokens": 0}, "max_tokens", "chain[2].max_tokens is 0, but must be above 0."),
        ({"output_schema": "none.json"}, "output_schema", "none.json does not exist. Check the name"),
        ({"output_schema": "bad.json"}, "", "bad.json:1: broken JSON"),
        ({"output_schema": "good.json", "labels": ["a", "b"]}, "output_schema", "has both labels and output_schema."),
        ({"promt": "x"}, "promt", "there is no key 'chain[2].promt'. Did you mean 'prompt'?"),
    ],
)
def test_a_bad_step_is_told_with_its_line_and_what_to_do(
    tmp_path: Path, second: dict[str, Any], key: str, expected: str
) -> None:
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    (tmp_path / "good.json").write_text("{}", encoding="utf-8")
    last = {"name": "last", "prompt": "{input}"}
    (problem,) = told(tmp_path, FEEL, {**DECIDE, **second}, last)
    assert expected in problem
    if key:
        assert problem.startswith(f"scenario.yaml:{line_of(tmp_path, key)}: ")


def test_all_problems_of_a_chain_are_told_at_once(tmp_path: Path) -> None:
    assert len(told(tmp_path, {"name": "a", "prompt": "{b} {c}"}, {"name": "b", "prompt": "{"})) == 3


def test_a_prompt_that_refers_to_nothing_is_followed_by_what_is_known(tmp_path: Path) -> None:
    found = load_scenario(
        scenario(tmp_path, {"name": "a", "prompt": "Extract {{}}.\n"}, {"name": "b", "prompt": "Decide."})
    )
    assert [step.prompt for step in found.task.chain] == ["Extract {{}}.\n\n{input}", "Decide.\n\n{input}\n\n{a}"]
    line = line_of(tmp_path, "Decide.")
    assert found.warnings[-1] == (
        f"scenario.yaml:{line}: the prompt of step 'b' refers to nothing, so that {{input}} and {{a}} will be put after"
        " it."
    )


def test_a_chain_in_one_line_has_the_line_of_that(tmp_path: Path) -> None:
    path = scenario(tmp_path)
    text = path.read_text("utf-8").replace("chain: []\n", "")
    steps = json.dumps([{"name": "a", "prompt": "{nope}"}])
    path.write_text(f"{text}chain: {steps}\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"scenario.yaml:{len(text.splitlines()) + 1}: .*\{{nope\}}"):
        load_scenario(path)
