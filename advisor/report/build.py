"""The report object: an Outcome as JSON, in the shape that `schema.json` beside this file fixes."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from advisor.advice.recommend import advise
from advisor.commands import Commands
from advisor.economics.money import money
from advisor.measure import Serving
from advisor.outcome import Escalation, Outcome, Row
from advisor.report.economics import economics
from advisor.report.teaching import teaching
from advisor.resolution import Resolution
from advisor.scenario.model import Scenario
from advisor.tuning.pilot import Pilot
from backends.hardware import Hardware
from evals.statistics.sequential import Interval
from evals.store import RunRow

SCHEMA_VERSION = 1
_PACKAGES = (
    "cheapest-llm-advisor",
    "torch",
    "transformers",
    "peft",
    "llguidance",
    "faiss-cpu",
    "sentence-transformers",
    "genai-prices",
)


def build(
    run: RunRow,
    scenario: Scenario,
    outcome: Outcome,
    resolved: Resolution,
    hardware: Hardware,
    workspace: Path,
    foreseen: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report of a run, ready for json.dumps. Times and ids apart, the same seed gives the same object.

    `workspace` is where the run is kept, for the commands; `foreseen` is what was estimated when the run began.
    """
    dollars = money(scenario, outcome, hardware, run.created)
    advice = advise(scenario, outcome, resolved, dollars, Commands(scenario.file, run.id, workspace))
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.id,
        "kind": outcome.kind,
        "created": run.created,
        "scenario": {
            "name": scenario.name,
            "hash": scenario.hash,
            "file": str(scenario.file),
            "n_train": len(scenario.task.train),
            "n_dev": len(scenario.task.dev),
            "n_test": len(scenario.task.test),
        },
        "seed": run.options.get("seed", 0),
        "versions": _versions(),
        "hardware": asdict(hardware),
        "prices_date": None if dollars.prices_date is None else dollars.prices_date.isoformat(),
        "goal": asdict(scenario.goal),
        "verdict": outcome.verdict,
        "pick": outcome.pick,
        "because": list(advice.because),
        "would_change": list(advice.would_change),
        "candidates": [_candidate(row) for row in outcome.rows],
        "chosen": [asdict(chosen) for chosen in outcome.chosen],
        "left_out": [asdict(left_out) for left_out in outcome.left_out],
        "comparisons": [asdict(comparison) for comparison in outcome.comparisons],
        "pareto": list(outcome.pareto),
        "dominated_by": {name: list(better) for name, better in outcome.dominated_by.items() if better},
        "may_be_best": list(outcome.may_be_best),
        "judge": None if outcome.judge_check is None else outcome.judge_check.as_json(),
        "spent": asdict(outcome.spent),
        "estimate": None if foreseen is None else dict(foreseen),
        "escalation": _escalation(outcome),
        "economics": economics(scenario, outcome, dollars),
        "alpha_ledger": [dict(row) for row in outcome.ledger],
        "risks": [asdict(risk) for risk in advice.risks],
        "next_steps": list(advice.next_steps),
        "resolution": asdict(resolved),
        "outlook": None if outcome.outlook is None else asdict(outcome.outlook),
        "stopped": outcome.stopped,
        "notes": list(outcome.notes),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _candidate(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "technique": row.technique,
        "model": row.model,
        "status": row.status,
        "reason": row.reason,
        "n": row.samples,
        "errors": row.errors,
        "error_texts": [{"error": text, "count": count} for text, count in row.error_texts],
        "score": _interval(row.interval),
        "mean_score": row.test.score,
        "dev_score": row.dev.score,
        "fresh_score": _interval(row.fresh),
        "pass_hat": None if row.pass_hat is None else {str(k): p for k, p in row.pass_hat.items()},
        **_per_request(row.measured),
        "fit": {"usd": row.fit.cost_usd, "seconds": row.fit_seconds, "requests": row.fit.requests},
        "evaluation": {
            "usd": row.evaluation.cost_usd,
            "seconds": row.evaluation_seconds,
            "requests": row.evaluation.requests,
        },
        "steps": [asdict(step) for step in row.steps],
        "retrieval": None if row.retrieval is None else asdict(row.retrieval),
        **_diagnosis(row),
        "parameters": dict(row.parameters),
    }


def _diagnosis(row: Row) -> dict[str, Any]:
    """Causes of the candidate's failures, and what finding them took; that is part of `evaluation` too."""
    found = row.diagnosis
    if found is None:
        return {"diagnosis": [], "diagnosed": None}
    cost = {"usd": found.usage.cost_usd, "seconds": found.seconds, "requests": found.usage.requests}
    return {
        "diagnosis": [asdict(cause) for cause in found.causes],
        "diagnosed": {"failures": found.n_failures, "looked_at": found.n_looked_at, **cost},
    }


def _per_request(measured: Serving) -> dict[str, Any]:
    return {
        "tokens_per_request": {
            "input": measured.input_tokens,
            "cached": measured.cached_tokens,
            "output": measured.output_tokens,
        },
        "usd_per_1k_requests": measured.usd_per_1k_requests,
        "seconds": {
            "p50": measured.p50_seconds,
            "p95": measured.p95_seconds,
            "first_token_p50": measured.p50_first_token_seconds,
        },
    }


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else asdict(interval)


def _escalation(outcome: Outcome) -> dict[str, Any] | None:
    """The leading training, and beside it how every candidate that was to be tuned went."""
    if outcome.escalation is None:
        return None
    tuned = [_training(one, outcome) for one in outcome.tunings]
    return _training(outcome.escalation, outcome) | {"tuned_candidates": tuned}


def _training(escalation: Escalation, outcome: Outcome) -> dict[str, Any]:
    return {
        "candidate": escalation.candidate,
        "decision": escalation.decision,
        "reason": escalation.reason,
        "forecast": None if escalation.pilot is None else _forecast(escalation.pilot),
        "pilot": [] if escalation.pilot is None else [run.as_json() for run in escalation.pilot.runs],
        "tuned": None if escalation.tuned is None else dict(escalation.tuned),
        "forgetting": escalation.probes[0].as_json() if escalation.probes else None,
        "probes": [probe.as_json() for probe in escalation.probes],
        "teaching": teaching(outcome, escalation.candidate),
        "gain": None if escalation.gain is None else escalation.gain.as_json(),
        "parity": None if escalation.parity is None else asdict(escalation.parity),
        "former": None if escalation.former is None else escalation.former.as_json(),
        "errors": None if escalation.mistakes is None else escalation.mistakes.as_json(),
    }


def _forecast(found: Pilot) -> dict[str, Any]:
    return asdict(found.forecast) | {"wanted": found.wanted, "with_more_data": asdict(found.with_more)}
