"""A scenario as the rest of the product sees it: checked, with its data in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from advisor.goal import Goal
from evals.scorers.base import AnyScorer
from evals.task import Sample, Task

Volatility = Literal["static", "monthly", "weekly", "daily", "realtime"]
When = Literal["needed", "pays", "always", "never"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What production looks like."""

    requests_per_month: float | None = None
    months: float = 12.0
    usd_per_error: float | None = None


@dataclass(frozen=True, slots=True)
class Economics:
    """What the money figures assume, beyond what was measured. Dollars throughout."""

    usd_per_label: float = 0.0
    evaluation_share: float = 1.0
    tuned_usd_per_month: float = 0.0
    growth_per_month: float = 0.0
    volume_spread: float = 0.8
    life_spread: float = 0.5
    saving_spread: float = 0.0
    success: float | None = None
    """None: as forecast before a training, certain once the tuned candidate is certified."""
    retraining_months: float | None = None
    """None: by the volatility of the knowledge."""


@dataclass(frozen=True, slots=True)
class Hosting:
    """The machine that local models run on."""

    usd_per_hour: float | None = None
    """None takes the default for this machine."""
    utilisation: float = 1.0
    always_on: bool = False


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """What the whole run may use; None is no limit."""

    usd: float | None = None
    minutes: float | None = None


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Inputs without gold answers, kept apart from the splits."""

    samples: tuple[Sample, ...]
    """Their targets are empty."""
    read: int
    """How many there were before those that may not be used were left out."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why -> how many: `train`, `dev`, `test` (also in this split), `repeated`."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A candidate whose answers to unlabelled inputs the tuned model learns from."""

    inputs: Unlabelled
    candidate: TechniqueSpec | None = None
    """What the teacher must be; None leaves the choice to the run."""
    specs: tuple[TechniqueSpec, ...] = ()
    """Techniques that are candidates because the teacher is one of them."""
    model: str | None = None
    """What it must ask; None for any of the scenario's models."""
    samples: int = 1000
    usd: float | None = None
    answers: int = 3
    agreement: float = 1.0
    gold: Literal["include", "exclude"] = "include"


@dataclass(frozen=True, slots=True)
class FineTune:
    """Whether and how to fine-tune."""

    when: When = "needed"
    backend: str = "local"
    base: str | None = None
    """Model to tune; None leaves the choice to the candidates."""
    max_usd: float | None = None
    pilot: bool = True
    """Whether a pilot on parts of the train split comes before the full training."""
    teacher: Teacher | None = None
    """None learns from the train split alone."""
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """General questions that are reported together."""

    name: str
    samples: tuple[Sample, ...]
    """`metadata["choices"]` lists the choices of a question that has some."""


@dataclass(frozen=True, slots=True)
class TechniqueSpec:
    """A technique as the user asked for it."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line changes in a scenario; None leaves it as it is."""

    models: tuple[str, ...] | None = None
    techniques: tuple[str, ...] | None = None
    limit: int | None = None
    """Test samples to keep: the first of a seeded order."""
    seed: int | None = None
    budget_usd: float | None = None
    race: bool = False
    """Test all candidates side by side instead of one after another."""
    repeats: int = 1
    """How often a comparison asks each candidate about each sample."""
    diagnose: bool = True
    """Look into the failures of candidates that fall short."""
    batch: bool = False
    """Send billed requests in batches: cheaper, and slower by minutes to hours."""
    continues: str | None = None
    """A former run whose tuned model `tune` goes on from."""
    start: str | None = None
    """`adapter` or `base`: what such a training starts with; None takes the adapter where it fits."""


@dataclass(frozen=True)
class Scenario:
    """Everything the user gave, checked."""

    file: Path
    folder: Path
    name: str
    description: str
    task: Task
    scorer: AnyScorer
    scorer_name: str
    """The scorer as the scenario writes it, options included."""
    goal: Goal
    traffic: Traffic
    budget: BudgetLimits
    fine_tune: FineTune
    models: tuple[str, ...]
    endpoints: Mapping[str, Mapping[str, Any]]
    """Servers that it describes itself, by name, as in advisor.toml."""
    embedder: str
    techniques: tuple[TechniqueSpec, ...] | None
    """None: whatever fits the task."""
    volatility: Volatility
    probes: tuple[Probe, ...]
    """General questions asked before and after a training; empty for those that ship."""
    seed: int
    """Seed of the run: `Overrides.seed`, else the scenario's `data.seed`, else 1. It never moves the split."""
    hash: str
    """SHA-256 of the scenario's content and of every byte it rests on; command-line overrides do not change it."""
    files: tuple[Path, ...]
    """Every file it rests on."""
    hosting: Hosting
    economics: Economics
    stated: frozenset[str]
    """Keys of sections that the scenario gives itself, as `traffic.months`; all others hold defaults."""
    warnings: tuple[str, ...]
    """What works, but should be known."""

    @property
    def usd_per_hour(self) -> float | None:
        """Price of the machine that local models run on, where the scenario gives it."""
        return self.hosting.usd_per_hour
