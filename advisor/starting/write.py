"""Writes a scenario's folder: data, `scenario.yaml` with a comment for every guess, and one page about both."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from advisor.scenario.schema import DEFAULT_MODEL
from advisor.starting.answers import Answers
from advisor.starting.draft import Draft, Example, Guess, Measure
from advisor.starting.splitting import Parts

_WIDTH = 116
_MARGINS = ((1500, 0.03), (400, 0.05), (0, 0.1))
"""From so many test rows on, the margin that they come near to telling apart."""


@dataclass(frozen=True)
class Plan:
    """Everything that goes into the folder."""

    name: str
    source: str
    """The source, as the user named it."""
    draft: Draft
    parts: Parts
    answers: Answers
    measure: Measure
    instructions: str
    target: float
    guesses: tuple[Guess, ...]
    lost: tuple[str, ...]

    def guess(self, what: str) -> Guess | None:
        """The guess about one part, None where there was nothing to guess."""
        return next((guess for guess in self.guesses if guess.what == what), None)


class _Block(str):
    """A text that is written as a block of lines."""


class _Dumper(yaml.SafeDumper):
    """Plain YAML, with blocks for long texts."""


# What our loader reads as a number by YAML 1.2, and PyYAML, which writes YAML 1.1, takes for a word: `1e3`.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+\Z"), list("-+.0123456789")
)
_Dumper.add_representer(_Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|"))


def write_folder(folder: Path, plan: Plan, called: str) -> None:
    """Write all files into an existing folder; `called` is the name that it will have."""
    for split, examples in plan.parts.items():
        _write(folder / f"{split}.jsonl", "".join(_line(example) for example in examples))
    if plan.answers.schema is not None:
        _write(folder / "schema.json", json.dumps(plan.answers.schema, indent=2, ensure_ascii=False) + "\n")
    if plan.measure.code is not None:
        _write(folder / "scorers.py", plan.measure.code)
    if plan.draft.tools:
        _write(folder / "tools.jsonl", "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in plan.draft.tools))
    _write(folder / "scenario.yaml", scenario_text(plan))
    _write(folder / "README.md", page(plan, called))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _line(example: Example) -> str:
    row = {"id": example.id, "input": example.input, "target": example.target}
    if example.group is not None:
        row["group"] = example.group
    return json.dumps(row | dict(example.fields), ensure_ascii=False) + "\n"


# -- scenario.yaml ----------------------------------------------------------------------------------------------------


def scenario_text(plan: Plan) -> str:
    """`scenario.yaml`, each key under a comment that says what was guessed and what to check."""
    head = _comment(
        f"Made by `advisor init` from {plan.draft.kind}, {plan.source}. What follows was guessed; every guess says "
        "why, and what to check. `advisor check` lists what is wrong, and spends nothing."
    )
    return "\n".join((head, *(_section(comment, content) for comment, content in _sections(plan))))


def _section(comment: str, content: Mapping[str, Any] | str) -> str:
    text = content if isinstance(content, str) else _yaml(content)
    return (_comment(comment) if comment else "") + text


def _yaml(content: Mapping[str, Any]) -> str:
    """One key; short mappings on a line, long texts as blocks."""
    ((key, value),) = content.items()
    if isinstance(value, str) and (len(value) > 80 or "\n" in value):
        return yaml.dump({key: _Block(value.rstrip() + "\n")}, Dumper=_Dumper, allow_unicode=True, width=10_000)
    flow = isinstance(value, Mapping) and all(isinstance(one, str | int | float | list) for one in value.values())
    long = isinstance(value, Mapping) and any(isinstance(one, str) and len(one) > 60 for one in value.values())
    if flow and not long:
        inner = yaml.dump(
            value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
        )
        return f"{key}: {inner.strip()}\n"
    if isinstance(value, Mapping):
        value = {name: _Block(one) if isinstance(one, str) and len(one) > 60 else one for name, one in value.items()}
    return yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def _comment(text: str) -> str:
    lines = [line for part in text.split("\n") for line in textwrap.wrap(" ".join(part.split()), _WIDTH - 2)]
    return "".join(f"# {line}\n" for line in lines)


def _said(plan: Plan, *parts: str) -> str:
    """The guesses about some parts as a comment."""
    found = [guess for part in parts if (guess := plan.guess(part))]
    return "\n".join(f"{guess.what}: {guess.value} ({guess.why}). {guess.check}".strip() for guess in found)


def _sections(plan: Plan) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    yield "", {"name": plan.name}
    yield (
        "What the task is, in one sentence, for the report.",
        {"description": f"TODO: one sentence. From {plan.source}."},
    )
    yield (
        _said(plan, "data", "input", "target", "id", "group", "split", "near duplicates") + _left_out(plan),
        {"data": {split: f"{split}.jsonl" for split, _ in plan.parts.items()}},
    )
    yield _said(plan, "instructions"), {"instructions": plan.instructions}
    yield from _answer_sections(plan)
    yield from _means_sections(plan)
    yield _goal_comment(plan), {"goal": _goal(plan)}
    yield (
        (
            "What production looks like: with it, the report says what each candidate costs a month and when a "
            "fine-tune pays. Uncomment, and write your own figures."
        ),
        "# traffic: {requests_per_month: 50000, months: 12, usd_per_error: 0.05}\n",
    )
    yield "The run stops before it uses more. With hosted models, add `usd: 5`.", {"budget": {"minutes": 60}}
    yield from _tune_section(plan)


def _left_out(plan: Plan) -> str:
    if not plan.lost:
        return ""
    return "\nNot taken over: " + " ".join(plan.lost)


def _answer_sections(plan: Plan) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    if plan.answers.labels:
        yield _said(plan, "labels", "balance"), {"labels": list(plan.answers.labels)}
    if plan.answers.schema is not None:
        yield _said(plan, "output_schema"), {"output_schema": "schema.json"}
    yield _said(plan, "scorer"), {"scorer": plan.measure.scorer}
    if plan.draft.tools:
        yield "The tools that the source declares. Their calls are scored; none is run.", {"tools": "tools.jsonl"}


def _means_sections(plan: Plan) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    hosted = ", ".join((DEFAULT_MODEL, *plan.draft.models))
    named = f" The source names these: models: [{hosted}]" if plan.draft.models else ""
    yield (
        (
            "Every model to consider. This one runs on your machine and costs no fee; add hosted ones as "
            f"PROVIDER/MODEL, each with its key in the environment.{named}"
        ),
        {"models": [DEFAULT_MODEL]},
    )
    if plan.draft.answers_known:
        yield (
            "`auto` tries all techniques that fit the data; or a list, such as [zero_shot, few_shot].",
            {"techniques": "auto"},
        )
        return
    yield (
        (
            "Some rows have no right answer, only checks, so nothing can learn from them: one prompt is asked. Once "
            "every row has a target that passes its checks, write `techniques: auto`, without `chain` and `fine_tune`."
        ),
        {"techniques": ["chain"]},
    )
    yield "", {"chain": [{"name": "answer", "prompt": "{input}", "max_tokens": 512}]}


def _goal(plan: Plan) -> dict[str, Any]:
    tests = len(plan.parts.test)
    wanted = next(margin for fewest, margin in _MARGINS if tests >= fewest)
    margin = min(wanted, round((1 - plan.target) / 2, 4))
    return {"target": plan.target, "margin": margin, "confidence": 0.95, **plan.draft.limits}


def _goal_comment(plan: Plan) -> str:
    return (
        f"{_said(plan, 'goal', 'size')}\nSet this before you see any result: `target` is the mean score to reach; a "
        "candidate `margin` above it is not to be missed."
    )


def _tune_section(plan: Plan) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    if plan.draft.answers_known:
        yield (
            (
                "needed, the default: fine-tune only if nothing cheaper meets the goal. Others: pays, always, never. "
                "The first local model is tuned; without one nothing is, unless `backend` and `base` name another."
            ),
            "# fine_tune: {when: needed}\n",
        )
    else:
        yield "", {"fine_tune": {"when": "never"}}


# -- README.md --------------------------------------------------------------------------------------------------------


def page(plan: Plan, called: str) -> str:
    """One page: where the scenario comes from, what was guessed, what to check, what next."""
    place = shlex.quote(called)
    lines = [
        f"# {plan.name}",
        "",
        f"Made by `advisor init` from {plan.draft.kind}, `{plan.source}`.",
        "",
        "| split | rows | what it is for |",
        "|---|--:|---|",
        f"| train | {len(plan.parts.train)} | techniques learn from it |",
        f"| dev | {len(plan.parts.dev)} | techniques choose their settings on it |",
        f"| test | {len(plan.parts.test)} | the verdict rests on it, and on nothing else |",
        "",
        "## What was guessed, and what to check",
        "",
        "| what | guessed | why | check |",
        "|---|---|---|---|",
        *(f"| {' | '.join(map(_cell, (one.what, one.value, one.why, one.check)))} |" for one in plan.guesses),
        *_lost_lines(plan.lost),
        "",
        "## Next",
        "",
        "From the folder that holds this one:",
        "",
        "```",
        f"advisor check {place}       # everything that is wrong, and what the test rows can tell apart",
        f"advisor compare {place}     # every candidate on all test rows",
        f"advisor run {place}         # cheapest first, until one provably meets the target",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _lost_lines(lost: Sequence[str]) -> list[str]:
    if not lost:
        return []
    return ["", "## What was not taken over", "", *(f"- {' '.join(one.split())}" for one in lost)]
