"""Whole runs that fine-tune at a provider: money, consent, escalation, the choice of a state, kills in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from advisor import engine
from advisor.candidates import lineup
from advisor.cli.app import app
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides
from backends.errors import BackendUnavailable, InputError
from backends.openai.pace import Pace
from tests import openai_server as wire
from tests import toys
from tests.openai_jobs_server import BASE, CLOSED, STEPS, Call, JobsServer
from tests.openai_server import Fault

KEY = "sk-planted-0123456789abcdef"
MODEL = f"stub/{BASE}"
CREATE, UPLOAD, LOOK = (
    ("POST", "/fine_tuning/jobs"),
    ("POST", "/files"),
    ("GET", "/fine_tuning/jobs/ftjob-.*"),
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    """An endpoint called `stub` in an advisor.toml of the working directory, and jobs that are looked at at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUB_KEY", KEY)
    monkeypatch.setattr("backends.openai.tune.Pace", lambda: Pace(0.001, 0.002))
    with wire.in_thread(JobsServer(answer=lambda body: toys.LABELS[0])) as running:  # type: ignore[arg-type]
        describe(running)  # type: ignore[arg-type]
        yield running  # type: ignore[misc]


def describe(server: JobsServer, prices: str = "input = 1.0\noutput = 2.0\ntraining = 5.0\n", model: str = "*") -> None:
    text = f'[endpoints.stub]\nbase_url = "{server.url}"\nkey_env = "STUB_KEY"\n[endpoints.stub.prices."{model}"]\n'
    Path("advisor.toml").write_text(text + prices, encoding="utf-8")


def scenario(tmp_path: Path, n_test: int = 45, recipe: dict[str, Any] | None = None, **changes: Any) -> Path:
    fine_tune = {"when": "needed", "backend": "openai", "base": MODEL, "recipe": recipe or {}, "probe": "probe.jsonl"}
    fine_tune |= changes.pop("fine_tune", {})
    (tmp_path / "s").mkdir(exist_ok=True)
    questions = [{"input": f"What is {number}?", "target": "a number"} for number in range(5)]
    (tmp_path / "s" / "probe.jsonl").write_text("\n".join(map(json.dumps, questions)), encoding="utf-8")
    return toys.scenario(
        tmp_path / "s", MODEL, n_test=n_test, **{"techniques": ["zero_shot"], **changes, "fine_tune": fine_tune}
    )


def tuned_row(report: Any) -> Any:
    return next(row for row in report["candidates"] if row["technique"] == "fine_tune")


def test_a_climb_that_falls_short_trains_at_the_provider_and_picks_the_model(
    server: JobsServer, tmp_path: Path
) -> None:
    finished = engine.run(scenario(tmp_path, budget={"usd": 5}), tmp_path / "w")
    report = finished.report
    assert finished.exit_code == 0
    assert report["pick"] == tuned_row(report)["id"]
    tuned = report["escalation"]["tuned"]
    assert tuned["model"].startswith(f"stub/ft:{BASE}")
    assert tuned["cost_usd"] == pytest.approx(server.trained_usd)
    assert tuned["hosted"]
    assert len(server.jobs) == 1
    assert server.files == {}
    # Everything that was served is in what was spent: trials, what it forgot, and the training.
    assert report["spent"]["usd"] == pytest.approx(server.billed_usd)
    assert report["escalation"]["probes"]
    assert report["escalation"]["parity"] is None
    card = next((tmp_path / "w" / "adapters").glob("*/README.md")).read_text("utf-8")
    assert "tuned at its provider" in card
    assert "LoRA" not in card


def test_tune_and_compare_use_it_as_they_use_the_local_tuner(server: JobsServer, tmp_path: Path) -> None:
    path = scenario(tmp_path)
    tuned = engine.tune(path, tmp_path / "w")
    assert tuned.exit_code == 0
    assert {row["technique"] for row in tuned.report["candidates"]} == {"zero_shot", "fine_tune"}
    compared = engine.compare(path, tmp_path / "w", Overrides(techniques=("zero_shot", "fine_tune")))
    assert tuned_row(compared.report)["mean_score"] == tuned_row(tuned.report)["mean_score"]
    # The second run found the model in the workspace and all answers in the store.
    assert len(server.jobs) == 1
    assert compared.report["spent"]["usd"] == 0


