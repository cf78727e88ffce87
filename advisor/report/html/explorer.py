"""The data of the sample explorer: every trial and its prompts in columns, each text and each shared prompt once."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from advisor.report.html.evidence import Conversation, Evidence
from advisor.report.html.markup import Markup
from advisor.report.html.names import named
from evals.trial import Trial

BUDGET = 6_000_000
"""Characters of JSON; prompts of the least interesting trials are left out beyond it."""
_MOST_TRIALS = 20_000
_LONGEST = (20_000, 2_000, 200)
"""Characters of one text: the first of these with which everything but prompts fits."""
_PARAGRAPHS = 400
"""Characters from which on a text is kept by paragraphs, which prompts with passages or examples share."""


@dataclass(frozen=True)
class Exploration:
    """What the explorer shows, and what it cannot."""

    data: Mapping[str, Any]
    n: int
    """Trials listed."""
    unlisted: int
    """Trials left out for their number."""
    without_prompts: int
    """Trials listed whose prompts were left out to keep the file small."""


def explore(report: Mapping[str, Any], evidence: Evidence, budget: int = BUDGET) -> Exploration:
    """Everything the page needs to show a trial, within the budget as far as it goes."""
    ranked = sorted(evidence.trials, key=lambda trial: _interest(trial, evidence))[:_MOST_TRIALS]
    for longest in _LONGEST:
        columns = _Columns(report, evidence, longest)
        for trial in ranked:
            columns.add(trial)
        if columns.size <= budget:
            break
    left_out = sum(not columns.add_prompts(at, trial, budget) for at, trial in enumerate(ranked))
    return Exploration(columns.as_json(), len(ranked), len(evidence.trials) - len(ranked), left_out)


def script_json(data: Mapping[str, Any]) -> Markup:
    """JSON that cannot end or leave the script element it stands in (html.spec.whatwg.org, 4.12.1.3)."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _interest(trial: Trial, evidence: Evidence) -> tuple[bool, bool, bool]:
    """Sorts first what people look for: trials that count, and of these the ones that went wrong."""
    return (trial.split != "test" or bool(trial.variant), evidence.right(trial), trial.error is not None)


@dataclass
class _Once:
    """Values by number, each kept once."""

    values: list[Any] = field(default_factory=list)
    numbers: dict[Hashable, int] = field(default_factory=dict)
    size: int = 0
    """Characters of their JSON, about."""

    def number(self, value: Any, length: int) -> int:
        if value not in self.numbers:
            self.numbers[value] = len(self.values)
            self.values.append(value)
            self.size += length
        return self.numbers[value]


_COLUMNS = (
    *("candidate", "sample", "kind", "cause", "output", "score", "reason", "error"),
    *("input", "cached", "written", "usd", "seconds", "steps", "requests"),
)
_ROW = 70
"""Characters of one trial's figures, about."""


