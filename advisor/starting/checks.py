"""From what each row of a source demands of an answer to one scorer: one that ships, or a `scorers.py` of checks."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from advisor.scenario.schema import DEFAULT_MODEL
from advisor.starting.draft import Guess, Measure
from advisor.starting.holding import FUNCTIONS, MODULES
from backends import registry as backends
from backends.wording import counted

SIMILAR, JUDGED = "similar", "judged"
"""Kinds that ask models: nearness of meaning, and a judge with a rubric."""
UNKNOWN = "(The source has no right answer for this input; an answer is only checked: {checks})"
_DEFAULT_COSINE = 0.75
_PER_ROW = (
    "The reference is no answer but a criterion that the answer must meet. Pass the answer when it meets the "
    "criterion; fail it when it does not."
)


@dataclass(frozen=True, slots=True)
class Check:
    """One demand on one answer."""

    kind: str
    """A name in `holding.FUNCTIONS`, or SIMILAR or JUDGED."""
    value: Any
    """What is looked for; for a judge its rubric, for similarities a mapping with `text` and a threshold."""
    negated: bool = False
    model: str | None = None
    """The judge that the source names."""

    def holds(self, output: str) -> bool:
        """Whether an answer passes; kinds that ask models are taken to pass."""
        return self.kind not in FUNCTIONS or FUNCTIONS[self.kind](output, self.value) is not self.negated

    def as_field(self) -> dict[str, Any]:
        """The check as the data say it."""
        return {"check": self.kind, "value": self.value} | ({"not": True} if self.negated else {})


@dataclass(frozen=True)
class Combined:
    """One scorer for all rows, and what each row needs for it."""

    measure: Measure
    targets: tuple[str, ...]
    fields: tuple[Mapping[str, Any], ...]
    known: bool
    """Whether every target is a right answer."""
    kept: tuple[int, ...]
    """Positions of the rows that can be scored."""
    guesses: tuple[Guess, ...] = ()
    lost: tuple[str, ...] = field(default_factory=tuple)


def is_unknown(target: str) -> bool:
    """Whether a target only describes what is checked."""
    return target.startswith(UNKNOWN.partition("{")[0])


def combine(rows: Sequence[Sequence[Check]]) -> Combined | None:
    """Choose the scorer that says what most rows demand; None when no row demands anything that can be checked.

    Checks of code and of models do not mix in one scorer; the kind that covers more rows wins, and the others are told.
    """
    coded = [[check for check in row if check.kind in FUNCTIONS] for row in rows]
    asked = [[check for check in row if check.kind not in FUNCTIONS] for row in rows]
    with_code = sum(map(bool, coded))
    if not any(rows):
        return None
    if with_code and 2 * with_code >= sum(map(bool, rows)):
        return _by_code(coded, _told_left_out(asked, "a model would have to be asked"))
    commonest = Counter(check.kind for row in asked for check in row).most_common(1)[0][0]
    chosen = [[check for check in row if check.kind == commonest][:1] for row in asked]
    others = [[check for check in row if check not in kept] for row, kept in zip(rows, chosen, strict=True)]
    lost = _told_left_out(others, "one scorer that asks models does not mix with other checks")
    return _similar(chosen, lost) if commonest == SIMILAR else _judged(chosen, lost)


def _told_left_out(rows: Sequence[Sequence[Check]], why: str) -> tuple[str, ...]:
    counts = Counter(check.kind for row in rows for check in row)
    return tuple(f"{counted(number, 'check')} of kind {kind}: {why}." for kind, number in sorted(counts.items()))


def _kept(rows: Sequence[Sequence[Check]]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Positions of rows with checks, and a sentence about the others."""
    kept = tuple(position for position, row in enumerate(rows) if row)
    left = len(rows) - len(kept)
    return kept, (f"{counted(left, 'row')} that no check taken over says anything about.",) if left else ()


# -- checks of code ---------------------------------------------------------------------------------------------------