def test_the_state_that_scores_best_on_dev_is_used(server: JobsServer, tmp_path: Path) -> None:
    """The last state forgot everything but one answer; its loss says nothing of that."""
    server.states = {20: "", 30: toys.LABELS[0], STEPS: toys.LABELS[1]}
    finished = engine.tune(scenario(tmp_path), tmp_path / "w")
    tuned = finished.report["escalation"]["tuned"]
    assert tuned["model"].endswith(":ckpt-step-20")
    assert "Of 3 states of the model" in tuned["notes"][-1]
    assert tuned_row(finished.report)["status"] == "certified"
    assert finished.report["spent"]["usd"] == pytest.approx(server.billed_usd)


def test_equal_states_leave_the_last_one(server: JobsServer, tmp_path: Path) -> None:
    server.states = {20: "", 30: "", STEPS: ""}
    tuned = engine.tune(scenario(tmp_path), tmp_path / "w").report["escalation"]["tuned"]
    assert "ckpt" not in tuned["model"]


def test_the_pilots_are_jobs_too(server: JobsServer, tmp_path: Path) -> None:
    path = scenario(tmp_path, budget={"usd": 5})
    for split, n in (("train", 240), ("dev", 40)):
        lines = [json.dumps(row) for row in toys.rows(split, n, "seen" if split == "train" else "")]
        (path.parent / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    finished = engine.tune(path, tmp_path / "w")
    assert len(finished.report["escalation"]["pilot"]) == 2
    assert len(server.jobs) == 3
    assert server.files == {}
    assert finished.report["spent"]["usd"] == pytest.approx(server.billed_usd)


# -- money ------------------------------------------------------------------------------------------------------------


def test_a_training_that_the_budget_has_no_room_for_is_not_begun_and_can_be_paid_later(
    server: JobsServer, tmp_path: Path
) -> None:
    path = scenario(tmp_path, budget={"usd": 0.012})
    stopped = engine.run(path, tmp_path / "w")
    assert stopped.exit_code == 3
    assert f"training {MODEL} could cost" in stopped.report["stopped"]
    assert server.uploaded == []
    assert server.billed_usd <= 0.012
    (run_folder,) = (tmp_path / "w" / "runs").iterdir()
    finished = engine.run(path, tmp_path / "w", Overrides(budget_usd=5), resume=run_folder.name)
    assert finished.exit_code == 0
    assert finished.report["spent"]["usd"] == pytest.approx(server.billed_usd)


@pytest.mark.parametrize("limit", [0.006, 0.009, 0.016])
def test_the_cap_holds_wherever_it_cuts(limit: float, server: JobsServer, tmp_path: Path) -> None:
    finished = engine.run(scenario(tmp_path, budget={"usd": limit}), tmp_path / "w")
    assert server.billed_usd <= limit
    assert finished.report["spent"]["usd"] == pytest.approx(server.billed_usd)


def test_max_usd_concerns_the_training_alone_and_the_run_goes_on(server: JobsServer, tmp_path: Path) -> None:
    finished = engine.run(scenario(tmp_path, fine_tune={"max_usd": 0.001}), tmp_path / "w")
    assert finished.exit_code == 1
    assert "more than fine_tune.max_usd ($0.001)" in finished.report["escalation"]["reason"]
    assert tuned_row(finished.report)["status"] == "failed"
    assert server.uploaded == []


@pytest.mark.parametrize(
    ("prices", "model", "message"),
    [
        ("input = 1.0\noutput = 2.0\n", "*", "the price of training"),
        ("input = 1.0\noutput = 2.0\ntraining = 5.0\n", BASE, "what requests to a model tuned from"),
    ],
)
def test_an_unknown_price_is_refused_under_a_dollar_budget_before_anything_is_sent(
    prices: str, model: str, message: str, server: JobsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.openai.endpoints.Endpoint.is_loopback", False)
    text = f'[endpoints.stub]\nbase_url = "{server.url}"\nkey_env = "STUB_KEY"\nallow_http = true\n'
    Path("advisor.toml").write_text(f'{text}[endpoints.stub.prices."{model}"]\n{prices}', encoding="utf-8")
    finished = engine.run(scenario(tmp_path, budget={"usd": 5}), tmp_path / "w")
    assert finished.exit_code == 3
    assert message in finished.report["stopped"]
    assert server.uploaded == []


def test_a_failed_job_is_booked_and_the_run_goes_on(server: JobsServer, tmp_path: Path) -> None:
    server.stages = ("running", "failed")
    server.error = {"code": "x", "message": "the loss exploded", "param": None}
    server.fault = lambda call: spent(server, call)
    finished = engine.run(scenario(tmp_path, budget={"usd": 5}), tmp_path / "w")
    assert finished.exit_code == 1
    assert "the loss exploded" in finished.report["escalation"]["reason"]
    assert finished.report["spent"]["usd"] == pytest.approx(server.billed_usd)
    assert server.trained_usd > 0


def spent(server: JobsServer, call: Call) -> None:
    """A job that ended midway is billed for what it did."""
    for job in server.jobs.values():
        job["trained_tokens"] = 100 if call.is_a(*LOOK) else job["trained_tokens"]


def test_an_account_that_may_not_train_gets_its_report_with_the_reason(server: JobsServer, tmp_path: Path) -> None:
    server.fault = lambda call: CLOSED if call.is_a(*CREATE) else None
    finished = engine.run(scenario(tmp_path), tmp_path / "w")
    assert finished.exit_code == 1
    assert finished.report["escalation"]["decision"] == "failed"
    assert "winding down" in finished.report["escalation"]["reason"]
    assert "backend: local" in finished.report["escalation"]["reason"]
    assert server.files == {}


# -- what leaves the house --------------------------------------------------------------------------------------------


def test_consent_says_what_is_uploaded_where_and_what_it_costs(server: JobsServer, tmp_path: Path) -> None:
    path = scenario(tmp_path)
    rows = toys.rows("train", 60, "worked example")
    rows[3]["input"] += " of jo@example.com"
    (path.parent / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    (text, *notes) = engine.uploads(path)
    assert re.search(r"60 train and 15 dev samples \(.* MB\) are uploaded to 127.0.0.1 and train stub/gpt-4.1", text)
    assert re.search(r"tokens x 3 epochs, about \$[\d.]+, at most \$[\d.]+\.", text)
    assert notes == ["1 of the 75 samples hold what looks like e-mail addresses."]
    refused = CliRunner().invoke(app, ["tune", str(path), "--workspace", str(tmp_path / "w"), "--quiet"])
    assert isinstance(refused.exception, InputError)
    assert "are uploaded to 127.0.0.1" in str(refused.exception)
    assert server.calls == []
    done = CliRunner().invoke(app, ["tune", str(path), "--workspace", str(tmp_path / "w"), "--quiet", "--yes"])
    assert done.exit_code == 0


def test_nothing_is_said_of_uploads_where_nothing_leaves(tmp_path: Path) -> None:
    model = toys.script(tmp_path, "model", toys.rules(0.5))
    assert engine.uploads(toys.scenario(tmp_path / "s", model)) == []


def test_secrets_in_the_samples_are_refused_before_anything_is_spent(server: JobsServer, tmp_path: Path) -> None:
    path = scenario(tmp_path)
    rows = toys.rows("train", 60, "worked example")
    rows[3]["input"] += f" {KEY[::-1]} sk-live-abcdef0123456789"
    (path.parent / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"an API key in 1 sample \(") as raised:
        engine.run(path, tmp_path / "w")
    assert "sk-live" not in str(raised.value)
    assert server.calls == []
    assert not (tmp_path / "w").exists()
    text = path.read_text("utf-8").replace("recipe: {}", "recipe: {allow_secrets: true}")
    path.write_text(text, encoding="utf-8")
    assert engine.run(path, tmp_path / "w").report["escalation"]["tuned"]


def test_pairs_come_from_the_samples_own_wrong_answers(server: JobsServer, tmp_path: Path) -> None:
    path = scenario(tmp_path, recipe={"method": "dpo"})
    with pytest.raises(InputError, match="60 train samples have no wrong answer"):
        lineup(load_scenario(path))
    rows = [{**row, "rejected": "none"} for row in toys.rows("train", 60, "worked example")]
    (path.parent / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    assert engine.tune(path, tmp_path / "w").exit_code == 0
    sent = next(call.body for call in server.calls if call.is_a(*CREATE))
    assert sent["method"]["type"] == "dpo"


def test_the_base_may_be_of_any_endpoint_and_of_no_other_backend(server: JobsServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot tune"):
        lineup(load_scenario(scenario(tmp_path, fine_tune={"base": "local/smollm2-135m"})))
    found = lineup(load_scenario(scenario(tmp_path, fine_tune={"base": None})))
    assert found.tuning[0].model == MODEL


def test_the_key_is_in_nothing_that_is_written(server: JobsServer, tmp_path: Path) -> None:
    server.stages = ("queued", "failed")
    server.error = {"code": "x", "message": f"rejected for {KEY}", "param": None}
    leaks = [wire.error(500, f"Bearer {KEY} broke it"), Fault(200, {"error": {"message": f"upstream said {KEY}"}})]
    server.fault = lambda call: leaks.pop() if leaks and call.is_a(*UPLOAD) else None
    finished = engine.run(scenario(tmp_path), tmp_path / "w")
    assert "[key]" in finished.report["escalation"]["reason"]
    server.stages = ("queued", "succeeded")
    engine.run(scenario(tmp_path, n_test=42), tmp_path / "w")
    written = [file for folder in ("w", "s", "cache") for file in (tmp_path / folder).rglob("*") if file.is_file()]
    assert any(file.name == "tuned.json" for file in written)
    assert [file for file in written if KEY.encode() in file.read_bytes()] == []
    assert all(call.headers["authorization"] == f"Bearer {KEY}" for call in server.calls)


# -- kills ------------------------------------------------------------------------------------------------------------

DRIVER = """
import sys
from backends.openai import tune
from backends.openai.pace import Pace
tune.Pace = lambda: Pace(0.01, 0.02)
from advisor.cli import main
sys.argv = ["advisor", *sys.argv[1:]]
main()
"""


class Killer:
    """Lets a request of a kind hang after it was carried out, and tells when it has come."""

    def __init__(self, kind: tuple[str, str], after: int = 0) -> None:
        self.reached = threading.Event()
        self._kind, self._after = kind, after

    def __call__(self, call: Call) -> Fault | None:
        if self.reached.is_set() or not call.is_a(*self._kind):
            return None
        self._after -= 1
        if self._after >= 0:
            return None
        self.reached.set()
        return Fault(hang=True)


def start(path: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, "tune", str(path), "--workspace", "w", "--yes", "--quiet", *options]
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(UPLOAD, id="upload"),
        pytest.param(CREATE, id="creation", marks=pytest.mark.slow),
        pytest.param(LOOK, id="training"),
        pytest.param(("GET", "/files/file-results/content"), id="results", marks=pytest.mark.slow),
        pytest.param(("DELETE", "/files/.*"), id="cleaning", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_finds_its_job_again_and_pays_for_it_once(
    kind: tuple[str, str], server: JobsServer, tmp_path: Path
) -> None:
    path = scenario(tmp_path, budget={"usd": 5})
    server.fault = killer = Killer(kind)
    process = start(path)
    assert killer.reached.wait(120), process.communicate()
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (run_folder,) = (tmp_path / "w" / "runs").iterdir()
    finished = engine.tune(path, tmp_path / "w", resume=run_folder.name)
    assert finished.exit_code == 0
    assert len(server.jobs) == 1
    assert server.count(*CREATE) == 1
    assert server.files == {}
    assert finished.report["escalation"]["tuned"]["cost_usd"] == pytest.approx(server.trained_usd)
    assert finished.report["spent"]["usd"] == pytest.approx(server.billed_usd)


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on_and_how_to_end_it(
    server: JobsServer, tmp_path: Path
) -> None:
    path = scenario(tmp_path)
    server.stages = ("queued",)
    looked = threading.Event()
    server.fault = lambda call: looked.set() if call.is_a(*LOOK) else None
    process = start(path)
    assert looked.wait(120), process.communicate()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    (run_folder,) = (tmp_path / "w" / "runs").iterdir()
    (job,) = server.jobs
    assert f"--resume {run_folder.name}" in told
    assert f"The tuning job {job} goes on at 127.0.0.1" in told
    assert f"/fine_tuning/jobs/{job}/cancel" in told
    assert KEY not in told
    assert server.cancelled == []
    server.stages = ("queued", "succeeded")
    server.fault = lambda call: None
    assert engine.tune(path, tmp_path / "w", resume=run_folder.name).exit_code == 0
    assert len(server.jobs) == 1


def test_a_job_that_outlives_a_sitting_keeps_its_dollars_reserved(server: JobsServer, tmp_path: Path) -> None:
    """While nobody waits for it, its worst case counts against the cap of the run."""
    path = scenario(tmp_path, budget={"usd": 5}, recipe={"max_hours": 1e-6})
    server.stages = ("queued",)
    with pytest.raises(BackendUnavailable, match="goes on at"):
        engine.tune(path, tmp_path / "w")
    (run_folder,) = (tmp_path / "w" / "runs").iterdir()
    rows = unsettled(tmp_path / "w")
    assert len(rows) == 1
    server.stages = ("queued", "succeeded")
    finished = engine.tune(path, tmp_path / "w", resume=run_folder.name)
    assert finished.report["spent"]["usd"] == pytest.approx(server.billed_usd)
    assert unsettled(tmp_path / "w") == {}


def unsettled(workspace: Path) -> dict[str, float]:
    from evals.cache import store_path
    from evals.store import Store

    with Store.open(store_path(workspace)) as store:
        (row,) = store.runs()
        return store.unsettled(row.id)
