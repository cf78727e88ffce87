"""The report object: an Outcome as JSON, in the shape that `schema.json` beside this file fixes."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from advisor import economics
from advisor.measure import Serving
from advisor.outcome import Escalation, Outcome, Row
from advisor.recommend import advise, tuned_break_even, tuned_worth
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
)


def build(
    run: RunRow, scenario: Scenario, outcome: Outcome, resolved: Resolution, hardware: Hardware
) -> dict[str, Any]:
    """The report of a run, ready for json.dumps. Times and ids apart, the same seed gives the same object."""
    advice = advise(scenario, outcome, resolved, run.id)
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
        "prices_date": None,
        "goal": asdict(scenario.goal),
        "verdict": outcome.verdict,
        "pick": outcome.pick,
        "because": list(advice.because),
        "candidates": [_candidate(row) for row in outcome.rows],
        "chosen": [asdict(chosen) for chosen in outcome.chosen],
        "left_out": [asdict(left_out) for left_out in outcome.left_out],
        "comparisons": [asdict(comparison) for comparison in outcome.comparisons],
        "pareto": list(outcome.pareto),
        "dominated_by": {name: list(better) for name, better in outcome.dominated_by.items() if better},
        "may_be_best": list(outcome.may_be_best),
        "judge": None if outcome.judge_check is None else outcome.judge_check.as_json(),
        "spent": asdict(outcome.spent),
        "estimate": None,
        "escalation": _escalation(outcome.escalation),
        "economics": _economics(scenario, outcome),
        "alpha_ledger": [dict(row) for row in outcome.ledger],
        "risks": [asdict(risk) for risk in advice.risks],
        "next_steps": list(advice.next_steps),
        "resolution": asdict(resolved),
        "outlook": None if outcome.outlook is None else asdict(outcome.outlook),
        "stopped": outcome.stopped,
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
        "seconds": {"p50": measured.p50_seconds, "p95": measured.p95_seconds},
    }


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else asdict(interval)


def _escalation(escalation: Escalation | None) -> dict[str, Any] | None:
    if escalation is None:
        return None
    return {
        "decision": escalation.decision,
        "reason": escalation.reason,
        "forecast": None if escalation.pilot is None else _forecast(escalation.pilot),
        "pilot": [] if escalation.pilot is None else [run.as_json() for run in escalation.pilot.runs],
        "tuned": None if escalation.tuned is None else dict(escalation.tuned),
        "forgetting": None if escalation.forgetting is None else escalation.forgetting.as_json(),
        "parity": None if escalation.parity is None else asdict(escalation.parity),
    }


def _forecast(found: Pilot) -> dict[str, Any]:
    return asdict(found.forecast) | {"wanted": found.wanted, "with_more_data": asdict(found.with_more)}


def _economics(scenario: Scenario, outcome: Outcome) -> dict[str, Any]:
    volume = scenario.traffic.requests_per_month
    even = tuned_break_even(scenario, outcome)
    found = tuned_worth(scenario, outcome)
    return {
        "requests_per_month": volume,
        "months": scenario.traffic.months,
        "monthly_usd": {
            row.id: economics.monthly_usd(row.measured.usd_per_1k_requests, volume) for row in outcome.rows
        },
        "break_even_requests_per_month": None if even is None else even.requests_per_month,
        "break_even_against": None if even is None else even.against,
        "net_present_value": None if found is None else found.as_json(),
    }
