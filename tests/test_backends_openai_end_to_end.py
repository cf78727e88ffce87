"""A whole run on models behind an endpoint: the ladder, the store and the report, with a key that must stay secret."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from advisor import engine
from advisor.scenario.model import Overrides
from backends.errors import BackendUnavailable
from tests import openai_server as wire
from tests import toys
from tests.openai_server import Fault, Json, Server

KEY = "sk-planted-0123456789abcdef"


def answer(body: Json) -> str:
    """Right when demonstrations are shown, else always the first label."""
    text = body["messages"][-1]["content"]
    shown = any(message["role"] == "assistant" for message in body["messages"])
    right = next((label for label, words in toys.WORDS.items() if re.search("|".join(words), text)), "none")
    label = right if shown else toys.LABELS[0]
    return json.dumps({"answer": label}) if "response_format" in body else label


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An endpoint called `stub` in an advisor.toml of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUB_KEY", KEY)
    with wire.in_thread(Server(answer=answer)) as running:
        Path("advisor.toml").write_text(
            f'[endpoints.stub]\nbase_url = "{running.url}"\nkey_env = "STUB_KEY"\n'
            '[endpoints.stub.prices."*"]\ninput = 1.0\noutput = 2.0\n',
            encoding="utf-8",
        )
        yield running


def scenario(tmp_path: Path, **changes: Any) -> Path:
    return toys.scenario(
        tmp_path / "s",
        "stub/gpt-4o-mini",
        n_test=60,
        techniques=["zero_shot", "few_shot"],
        fine_tune={"when": "never"},
        **changes,
    )


def test_the_ladder_climbs_on_an_endpoint_and_the_bill_is_the_servers(server: Server, tmp_path: Path) -> None:
    path = scenario(tmp_path, budget={"usd": 5})
    assert engine.billed_models(path) == ["stub/gpt-4o-mini"]
    finished = engine.run(path, tmp_path / "w")
    report = finished.report
    assert finished.exit_code == 0
    picked = next(candidate for candidate in report["candidates"] if candidate["id"] == report["pick"])
    assert picked["technique"] == "few_shot"
    assert picked["usd_per_1k_requests"] > 0
    assert report["spent"]["usd"] == pytest.approx(server.billed_usd)
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in server.request_headers)


def test_the_key_is_in_nothing_that_a_run_writes(server: Server, tmp_path: Path) -> None:
    leaks = [
        wire.error(400, f"rejected for {KEY}"),
        wire.error(500, f"Bearer {KEY} broke it"),
        Fault(200, {"error": {"message": f"upstream said {KEY}"}}),
    ]
    server.fault = lambda number, body: leaks[number % 3] if number % 7 == 6 else None
    engine.compare(scenario(tmp_path), tmp_path / "w")
    written = [file for folder in ("w", "s", "cache") for file in (tmp_path / folder).rglob("*") if file.is_file()]
    assert any(file.name == "report.json" for file in written)
    assert any(b"[key]" in file.read_bytes() for file in written)
    assert [file for file in written if KEY.encode() in file.read_bytes()] == []


def test_a_run_that_an_endpoint_stopped_goes_on_and_pays_for_nothing_twice(server: Server, tmp_path: Path) -> None:
    path = scenario(tmp_path)
    server.fault = lambda number, body: wire.error(429, "quota", code="insufficient_quota") if number >= 40 else None
    with pytest.raises(BackendUnavailable, match="credit is used up"):
        engine.compare(path, tmp_path / "w", Overrides())
    (run_folder,) = (tmp_path / "w" / "runs").iterdir()
    server.fault = lambda number, body: None
    finished = engine.compare(path, tmp_path / "w", resume=run_folder.name)
    assert finished.report["verdict"]
    repeated = len(server.answered) - len(set(server.answered))
    # Only what was under way when the run stopped is asked again.
    assert repeated <= server.most_active
    assert len(server.answered) > 100