def _by_code(rows: Sequence[Sequence[Check]], lost: tuple[str, ...]) -> Combined:
    kept, more = _kept(rows)
    chosen = [_without_implied(rows[position]) for position in kept]
    answers = [_answer(row) for row in chosen]
    plain = _shipped(chosen)
    known = None not in answers
    guesses: tuple[Guess, ...]
    if plain is not None and (known or chosen[0][0].kind == "regex"):
        measure, targets = plain, tuple(str(_first(row[0].value)) for row in chosen)
        fields: tuple[Mapping[str, Any], ...] = tuple(_references(row[0]) for row in chosen)
        guesses = (_guess_scorer(measure, chosen[0][0].kind),)
    else:
        targets = tuple(
            UNKNOWN.format(checks=_summary(row)) if one is None else one
            for one, row in zip(answers, chosen, strict=True)
        )
        measure = Measure("scorers.py:all_hold", code(chosen))
        fields = tuple({"checks": [check.as_field() for check in row]} for row in chosen)
        guesses = (_guess_own(chosen),)
    return Combined(measure, targets, fields, known, kept, guesses, (*lost, *more))


def _without_implied(row: Sequence[Check]) -> Sequence[Check]:
    """An answer that equals one text passes every other check that the text itself passes."""
    for check in row:
        if check.kind == "equals" and isinstance(check.value, str) and not check.negated:
            return [check] if all(one.holds(check.value) for one in row) else row
    return row


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value.get("text", "") if isinstance(value, Mapping) else value


def _references(check: Check) -> Mapping[str, Any]:
    return {"references": [str(one) for one in check.value]} if isinstance(check.value, list) else {}


def _shipped(rows: Sequence[Sequence[Check]]) -> Measure | None:
    """The scorer that ships with us and says the same, where every row has one and the same kind of check."""
    kinds = {(check.kind, check.negated, _threshold(check), type(check.value)) for row in rows for check in row}
    if len(kinds) != 1 or any(len(row) != 1 for row in rows):
        return None
    ((kind, negated, threshold, value_type),) = kinds
    if negated or (kind == "equals" and value_type is not str):
        return None
    options: dict[str, dict[str, Any]] = {
        "equals": {"name": "exact", "case_sensitive": True},
        "contains": {"name": "includes", "case_sensitive": True, "whole_words": False},
        "icontains": {"name": "includes", "whole_words": False},
        "contains_any": {"name": "includes", "case_sensitive": True, "whole_words": False, "references": "references"},
        "icontains_any": {"name": "includes", "whole_words": False, "references": "references"},
        "regex": {"name": "regex", "pattern": "target", "search": True},
        "rouge_l": {"name": "rouge_l", "at_least": threshold},
        "bleu": {"name": "bleu", "at_least": threshold},
        "chrf": {"name": "chrf", "at_least": threshold},
    }
    return Measure(options[kind]) if kind in options else None


def _threshold(check: Check) -> float | None:
    return check.value.get("at_least") if isinstance(check.value, Mapping) else None


def _answer(row: Sequence[Check]) -> str | None:
    """A right answer: what the checks look for, where that itself passes all of them."""
    for check in row:
        if not check.negated:
            for candidate in _candidates(check):
                if candidate.strip() and all(one.holds(candidate) for one in row):
                    return candidate
    return None


def _candidates(check: Check) -> Iterator[str]:
    if check.kind in ("is_json", "contains_json", "regex"):
        return
    if isinstance(check.value, Mapping) and "text" in check.value:
        yield str(check.value["text"])
    elif check.kind == "equals" and not isinstance(check.value, str):
        yield json.dumps(check.value, ensure_ascii=False)
    elif isinstance(check.value, list):
        yield ", ".join(map(str, check.value)) if check.kind.endswith("all") else str(check.value[0])
    else:
        yield str(check.value)


def _summary(row: Sequence[Check]) -> str:
    told = (
        f"{'not ' if check.negated else ''}{check.kind} {json.dumps(check.value, ensure_ascii=False)}" for check in row
    )
    return "; ".join(told)


def _guess_scorer(measure: Measure, kind: str) -> Guess:
    name = measure.scorer["name"] if isinstance(measure.scorer, Mapping) else measure.scorer
    details = {
        "exact": "Ours also forgives quotes around an answer, a full stop at its end and extra spaces.",
        "regex": "The patterns are read by Python's `re`, and are no right answers that a model could learn from.",
    }
    check = details.get(str(name), "Thresholds of other tools are not the same; look at a few answers near it.")
    if name == "includes":
        check = "A long answer that says everything passes, too. Is that what you want?"
    return Guess("scorer", str(name), f"every row has one check, `{kind.replace('_', '-')}`", check)


