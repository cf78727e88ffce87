"""What the report says of a teacher: how much it taught, how sure it was, and how its student stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from advisor.advice.phrases import dollars, percent
from advisor.measure import Serving
from advisor.outcome import Outcome
from backends.wording import counted


def teaching(outcome: Outcome, candidate: str | None) -> dict[str, Any] | None:
    """What a candidate was taught, for the report object; None where it had no teacher."""
    found = outcome.teachings.get(candidate or "")
    if found is None or candidate is None:
        return None
    teacher, student = outcome.row(found.teacher), outcome.row(candidate)
    return found.as_json() | {
        "teacher_status": teacher.status,
        "teacher_dev_score": teacher.dev.score,
        "tokens_share": _share(_tokens(student.measured), _tokens(teacher.measured)),
        "usd_share": _share(student.measured.usd_per_1k_requests, teacher.measured.usd_per_1k_requests),
    }


def _tokens(measured: Serving) -> float | None:
    if measured.input_tokens is None or measured.output_tokens is None:
        return None
    return measured.input_tokens + measured.output_tokens


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def told(found: Mapping[str, Any] | None) -> list[str]:
    """The same in sentences."""
    return [] if found is None else [sentence for sentence in _sentences(found) if sentence]


def learnt_from(scenario: Mapping[str, Any], found: Mapping[str, Any] | None) -> int:
    """Train samples of a tuned candidate, gold and taught."""
    return int(scenario["n_train"] if found is None else found["n_gold"] + found["n_taught"])


def _sentences(found: Mapping[str, Any]) -> Iterator[str]:
    fates = ", ".join(f"{count} {_FATES.get(why, why)}" for why, count in found["dropped"].items())
    dropped = f" ({found['n_dropped']} were not: {fates})" if fates else ""
    yield (
        f"Taught by {found['teacher']}: of its answers to {counted(found['n_asked'], 'unlabelled input')} "
        f"{found['n_taught']} were learnt from{dropped}, beside {counted(found['n_gold'], 'gold sample')}; dev and "
        f"test are gold. The answers took {dollars(found['usd'])}."
    )
    if found["agreement"] is not None:
        yield (
            f"Asked a second time about {counted(found['asked_again'], 'input')}, the teacher agreed with itself on "
            f"{percent(found['agreement'])}."
        )
    if found["ended"] is not None:
        yield f"The cap fine_tune.teacher.{found['ended']} ended the asking."
    if found["rare_labels"]:
        rare = ", ".join(f"{label} {count}" for label, count in found["rare_labels"].items())
        yield f"Labels with hardly a train sample: {rare}."
    yield _beside(found)


def _beside(found: Mapping[str, Any]) -> str:
    student = found["student"]
    if student is None:
        return ""
    tokens = "" if found["tokens_share"] is None else f", at {percent(found['tokens_share'])} of its tokens"
    return (
        f"The student scores {student['difference']:+.3f} against its teacher ({student['low']:+.3f} to "
        f"{student['high']:+.3f}) on {counted(student['n'], 'test sample')}{tokens}."
    )


_FATES = {
    "train": "also in train",
    "dev": "also in dev",
    "test": "also in test",
    "failed": "without an answer",
    "unusable": "no answer that could be right",
    "disagreed": "answered differently when asked again",
}
