from __future__ import annotations

import pytest

from evals.statistics.ledger import Ledger, retest_alpha


def test_promises_never_add_up_to_more_than_the_family_has() -> None:
    ledger = Ledger(0.05)
    for i in range(8):
        ledger = ledger.promise(f"arm {i}", 0.05 / 8)
    assert ledger.promised == pytest.approx(0.05)
    with pytest.raises(ValueError, match="is left"):
        ledger.promise("one more", 0.001)


def test_spending_is_noted_and_a_second_time_changes_nothing() -> None:
    ledger = Ledger(0.05).promise("a", 0.02).promise("b", 0.02).spend("a").spend("a")
    assert [entry.spent for entry in ledger.entries] == [True, False]
    assert ledger.spent == pytest.approx(0.02)


def test_a_reserve_is_handed_over_once() -> None:
    ledger = Ledger(0.05).promise("reserve", 0.02).hand_over("reserve", "tuned")
    assert [entry.test for entry in ledger.entries] == ["tuned"]
    with pytest.raises(ValueError, match="no unspent entry"):
        ledger.hand_over("reserve", "another")


def test_a_test_has_one_entry_and_spends_only_its_own() -> None:
    ledger = Ledger(0.05).promise("a", 0.01)
    with pytest.raises(ValueError, match="an entry for 'a'"):
        ledger.promise("a", 0.01)
    with pytest.raises(ValueError, match="nothing was promised"):
        ledger.spend("b")


def test_retests_without_end_stay_within_alpha() -> None:
    assert sum(retest_alpha(0.05, j) for j in range(1, 10_000)) < 0.05
    assert retest_alpha(0.05, 1) == pytest.approx(0.0304, abs=1e-4)
    with pytest.raises(ValueError, match="counted from 1"):
        retest_alpha(0.05, 0)
