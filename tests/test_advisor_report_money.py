"""The money tables of a report: what is known is shown with its source, what is not known is a dash."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from advisor.economics.assumptions import assumptions
from advisor.economics.bills import Machine
from advisor.economics.money import Money
from advisor.outcome import Outcome
from advisor.report import money
from advisor.scenario.load import load_scenario
from backends import registry
from tests import toys


def report(**changes: Any) -> dict[str, Any]:
    bill = {"usd_per_request": 0.001, "fixed_usd_per_month": 40.0, "once_usd": 1500.0, "months": 9.0}
    found = {
        "requests_per_month": 60_000.0,
        "monthly_usd": {"a": 100.0, "b": None},
        "bills": {"a": bill, "b": bill | {"usd_per_request": None}},
        "monthly_errors_usd": {"a": 12.5, "b": None},
        "assumptions": [
            assumption("volume", 60_000.0, "requests a month", "scenario", "traffic.requests_per_month"),
            assumption("horizon", 1.0, "months", "scenario", "traffic.months"),
            assumption("mean volume", 1, "requests a month", "default", None),
            assumption("always on", False, "", "default", "hosting.always_on"),
            assumption("saving", -0.105, "$ per 1,000 requests", "measured", None),
            assumption("retraining", None, "months", "default", "economics.retraining_months", note="never"),
            assumption("labels", None, "$", "default", None),
        ],
    }
    return {"economics": {**found, **changes}}


def assumption(name: str, value: object, unit: str, source: str, key: str | None, note: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "source": source, "key": key, "note": note}


def test_a_candidate_without_a_price_has_no_row() -> None:
    assert money.bill_rows(report()) == [("a", "$100.00", "$40.00", "$1,500.00", "$12.50")]


def test_without_traffic_there_is_no_table() -> None:
    assert money.bill_rows(report(requests_per_month=None)) == []


def test_the_note_says_what_is_missing() -> None:
    assert "usd_per_error" not in money.bills_note(report())
    assert "traffic.usd_per_error says, which is not set" in money.bills_note(report(monthly_errors_usd={"a": None}))


def test_assumptions_show_value_unit_source_and_key() -> None:
    assert money.assumption_rows(report()) == [
        ("volume", "60,000 requests a month", "scenario", "traffic.requests_per_month"),
        ("horizon", "1 month", "scenario", "traffic.months"),
        ("mean volume", "1 request a month", "default", "-"),
        ("always on", "no", "default", "hosting.always_on"),
        ("saving", "-$0.105 per 1,000 requests", "measured", "-"),
        ("retraining", "never", "default", "economics.retraining_months"),
        ("labels", "none", "default", "-"),
    ]


def test_reports_from_before_have_neither_table() -> None:
    old = {"economics": {"requests_per_month": 10.0, "monthly_usd": {"a": 1.0}}}
    assert money.bill_rows(old) == money.assumption_rows(old) == []


@pytest.mark.parametrize("given", [0.08, None])
def test_the_price_of_the_machine_is_told_once(given: float | None, tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", toys.script(tmp_path, "m", toys.rules(0.9)))
    basis = registry.price_basis("local/smollm2-135m", registry.Settings(given))
    plain = Machine(0.08), {}, None, None, {}, {}, {"local/smollm2-135m": basis}
    empty = cast(Outcome, SimpleNamespace(rows=()))
    made = assumptions(load_scenario(path), empty, Money(date(2026, 11, 23), *plain))
    rows = {row[0]: row[1] for row in money.assumption_rows(report(assumptions=[asdict(one) for one in made]))}
    assert rows["the machine"].startswith("$0.08 an hour; ")
    assert rows["the machine"].count("an hour") == 1
    assert rows["the machine"].endswith("the scenario") == (given is not None)
