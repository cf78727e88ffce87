"""The gauges of a scenario's models, each opened once."""

from __future__ import annotations

from advisor.scenario.model import Scenario
from backends import registry as backends
from backends.gauges import Gauge


class Gauges:
    """Gauges by name; an embedding model may have the name of a chat model and is kept apart."""

    def __init__(self, scenario: Scenario, *, batched: bool = False) -> None:
        """`batched` has billed requests go in batches."""
        self._settings = backends.Settings(usd_per_hour=scenario.usd_per_hour)
        self._embedder = scenario.embedder
        self._batched = batched
        self._known: dict[str, Gauge] = {}

    @property
    def embedder(self) -> str:
        """The name under which the scenario's embedder is asked."""
        return f"{_EMBEDDER}{self._embedder}"

    def __getitem__(self, name: str) -> Gauge:
        """The gauge of a chat model, or of the embedder. Raises InputError when there is no such model."""
        if name not in self._known:
            embeds = name.startswith(_EMBEDDER)
            model = name.removeprefix(_EMBEDDER)
            self._known[name] = backends.open_gauge(model, self._settings, embeds=embeds, batched=self._batched)
        return self._known[name]

    def opened(self) -> list[Gauge]:
        """All that were looked at."""
        return list(self._known.values())


_EMBEDDER = "embedder "
