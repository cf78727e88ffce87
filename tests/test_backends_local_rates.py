"""Speeds that were measured while other work had part of the processors say so."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from backends.local import rates
from backends.local.catalog import Place
from backends.local.chat import LocalChat
from backends.local.rates import Rates, rates_key, remember, remembered, unshared


def a_machine(monkeypatch: pytest.MonkeyPatch, *shares: float) -> None:
    """Every measurement takes a second, in which the thread has a processor for these parts of it."""
    wall = itertools.count()
    own = itertools.accumulate(itertools.chain.from_iterable((0.0, share) for share in shares))
    monkeypatch.setattr(rates, "time", SimpleNamespace(perf_counter=lambda: next(wall), thread_time=lambda: next(own)))


def timed(*prefills: float) -> list[Rates]:
    return [Rates(prefill, prefill / 4) for prefill in prefills]


@pytest.mark.parametrize(
    ("shares", "is_on_cpu", "found"),
    [
        ([0.99], True, Rates(1, 1 / 4)),
        ([0.67, 0.95], True, Rates(2, 2 / 4)),
        ([0.67, 0.7, 0.5], True, Rates(3, 3 / 4, is_shared=True)),
        ([0.01], False, Rates(1, 1 / 4)),
    ],
)
def test_a_speed_is_measured_again_while_other_work_gets_in_between(
    monkeypatch: pytest.MonkeyPatch, shares: list[float], is_on_cpu: bool, found: Rates
) -> None:
    a_machine(monkeypatch, *shares)
    tries = iter(timed(1, 2, 3))
    assert unshared(lambda: next(tries), is_on_cpu=is_on_cpu) == found


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_speed_that_was_shared_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shared: bool) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    chat = LocalChat("local/m", Place(tmp_path), usd_per_hour=1.0, dtype="float32")
    assert chat.notes == ()
    key = rates_key(Place(tmp_path), "float32", "cpu")
    remember(key, "local/m", Rates(100.0, 10.0, is_shared=is_shared))
    assert remembered(key) == Rates(100.0, 10.0, is_shared=is_shared)
    assert [str(tmp_path / "cache" / "rates") in note for note in chat.notes] == [True] * is_shared