def _guess_own(rows: Sequence[Sequence[Check]]) -> Guess:
    kinds = Counter(check.kind for row in rows for check in row)
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    why = f"the rows have checks of several kinds ({told}); an answer is right when all checks of its row hold"
    check = "Read scorers.py: it is short, it is yours, and it runs on your machine."
    return Guess("scorer", "scorers.py:all_hold", why, check)


def code(rows: Sequence[Sequence[Check]]) -> str:
    """The `scorers.py` of these checks: the functions they need, and the one that asks them all."""
    kinds = sorted({check.kind for row in rows for check in row}, key=list(FUNCTIONS).index)
    bodies = "\n\n".join(inspect.getsource(FUNCTIONS[kind]) for kind in kinds)
    text = _ALL_HOLD.format(bodies=bodies, names="".join(f'    "{kind}": {kind},\n' for kind in kinds))
    local = {"jsonschema"}
    needed = {line for name, line in MODULES.items() if name not in local and re.search(rf"\b{name}\b", text)}
    needed |= {"from typing import Any", "from evals.task import Sample"}
    standard = sorted((line for line in needed if "evals" not in line), key=lambda line: (line[0] == "f", line))
    ours = sorted(line for line in needed if "evals" in line)
    return _HEAD + "\n".join(standard) + "\n\n" + "\n".join(ours) + "\n\n\n" + text


_HEAD = '''"""Scores an answer by the checks of its row: 1 when all of them hold, else 0.

Written by `advisor init`; it is yours to edit.

Each row of the data lists its checks in the field `checks`: {"check": name, "value": what to look for, "not": true
where it must not hold}.
"""

from __future__ import annotations

'''

_ALL_HOLD = '''{bodies}

CHECKS = {{
{names}}}


def all_hold(output: str, sample: Sample) -> bool:
    """Whether every check of the row holds."""
    for check in sample.metadata["checks"]:
        if CHECKS[check["check"]](output, check["value"]) is bool(check.get("not")):
            return False
    return True
'''


# -- checks that ask models -------------------------------------------------------------------------------------------


def _similar(rows: Sequence[Sequence[Check]], lost: tuple[str, ...]) -> Combined:
    kept, more = _kept(rows)
    checks = [rows[position][0] for position in kept]
    thresholds = Counter(_threshold(check) or _DEFAULT_COSINE for check in checks)
    at_least = thresholds.most_common(1)[0][0]
    why = "the source compares meanings by embeddings"
    check = (
        "Our embedder is another model than the source's, so its threshold means something else: judge some answers."
    )
    guess = Guess("scorer", f"semantic_similarity, at least {at_least:g}", why, check)
    if len(thresholds) > 1:
        more = (*more, f"{len(thresholds) - 1} other thresholds of similarity: one counts for all rows.")
    texts = [value if isinstance(value := one.value["text"], list) else [value] for one in checks]
    fields = tuple({"references": list(map(str, text))} for text in texts)
    measure = Measure({"name": "semantic_similarity", "at_least": at_least, "references": "references"})
    return Combined(measure, tuple(str(text[0]) for text in texts), fields, True, kept, (guess,), (*lost, *more))


def _judged(rows: Sequence[Sequence[Check]], lost: tuple[str, ...]) -> Combined:
    kept, more = _kept(rows)
    checks = [rows[position][0] for position in kept]
    rubrics = {str(check.value) for check in checks}
    model, guess = _judge(checks)
    same = len(rubrics) == 1
    options = {"name": "judge", "model": model, "rubric": rubrics.pop() if same else _PER_ROW}
    targets = tuple(UNKNOWN.format(checks="by a judge") if same else str(check.value) for check in checks)
    measure = Measure(options | ({"reference": False} if same else {}))
    return Combined(measure, targets, tuple({} for _ in checks), False, kept, (guess,), (*lost, *more))


def _judge(checks: Sequence[Check]) -> tuple[str, Guess]:
    """The judge that the source names, where it can be used here; else a stand-in."""
    named = next((check.model for check in checks if check.model), None)
    if named is not None and backends.problem(named) is None:
        why = "the source's own judge"
        return named, Guess(
            "scorer", f"judge {named}", why, "Guarantees are about the judge: score some answers yourself."
        )
    why = "a stand-in that needs no key; it is too small to judge well"
    wanted = f"The source names {named}: put it here once its key is set." if named else "Name a strong model here."
    return DEFAULT_MODEL, Guess("scorer", f"judge {DEFAULT_MODEL}", why, wanted)
