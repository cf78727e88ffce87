"""The estimate next to the bill, on three scenarios of different kinds behind a metered endpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from advisor import engine
from advisor.estimating.ahead import estimated, probed
from advisor.estimating.result import Estimate
from advisor.scenario.model import Overrides
from advisor.span import Span
from evals.cache import store_path
from evals.store import Store
from tests import metered
from tests import openai_server as wire
from tests.openai_server import Server

USD = (0.15, 0.6)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An endpoint called `stub`, with its prices in an advisor.toml of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    with wire.in_thread(Server(usd=USD)) as running:
        prices = f'[endpoints.stub.prices."*"]\ninput = {USD[0]}\noutput = {USD[1]}\n'
        Path("advisor.toml").write_text(f'[endpoints.stub]\nbase_url = "{running.url}"\n{prices}', "utf-8")
        yield running


def dollars(found: Estimate) -> Span:
    """What leaves the house in a comparison."""
    billed = found.of("compare").billed_usd
    assert billed is not None
    return billed


@pytest.mark.parametrize("name", metered.KINDS)
def test_the_bill_of_a_comparison_is_within_a_fifth_of_its_estimate(name: str, server: Server, tmp_path: Path) -> None:
    kind = metered.KINDS[name]
    path, targets = metered.scenario(tmp_path / "s", kind)
    server.answer = metered.model(kind, targets)
    before = dollars(estimated(path, Overrides()))
    assert server.bodies == []
    told = probed(path, Overrides(), tmp_path / "w", 8, engine.ignore)
    paid, after = server.billed_usd, dollars(told)
    # A batch of embeddings is shared out over its texts in whole tokens.
    assert told.probed_usd == pytest.approx(paid, rel=0.01)
    report = engine.compare(path, tmp_path / "w").report
    bill = server.billed_usd
    # Probes are no extra: the comparison takes their answers from the store.
    assert report["spent"]["usd"] == pytest.approx(bill - paid, rel=0.01)
    assert len(server.answered) == len(set(server.answered))
    for what, span in (("without probes", before), ("with probes", after)):
        ratio = f"{name} {what}: {span.expected:.5f} ({span.low:.5f} to {span.high:.5f}) of {bill:.5f} dollars, ratio"
        sys.stdout.write(f"\n{ratio} {span.expected / bill:.3f}")
        assert span.low <= bill <= span.high
        assert span.expected == pytest.approx(bill, rel=0.2)
    assert after.high - after.low < before.high - before.low
    assert report["estimate"]["usd"] == pytest.approx(before.expected, rel=0.01)
    assert not any(sample.startswith("test-") for sample in _probed_samples(tmp_path / "w"))


def _probed_samples(workspace: Path) -> list[str]:
    with Store.open(store_path(workspace)) as store:
        (run,) = [run for run in store.runs() if run.kind == "probe"]
        found = [trial.sample_id for trial in store.trials(run.id)]
    assert found
    return found
