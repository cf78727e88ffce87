"""The models there are to choose from: those on this machine, and what is known of those behind endpoints."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.economics.lifespan import days_until
from advisor.workspace import Workspace
from backends.errors import BackendUnavailable, InputError, Problem
from backends.local.installed import Installed, in_hub_cache, in_wheels, tuned_in
from backends.openai import endpoints
from backends.openai.known import Known, known, published, short_list

if TYPE_CHECKING:
    from backends.openai.listing import Listed

_MISSING = "Models behind endpoints need more packages: pip install 'cheapest-llm-advisor[openai]'."


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found."""

    day: date
    """Days left are counted from it."""
    local: tuple[Installed, ...]
    remote: tuple[Known, ...]
    notes: tuple[str, ...]
    """What could not be found out, and why."""

    def days_left(self, one: Known) -> int | None:
        """Days until a model stops, None where no date is known; not above 0 once it has."""
        end = one.lifecycle.shutdown
        return None if end is None else days_until(end, self.day)

    def as_json(self) -> dict[str, Any]:
        """For `--json`: dates as text, unknown figures as null."""
        return {
            "day": self.day.isoformat(),
            "local": [asdict(one) for one in self.local],
            "remote": [_known_json(one) | {"days_left": self.days_left(one)} for one in self.remote],
            "notes": list(self.notes),
        }


def inventory(pattern: str | None, endpoint: str | None, workspace: Path, day: date) -> Inventory:
    """Look for models; without a pattern those installed, and OpenAI's that stop, can be tuned or take their place.

    Only a named endpoint is asked over the network, and only when its key is set; nothing else is.

    Args:
        pattern: Part of a name, or one with `*` and `?`; a whole name `ENDPOINT/MODEL` need not be known.
        endpoint: `openai` or one of advisor.toml.
        workspace: Where tuned models are looked for.
        day: Today.

    Raises:
        InputError: There is no such endpoint, or nothing matches.
    """
    local = () if endpoint else (*in_wheels(), *in_hub_cache(), *tuned_in(Workspace(workspace).adapters))
    fits = _matcher(pattern)
    remote, notes = _remote(pattern, endpoint, fits)
    found = Inventory(day, tuple(one for one in local if fits(one.name)), remote, notes)
    if pattern is not None and not found.local and not found.remote:
        what = "matches no model that is known here."
        raise InputError(Problem(pattern, what, "Give a part of a name, or look at an endpoint: --endpoint NAME."))
    return found


def _matcher(pattern: str | None) -> Callable[[str], bool]:
    """Whether a name is meant: whole, or without its endpoint."""
    if pattern is None:
        return lambda name: True
    wanted = pattern.lower()
    if not set(wanted) & set("*?["):
        return lambda name: wanted in name.lower()
    return lambda name: any(fnmatchcase(part, wanted) for part in (name.lower(), name.lower().partition("/")[2]))


def _remote(
    pattern: str | None, endpoint: str | None, fits: Callable[[str], bool]
) -> tuple[tuple[Known, ...], tuple[str, ...]]:
    if any(importlib.util.find_spec(package) is None for package in ("genai_prices", "openai")):
        return (), (_MISSING,)
    if endpoint is not None:
        return _asked(endpoint, fits)
    if pattern is None:
        return tuple(map(known, short_list())), ()
    names = dict.fromkeys((*short_list(), *_published()))
    found = [known(name) for name in names if fits(name)]
    return tuple(found or _by_whole_name(pattern)), ()


def _published() -> Iterable[str]:
    """The models of every endpoint that genai-prices knows, and those the user gives prices of."""
    for name in endpoints.names():
        endpoint, _ = endpoints.find(f"{name}/")
        yield from published(endpoint)
        yield from (f"{name}/{model}" for model in endpoint.settings.prices if model != "*")


def _by_whole_name(pattern: str) -> Sequence[Known]:
    """A model that is named in full, a tuned one for instance, where something is known of it."""
    prefix, _, model = pattern.partition("/")
    if not model or prefix not in endpoints.names():
        return ()
    found = known(pattern)
    return () if found.usd is None and found.lifecycle.shutdown is None else (found,)


def _asked(name: str, fits: Callable[[str], bool]) -> tuple[tuple[Known, ...], tuple[str, ...]]:
    """What an endpoint lists; what the tables know of it where it cannot be asked."""
    if name not in endpoints.names():
        known_names = ", ".join(endpoints.names())
        raise InputError(Problem(name, "is no endpoint.", f"Known are {known_names}; advisor.toml describes others."))
    endpoint, _ = endpoints.find(f"{name}/")
    rows: tuple[Listed, ...] = ()
    note = _unasked(name, endpoint)
    if note is None:
        # The SDK takes seconds to import, and only this needs it.
        from backends.openai import listing

        try:
            rows = listing.listed(endpoint)
        except BackendUnavailable as error:
            note = f"{name} did not list its models: {error}"
    if note is None:
        found = [_dated(known(f"{name}/{row.name}"), row) for row in rows if fits(f"{name}/{row.name}")]
        return tuple(found), () if rows else (f"{name} lists no models.",)
    return tuple(known(one) for one in published(endpoint) if fits(one)), (f"{note} Shown is what the tables know.",)


def _unasked(name: str, endpoint: endpoints.Endpoint) -> str | None:
    """Why an endpoint cannot be asked; None when it can."""
    problem = endpoints.key_problem(name, endpoint)
    if problem is None:
        return None
    if not endpoint.key():
        return f"{name} was not asked: it wants a key, and {endpoint.key_env} is not set."
    return f"{name} was not asked: {problem.what}"


def _dated(found: Known, row: Listed) -> Known:
    """With what the endpoint says itself, which goes before the tables."""
    context = found.context if row.context is None else row.context
    if row.shutdown is None:
        return replace(found, context=context)
    lifecycle = replace(found.lifecycle, shutdown=row.shutdown, source="the endpoint's list of models", read=None)
    return replace(found, context=context, lifecycle=lifecycle)


def _known_json(one: Known) -> dict[str, Any]:
    prices, life = one.usd or (None, None, None), one.lifecycle
    return {
        "name": one.name,
        "usd_per_1m": {"input": prices[0], "cached": prices[1], "output": prices[2]},
        "prices": one.prices,
        "prices_date": _iso(one.prices_date),
        "context": one.context,
        "tunable": one.is_tunable,
        "training_usd_per_1m": one.training_usd,
        "training_usd_per_hour": one.training_usd_per_hour,
        "training_source": one.training_source,
        "training_ends": _iso(life.training_ends),
        "shutdown": _iso(life.shutdown),
        "replacement": life.replacement,
        "lifecycle_source": life.source,
        "lifecycle_read": _iso(life.read),
    }


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