class _Columns:
    """The tables under construction."""

    def __init__(self, report: Mapping[str, Any], evidence: Evidence, longest: int) -> None:
        self._evidence = evidence
        self._longest = longest
        self._candidates = named(report)
        self._place = {one.id: at for at, one in enumerate(self._candidates)}
        self._causes = _causes(report)
        self._texts, self._names, self._turns, self._asked = _Once(), _Once(), _Once(), _Once()
        self._samples = _Once()
        self._sample_rows: list[list[Any]] = []
        self._request_rows: list[list[Any]] = []
        self._trials: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._figures = 0

    @property
    def size(self) -> int:
        """Characters of the JSON, about."""
        tables = (self._texts, self._names, self._turns, self._asked, self._samples)
        return sum(table.size for table in tables) + self._figures

    def add(self, trial: Trial) -> None:
        """Take up a trial without its prompts."""
        usage, score = trial.usage, trial.score
        cause = self._causes.get((trial.candidate, trial.sample_id)) if not trial.variant else None
        row = (
            self._place.get(trial.candidate),
            self._sample(trial),
            self._name(trial.variant or trial.split),
            None if cause is None else self._name(cause),
            self._text(trial.output),
            None if score is None else _rounded(score.value),
            None if score is None else self._text(score.reason),
            self._text(trial.error),
            usage.input_tokens,
            usage.cached_tokens,
            usage.output_tokens,
            _rounded(usage.cost_usd),
            _rounded(trial.seconds),
            [self._step(step) for step in trial.steps] or None,
            None,
        )
        for column, value in zip(self._trials.values(), row, strict=True):
            column.append(value)
        self._figures += _ROW + 40 * len(trial.steps)

    def add_prompts(self, at: int, trial: Trial, budget: int) -> bool:
        """Add what a trial asked, unless the budget is used up; says whether there was room."""
        if not trial.response_keys:
            return True
        if self.size >= budget:
            return False
        found = [number for key in trial.response_keys if (number := self._request(key)) is not None]
        self._trials["requests"][at] = found
        self._figures += 8 * len(found)
        return True

    def as_json(self) -> dict[str, Any]:
        """All tables."""
        return {
            "candidates": [{"id": one.id, "label": one.label, "picked": one.picked} for one in self._candidates],
            "right_from": self._evidence.right_from,
            "texts": self._texts.values,
            "names": self._names.values,
            "samples": [list(column) for column in zip(*self._sample_rows, strict=True)] or [[], [], []],
            "turns": self._turns.values,
            "requests": self._request_rows,
            "trials": self._trials,
        }

    def _sample(self, trial: Trial) -> int:
        known = len(self._samples.values)
        number = self._samples.number((trial.split, trial.sample_id), len(trial.sample_id) + 20)
        if number == known:
            sample = self._evidence.samples.get((trial.split, trial.sample_id))
            row = [trial.sample_id, sample and self._text(sample.input), sample and self._text(sample.target)]
            self._sample_rows.append(row)
        return number

    def _step(self, step: Any) -> list[Any]:
        used = step.usage
        figures = [used.input_tokens, used.output_tokens, _rounded(used.cost_usd), _rounded(step.seconds)]
        return [self._name(step.name), self._text(step.output), *figures]

    def _request(self, key: str) -> int | None:
        if key in self._asked.numbers:
            return self._asked.numbers[key]
        found = self._evidence.conversation(key)
        if found is None:
            return None
        number = self._asked.number(key, 30)
        self._request_rows.append(self._conversation(found))
        return number

    def _conversation(self, found: Conversation) -> list[Any]:
        """The last turn, the settings and the answer; turns know the turn before them, so that prompts share theirs."""
        turn: int | None = None
        for message in found.messages:
            role, content, *tools = message
            called = self._text(json.dumps(tools[0], ensure_ascii=False)) if tools and tools[0] else None
            turn = self._turns.number((turn, self._name(role), _frozen(self._text(content)), called), 22)
        calls = "\n".join(f"{call.name}({call.arguments})" for call in found.answer.tool_calls)
        settings = self._text(json.dumps(found.settings, ensure_ascii=False, indent=1))
        return [turn, settings, self._text(found.answer.text), self._text(calls) if calls else None]

    def _text(self, text: str | None) -> int | list[int] | None:
        """Number of a text; of its paragraphs where it is long."""
        if text is None:
            return None
        if len(text) > self._longest:
            text = f"{text[: self._longest]}… ({len(text) - self._longest:,} more characters)"
        if len(text) < _PARAGRAPHS or "\n\n" not in text:
            return self._texts.number(text, len(text) + 4)
        return [self._texts.number(part, len(part) + 4) for part in text.split("\n\n")]

    def _name(self, text: str) -> int:
        return self._names.number(text, len(text) + 4)


def _frozen(text: int | list[int] | None) -> int | tuple[int, ...] | None:
    return tuple(text) if isinstance(text, list) else text


def _causes(report: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """(candidate, sample) -> cause, for the failures that the report names."""
    return {
        (candidate["id"], sample): cause["cause"].replace("_", " ")
        for candidate in report["candidates"]
        for cause in candidate["diagnosis"]
        for sample in _sample_ids(cause)
    }


def _sample_ids(cause: Mapping[str, Any]) -> Iterable[str]:
    named_ones: Sequence[str] = cause.get("sample_ids") or [one["sample_id"] for one in cause.get("examples", ())]
    return named_ones


def _rounded(value: float | None) -> float | None:
    """Four significant digits: more would be noise, and cost room."""
    return None if value is None else float(f"{value:.4g}")
