"""What fine-tuning would send to a provider, said before anything is: samples, tokens, dollars, personal data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from advisor.candidates import Candidate, lineup
from advisor.scenario.model import Scenario
from advisor.techniques.fine_tune import FineTune
from advisor.tuning.pilot import FRACTIONS, part_of, suffices
from backends import registry as backends
from backends.types import Quote, TuneJob, Tuner, add_known
from backends.wording import counted

_NOWHERE = Path("not-yet")
"""Folder of jobs that are only asked about."""


def uploads(scenario: Scenario) -> list[str]:
    """A sentence or more for each model that would be trained elsewhere; empty where nothing leaves this machine."""
    tuner = backends.open_tuner(scenario.fine_tune.backend, backends.Settings(usd_per_hour=scenario.usd_per_hour))
    return [text for candidate in lineup(scenario).tuning for text in _told(scenario, candidate, tuner)]


def _told(scenario: Scenario, candidate: Candidate, tuner: Tuner) -> Iterator[str]:
    if not isinstance(candidate.technique, FineTune):
        return
    whole, *parts = [tuner.quote(job) for job in _jobs(scenario, candidate.technique)]
    if whole is None or not (whole.leaves or whole.billed):
        return
    dev = f" and {whole.dev} dev" if whole.dev else ""
    teacher = ", and what a teacher answers," if candidate.technique.taught else ""
    yield (
        f"If it comes to fine-tuning, {whole.train} train{dev} samples ({whole.megabytes:.2g} MB){teacher} are "
        f"uploaded to {whole.place} and train {candidate.model} there: {whole.tokens:,} tokens x "
        f"{counted(whole.epochs, 'epoch')}{', after pilots on a quarter and a half of them' if parts else ''}, "
        f"{_dollars([whole, *parts])}."
    )
    yield from whole.notes


def _jobs(scenario: Scenario, technique: FineTune) -> Iterator[TuneJob]:
    """The whole training, then its pilots."""
    task = scenario.task
    yield technique.job(task, scenario.seed, _NOWHERE)
    if scenario.fine_tune.pilot and suffices(task):
        yield from (technique.job(part_of(task, share, scenario.seed), scenario.seed, _NOWHERE) for share in FRACTIONS)


def _dollars(quotes: list[Quote | None]) -> str:
    usd: float | None = 0.0
    worst: float | None = 0.0
    for quote in quotes:
        if quote is not None:
            usd, worst = add_known(usd, quote.usd), add_known(worst, quote.worst_usd)
    if usd is None or worst is None:
        return "at a price that is not known"
    return f"about ${usd:.3g}, at most ${worst:.3g}"
