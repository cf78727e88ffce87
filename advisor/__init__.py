"""Decides: the cheapest way that provably makes a language model meet a target.

    from advisor import compare, load_scenario, run

`docs/python-api.md` shows what they are for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advisor.engine import Finished, compare, run, tune
    from advisor.scenario.load import load_scenario
    from advisor.scenario.model import Overrides, Scenario
    from backends.errors import AdvisorError

__all__ = ["AdvisorError", "Finished", "Overrides", "Scenario", "compare", "load_scenario", "run", "tune"]

_HOMES = {
    **dict.fromkeys(("Finished", "compare", "run", "tune"), "advisor.engine"),
    **dict.fromkeys(("Overrides", "Scenario"), "advisor.scenario.model"),
    "load_scenario": "advisor.scenario.load",
    "AdvisorError": "backends.errors",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `advisor --help` must not wait for the engine."""
    if name not in _HOMES:
        raise AttributeError(f"module 'advisor' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
