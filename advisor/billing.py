"""Which of the models that are to be asked spend money that leaves the house, and whether their prices are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from advisor.candidates import Candidate
from advisor.scenario.model import Scenario
from backends import registry as backends
from backends.errors import Problem
from backends.types import Usage
from evals.scorers.base import ModelScorer


def billed_among(scenario: Scenario, candidates: Iterable[Candidate], *, embeds: bool = False) -> list[str]:
    """Names of billed models: of the candidates, of the scorer and, where something embeds, of the embedder.

    `embeds` says that something beside candidates and scorer does.
    """
    chats, embedders = _asked(scenario, tuple(candidates), embeds)
    settings = _settings(scenario)
    found = [name for name in chats if backends.open_chat(name, settings).billed]
    return found + [name for name in embedders if backends.open_embedder(name, settings).billed]


def unpriced(scenario: Scenario, candidates: Iterable[Candidate]) -> Problem | None:
    """Why a budget in dollars cannot be kept: billed models without a price. None where it can, or where there is none.

    Asks for no key.
    """
    if scenario.budget.usd is None:
        return None
    chats, embedders = _asked(scenario, tuple(candidates), False)
    settings = _settings(scenario)
    # A chat model may have a price for what it reads and none for what it writes.
    asked = [(backends.open_gauge(name, settings), Usage(1, 1000, 0, 10)) for name in chats]
    asked += [(backends.open_gauge(name, settings, embeds=True), Usage(1, 1000)) for name in embedders]
    without = [gauge.name for gauge, usage in asked if gauge.billed and gauge.price(usage) is None]
    if not without:
        return None
    return Problem(
        str(scenario.file),
        f"the price of {' and '.join(without)} is not known, so no dollar budget can be kept.",
        "Give prices under endpoints: or in advisor.toml, leave the model out (--models), or drop budget.usd.",
    )


def _asked(scenario: Scenario, candidates: Sequence[Candidate], embeds: bool) -> tuple[list[str], list[str]]:
    """Names of the chat models, and of the embedder where one is asked."""
    names = dict.fromkeys(name for one in candidates for name in (one.model, *one.others))
    scorer = scenario.scorer
    if isinstance(scorer, ModelScorer):
        names |= {scorer.asks: None} if scorer.asks else {}
        embeds = embeds or scorer.embeds
    embeds = embeds or any(one.technique.embeds for one in candidates)
    return list(names), [scenario.embedder] if embeds else []


def _settings(scenario: Scenario) -> backends.Settings:
    return backends.Settings(usd_per_hour=scenario.usd_per_hour)
