"""The money tables of a report: what is known is shown with its source, what is not known is a dash."""

from __future__ import annotations

from typing import Any

from advisor.report import money


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
