"""Which of the models that are to be asked spend money that leaves the house."""

from __future__ import annotations

from collections.abc import Iterable

from advisor.candidates import Candidate
from advisor.scenario.model import Scenario
from backends import registry as backends
from evals.scorers.base import ModelScorer


def billed_among(scenario: Scenario, candidates: Iterable[Candidate], *, embeds: bool = False) -> list[str]:
    """Names of billed models: of the candidates, of the scorer and, where something embeds, of the embedder.

    `embeds` says that something beside candidates and scorer does.
    """
    asked = tuple(candidates)
    names = dict.fromkeys(name for one in asked for name in (one.model, *one.others))
    scorer = scenario.scorer
    if isinstance(scorer, ModelScorer):
        names |= {scorer.asks: None} if scorer.asks else {}
        embeds = embeds or scorer.embeds
    settings = backends.Settings(usd_per_hour=scenario.usd_per_hour)
    found = [name for name in names if backends.open_chat(name, settings).billed]
    embeds = embeds or any(one.technique.embeds for one in asked)
    if embeds and backends.open_embedder(scenario.embedder, settings).billed:
        found.append(scenario.embedder)
    return found
