"""What each training won and what it made the model forget, one row a tuned candidate; for every form of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TITLE = "What was won and what was forgotten"
NOTE = (
    "Differences are paired, sample by sample, each with its own interval at the goal's confidence. Forecast: of the "
    "score on dev, from the pilot, with a 90 % interval."
)
_NONE = "-"


def trainings(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """How every candidate that was to be tuned went. Reports from before there were several have one, or none."""
    escalation = report["escalation"]
    if escalation is None:
        return []
    if "tuned_candidates" in escalation:
        return list(escalation["tuned_candidates"])
    tuned, probe = escalation["tuned"], escalation["forgetting"]
    if tuned is None:
        return []
    probes = [] if probe is None else [{"probe": "general knowledge", **probe}]
    return [{**escalation, "candidate": tuned["candidate"], "probes": probes, "gain": None}]


def head(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the columns; every probe has one."""
    return (
        "candidate",
        "score on test",
        f"won against {_against(report)}",
        *(f"{name}, before → after" for name in _probes(report)),
        "forecast → reached on dev",
        "training",
        "answers that differ between forms",
    )


def rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a candidate that was to be tuned, its id first."""
    scores = {one["id"]: one for one in report["candidates"]}
    return [_row(one, scores.get(one["candidate"]), _probes(report)) for one in trainings(report)]


def _row(training: Mapping[str, Any], found: Mapping[str, Any] | None, probes: Sequence[str]) -> tuple[str, ...]:
    by_name = {probe["probe"]: probe for probe in training["probes"]}
    return (
        training["candidate"] or _NONE,
        training["decision"] if training["tuned"] is None else _score(found),
        _won(training["gain"]),
        *(_kept(by_name.get(name)) for name in probes),
        _reached(training),
        _effort(training["tuned"]),
        _forms(training["parity"]),
    )


def _against(report: Mapping[str, Any]) -> str:
    """The candidate that all are compared with, without its model's name."""
    names = {one["gain"]["against"].partition("@")[0] for one in trainings(report) if one["gain"]}
    return names.pop() if len(names) == 1 else "no training"


def _probes(report: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(probe["probe"] for one in trainings(report) for probe in one["probes"]))


def _score(found: Mapping[str, Any] | None) -> str:
    if found is None or found["mean_score"] is None:
        return _NONE
    interval = found["score"]
    shown = "" if interval is None else f" ({interval['low']:.3f} to {interval['high']:.3f})"
    return f"{found['mean_score']:.3f}{shown}, n={found['n']}"


def _won(gain: Mapping[str, Any] | None) -> str:
    return _NONE if gain is None else f"{_difference(gain)}, n={gain['n']}"


def _kept(probe: Mapping[str, Any] | None) -> str:
    if probe is None:
        return _NONE
    chance = "" if probe.get("chance") is None else f", chance {probe['chance']:.2f}"
    return f"{probe['before']:.3f} → {probe['after']:.3f}, {_difference(probe)}, n={probe['n']}{chance}"


def _difference(paired: Mapping[str, Any]) -> str:
    return f"{paired['difference']:+.3f} ({paired['low']:+.3f} to {paired['high']:+.3f})"


def _reached(training: Mapping[str, Any]) -> str:
    ahead, tuned = training["forecast"], training["tuned"]
    forecast = _NONE if ahead is None else f"{ahead['score']:.3f} ({ahead['low']:.3f} to {ahead['high']:.3f})"
    score = None if tuned is None else tuned["dev_score"]
    return f"{forecast} → {_NONE if score is None else f'{score:.3f}'}"


def _effort(tuned: Mapping[str, Any] | None) -> str:
    if tuned is None:
        return _NONE
    usd = "unknown cost" if tuned["cost_usd"] is None else f"${tuned['cost_usd']:.4f}"
    return f"{tuned['seconds']:.0f} s, {usd}, {tuned['trained_tokens']:,} tokens"


def _forms(parity: Mapping[str, Any] | None) -> str:
    if parity is None:
        return _NONE
    return f"{parity['differing']} of {parity['prompts']}, logits by {parity['largest_logit_difference']:.2g}"
