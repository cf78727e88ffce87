"""An estimate, and how it reads as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from advisor.estimating.pricing import Amount, span_json
from advisor.span import ONCE, Span
from evals.store import RunKind

ASSUMPTIONS = (
    "Before candidates have answered, their scores are taken to lie around the target; probes narrow that.",
    "Where settings are chosen on dev, each is as likely to win; the range covers them all.",
    "Answers are as long as the train targets: exact for labels, 0.7 to 3 times for free text.",
    "Nothing is taken from the answers that this workspace remembers already.",
    "Endpoints that were not asked yet: 0.6 s to begin, 80 tokens a second, 16 requests at once.",
)


@dataclass(frozen=True, slots=True)
class Tested:
    """Answering dev and test samples, and looking into failures."""

    samples: Span
    """Test samples."""
    dev: Amount
    test: Amount
    diagnosis: Amount
    aftermath: Amount = field(default_factory=Amount)
    """Of a training: further dev samples whose mistakes are grouped, and the answers of a former tuned model."""

    @property
    def amount(self) -> Amount:
        """All of it."""
        return Amount.total(self.dev, self.test, self.diagnosis, self.aftermath)

    def as_json(self) -> dict[str, Any]:
        """The parts and their sum."""
        parts = {"dev": self.dev, "test": self.test, "diagnosis": self.diagnosis, "aftermath": self.aftermath}
        return {
            "test_samples": span_json(self.samples),
            **self.amount.as_json(),
            "parts": {name: span_json(part.usd) for name, part in parts.items()},
        }


@dataclass(frozen=True, slots=True)
class CandidateEstimate:
    """One candidate."""

    id: str
    technique: str
    model: str
    tuned: bool
    serving: Amount
    """One request in production."""
    fitting: Amount
    run: Tested
    """Under the early stopping of `run`."""
    compare: Tested
    """On all samples."""
    likely: Span = ONCE
    """Whether a run gets to it at all: 1 but for candidates that are trained only when others fall short."""

    @property
    def usd_per_1k_requests(self) -> Span | None:
        """Dollars of serving."""
        return None if self.serving.usd is None else self.serving.usd * 1000

    def of(self, kind: RunKind) -> Amount:
        """What it takes in a command of this kind: fitting and evaluation."""
        if kind == "run":
            return (self.fitting + self.run.amount) * self.likely
        return self.fitting + self.compare.amount

    def as_json(self) -> dict[str, Any]:
        """The candidate's part of the command's JSON."""
        return {
            "id": self.id,
            "technique": self.technique,
            "model": self.model,
            "tuned": self.tuned,
            "usd_per_1k_requests": span_json(self.usd_per_1k_requests),
            "tokens_per_request": {
                "input": span_json(self.serving.input_tokens),
                "cached": span_json(self.serving.cached_tokens),
                "output": span_json(self.serving.output_tokens),
            },
            "fitting": self.fitting.as_json(),
            "probability": span_json(self.likely),
            "run": self.run.as_json(),
            "compare": self.compare.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """All candidates, and the sums for each command."""

    scenario: str
    seed: int
    samples: int
    """Test samples there are."""
    budget_usd: float | None
    candidates: tuple[CandidateEstimate, ...]
    """In the order in which the ladder is expected to climb, those that train last."""
    shared: Amount
    """What belongs to no candidate: a judge held against people."""
    compare_tunes: bool
    notes: tuple[str, ...]
    probes: int = 0
    """Paid probes a candidate that it rests on."""
    probed_usd: float | None = 0.0
    """What these cost."""

    def of(self, kind: RunKind) -> Amount:
        """What a command of this kind takes in all. The high end of `run`: every candidate to the last sample."""
        asked = [one for one in self.candidates if kind != "compare" or not one.tuned or self.compare_tunes]
        return Amount.total(self.shared, *(one.of(kind) for one in asked))

    def exceeds_budget(self, kind: RunKind) -> bool:
        """Whether even the low end is dearer than the budget allows."""
        billed = self.of(kind).billed_usd
        return self.budget_usd is not None and billed is not None and billed.low > self.budget_usd

    def as_json(self) -> dict[str, Any]:
        """What `advisor estimate --json` writes."""
        return {
            "schema_version": 1,
            "scenario": self.scenario,
            "seed": self.seed,
            "n_test": self.samples,
            "budget_usd": self.budget_usd,
            "over_budget": self.exceeds_budget("run"),
            "probes": self.probes,
            "probed_usd": self.probed_usd,
            "candidates": [one.as_json() for one in self.candidates],
            "run": self.of("run").as_json(),
            "compare": self.of("compare").as_json(),
            "assumptions": list(ASSUMPTIONS),
            "notes": list(self.notes),
        }

    def for_report(self, kind: RunKind) -> Mapping[str, Any]:
        """The `estimate` of a report: dollars in all, and what a request of each candidate was expected to cost."""
        usd = self.of(kind).usd
        return {
            **_ends(usd),
            "candidates": [
                {"id": one.id, **_ends(one.of(kind).usd), "usd_per_1k_requests": span_json(one.usd_per_1k_requests)}
                for one in self.candidates
            ],
        }


def _ends(usd: Span | None) -> dict[str, float | None]:
    if usd is None:
        return {"usd_low": None, "usd": None, "usd_high": None}
    return {"usd_low": usd.low, "usd": usd.expected, "usd_high": usd.high}
