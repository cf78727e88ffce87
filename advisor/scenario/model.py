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
class BudgetLimits:
    """What the whole run may use; None is no limit."""

    usd: float | None = None
    minutes: float | None = None


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
    recipe: Mapping[str, Any] = field(default_factory=dict)


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
    embedder: str
    techniques: tuple[TechniqueSpec, ...] | None
    """None: whatever fits the task."""
    volatility: Volatility
    probe: tuple[Sample, ...]
    """General questions asked before and after a training; empty for those that ship."""
    usd_per_hour: float | None
    seed: int
    """Seed of the run: `Overrides.seed`, else the scenario's `data.seed`, else 1. It never moves the split."""
    hash: str
    """SHA-256 of the scenario's content and of every byte it rests on; command-line overrides do not change it."""
    files: tuple[Path, ...]
    """Every file it rests on."""
    warnings: tuple[str, ...]
    """What works, but should be known."""
