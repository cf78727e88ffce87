"""Fine-tuning jobs at a server that counts what it is asked: created once, waited for, cleaned up, come what may."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends import registry
from backends.errors import BackendUnavailable, InputError, RequestError
from backends.openai import job_results
from backends.openai.chat import OpenAIChat
from backends.openai.job_creation import NONCE
from backends.openai.job_results import table_of, trained_tokens
from backends.openai.pace import Pace
from backends.openai.retries import Policy
from backends.openai.tune import OpenAITuner
from backends.types import ChatRequest, Message, TunedModel, TuneJob, TuneProgress
from tests import openai_server as wire
from tests.openai_jobs_server import BASE, CLOSED, STEPS, Call, JobsServer
from tests.openai_server import Fault

KEY = "sk-planted-0123456789abcdef"
PACE = Pace(0.001, 0.002)
POLICY = Policy(attempts=4, first_seconds=0.001, most_seconds=0.002)
CREATE, UPLOAD, LOOK = (
    ("POST", "/fine_tuning/jobs"),
    ("POST", "/files"),
    ("GET", "/fine_tuning/jobs/ftjob-.*"),
)


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JobsServer]:
    """An endpoint called `stub` in an advisor.toml of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUB_KEY", KEY)
    async with JobsServer() as running:
        describe(running)
        yield running


def describe(server: JobsServer, extra: str = "") -> None:
    prices = '[endpoints.stub.prices."*"]\ninput = 1.0\noutput = 2.0\ntraining = 5.0\n'
    text = f'[endpoints.stub]\nbase_url = "{server.url}"\nkey_env = "STUB_KEY"\n{extra}{prices}'
    Path("advisor.toml").write_text(text, encoding="utf-8")


def turns(number: int, split: str = "train") -> tuple[Message, ...]:
    word, label = (("apple", "fruit"), ("iron", "metal"))[number % 2]
    asked = f"{split} message {number} about {word}"
    return (Message("system", "Sort."), Message("user", asked), Message("assistant", label))


def a_job(folder: Path = Path("job"), **recipe: Any) -> TuneJob:
    train = tuple(turns(number) for number in range(40))
    dev = tuple(turns(number, "dev") for number in range(4))
    return TuneJob(f"stub/{BASE}", train, dev, 7, folder.absolute(), {"epochs": 2, **recipe})


def tuner(policy: Policy = POLICY) -> OpenAITuner:
    return OpenAITuner(pace=PACE, policy=policy)


async def tuned(job: TuneJob | None = None) -> TunedModel:
    return await tuner().tune(job or a_job())


def at(kind: tuple[str, str], *faults: Fault | None) -> Any:
    """A fault plan: the first requests of this kind get these, all others are answered."""
    left = list(faults)
    return lambda call: left.pop(0) if left and call.is_a(*kind) else None


async def test_a_job_is_created_once_and_its_model_answers_as_it_was_taught(server: JobsServer) -> None:
    seen: list[TuneProgress] = []
    model = await tuner().tune(a_job(), seen.append)
    (job,) = server.jobs.values()
    created = next(call.body for call in server.calls if call.is_a(*CREATE))
    assert created["model"] == BASE
    assert created["seed"] == 7
    assert created["hyperparameters"] == {"n_epochs": 2}
    assert len(created["metadata"][NONCE]) == 64
    assert len(created["suffix"]) <= 64
    assert model.name == f"stub/{job['fine_tuned_model']}"
    assert model.trained_tokens == job["trained_tokens"]
    assert model.cost_usd == pytest.approx(server.trained_usd)
    assert model.seconds == 600
    assert model.hosted
    assert not model.cached
    assert len(model.losses) == STEPS
    assert model.recipe["epochs"] == 2
    assert model.recipe["learning_rate_multiplier"] == 1.8
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == ["uploading the samples", "creating the job", "files are checked", "queued", ""]
    assert [progress.step for progress in seen if not progress.phase] == [10, 20, 30, 40]
    chat = registry.open_chat(model.name, registry.Settings(), model.folder)
    answer = await chat.complete(ChatRequest((Message("user", "message 99 about iron"),)))
    assert answer.text == "metal"
    await chat.aclose()


async def test_what_was_uploaded_is_deleted_in_the_end(server: JobsServer) -> None:
    await tuned()
    assert len(server.uploaded) == 2
    assert server.files == {}


async def test_a_finished_job_is_found_in_its_folder_and_nothing_is_sent(server: JobsServer) -> None:
    first = await tuned()
    sent = len(server.calls)
    again = await tuned()
    assert len(server.calls) == sent
    assert again == replace(first, cached=True)
    quote = tuner().quote(a_job())
    assert quote.finished
    assert quote.worst_usd == 0
    with pytest.raises(InputError, match="holds another model"):
        await tuned(replace(a_job(), seed=8))


async def test_a_job_that_somebody_finished_before_is_taken_and_not_paid_again(server: JobsServer) -> None:
    first = await tuned(a_job(Path("here")))
    again = await tuned(a_job(Path("there")))
    assert again.name == first.name
    assert again.cached
    assert len(server.jobs) == 1
    assert len(server.uploaded) == 2


async def test_another_seed_is_another_job(server: JobsServer) -> None:
    await tuned(a_job(Path("a")))
    await tuned(replace(a_job(Path("b")), seed=8))
    await tuned(a_job(Path("c"), max_hours=3.0))  # how long one waits makes no other model
    assert len(server.jobs) == 2


async def test_the_quote_is_a_bound_of_the_bill(server: JobsServer) -> None:
    quote = tuner().quote(a_job())
    model = await tuned()
    assert quote.usd == pytest.approx(model.cost_usd)
    assert quote.worst_usd is not None
    assert model.cost_usd is not None
    assert quote.worst_usd >= model.cost_usd
    assert (quote.train, quote.dev, quote.epochs) == (40, 4, 2)
    assert quote.place == "127.0.0.1"


AFTER_WORK = [Fault(cut=True), Fault(500, {"error": {"message": "The server had an error."}}), Fault(200, {"ok": 1})]
"""What may come back from a request that was carried out, or was not."""


@pytest.mark.parametrize("fault", [Fault(cut=True), *AFTER_WORK[1:]])
async def test_a_creation_whose_outcome_nobody_knows_makes_one_job(fault: Fault, server: JobsServer) -> None:
    server.fault = at(CREATE, fault)
    model = await tuned()
    assert len(server.jobs) == 1
    assert model.name.endswith(next(iter(server.jobs.values()))["fine_tuned_model"])


async def test_a_creation_that_shows_late_is_not_paid_twice(server: JobsServer) -> None:
    """The list lags behind: the first job appears only after a second one was made, which is then ended."""
    late = Fault(200, {"object": "list", "data": [], "has_more": False})
    lists = 0

    def fault(call: Call) -> Fault | None:
        nonlocal lists
        if call.is_a("GET", "/fine_tuning/jobs"):
            lists += 1
            return late if lists <= 5 else None
        return at_create(call)

    at_create = at(CREATE, Fault(cut=True))
    server.fault = fault
    model = await tuned()
    assert server.count(*CREATE) == 2
    first, second = server.jobs
    assert server.cancelled == [second]
    assert model.name == f"stub/{server.jobs[first]['fine_tuned_model']}"


async def test_a_busy_endpoint_is_asked_again(server: JobsServer) -> None:
    server.fault = at(CREATE, wire.BUSY, wire.BUSY)
    await tuned()
    assert len(server.jobs) == 1


async def test_every_call_may_fail_once(server: JobsServer) -> None:
    """A fault at each request in turn, done and then cut off: one job, one model, no file left."""
    await tuned()
    calls = list(server.calls)
    for number in range(len(calls)):
        async with JobsServer() as fresh:
            describe(fresh)
            fresh.fault = lambda call, number=number: Fault(cut=True) if call.number == number else None  # type: ignore[misc]
            model = await tuned(a_job(Path(f"job-{number}")))
            assert len(fresh.jobs) == 1, calls[number].path
            assert fresh.files == {}, calls[number].path
            assert model.cost_usd == pytest.approx(fresh.trained_usd)


async def test_an_upload_whose_outcome_nobody_knows_is_not_repeated(server: JobsServer) -> None:
    server.fault = at(UPLOAD, Fault(cut=True))
    await tuned()
    assert len(server.uploaded) == 2
    assert server.files == {}


async def test_a_closed_account_is_told_why_and_its_uploads_are_deleted(
    server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fault = at(CREATE, CLOSED)
    with pytest.raises(RequestError, match="winding down") as raised:
        await tuned()
    text = str(raised.value)
    assert "backend: local" in text
    assert "has been deleted" in text
    assert raised.value.usage.cost_usd == 0
    assert server.files == {}
    assert len(server.uploaded) == 2
    # Where it is OpenAI itself, with its dates.
    monkeypatch.setattr("backends.openai.endpoints.Endpoint.is_openai", True)
    server.fault = at(CREATE, CLOSED)
    with pytest.raises(RequestError, match=r"2026-05-07.*2027-01-06.*2027-01-14"):
        await tuned(a_job(Path("other")))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            wire.error(400, "Model gpt-x is not available for fine-tuning", code="model_not_available"),
            "not available for",
        ),
        (wire.error(400, "n_epochs is too large", param="n_epochs"), "n_epochs is too large"),
        (Fault(404, {"detail": "Not Found"}), "has no fine-tuning jobs"),
    ],
)
async def test_a_refused_job_says_so_and_leaves_nothing_behind(fault: Fault, message: str, server: JobsServer) -> None:
    server.fault = lambda call: fault if call.is_a(*CREATE) else None
    with pytest.raises(RequestError, match=message):
        await tuned()
    assert server.files == {}
    assert server.jobs == {}


async def test_a_server_without_jobs_is_told_from_one_that_fails(server: JobsServer) -> None:
    server.fault = lambda call: Fault(404, {"error": {"message": "no such route"}})
    with pytest.raises(RequestError, match="has no fine-tuning jobs, as most servers"):
        await tuned()
    assert server.uploaded == []


@pytest.mark.parametrize("fault", [wire.WRONG_KEY, wire.HTML, wire.BROKEN])
async def test_an_endpoint_that_is_out_stops_the_run_with_its_reason(fault: Fault, server: JobsServer) -> None:
    server.fault = lambda call: fault
    with pytest.raises(BackendUnavailable, match=r"key|web page|failed"):
        await tuned()
    assert server.jobs == {}


async def test_a_job_that_fails_its_checks_says_what_the_endpoint_says(server: JobsServer) -> None:
    server.stages = ("validating_files", "failed")
    said = f"The job failed due to an unsafe training file, key {KEY}"
    server.error = {"code": "unsafe_file", "message": said, "param": "training_file"}
    with pytest.raises(RequestError, match=r"failed: The job failed due to an unsafe .*\(training_file\)") as raised:
        await tuned()
    assert raised.value.usage.cost_usd == 0
    assert KEY not in str(raised.value)
    assert server.files == {}
    # Asked again, for instance after a wait, it is another attempt.
    server.stages = ("queued", "succeeded")
    assert (await tuned()).name
    assert len(server.jobs) == 2


async def test_a_cancelled_job_costs_what_it_had_trained_or_nobody_knows(server: JobsServer) -> None:
    server.stages = ("running", "cancelled")
    with pytest.raises(RequestError, match="was cancelled") as raised:
        await tuned()
    assert raised.value.usage.cost_usd is None


async def test_a_job_that_is_stuck_ends_the_sitting_and_is_taken_up_by_the_next(server: JobsServer) -> None:
    server.stages = ("queued",)
    with pytest.raises(BackendUnavailable, match=r"still queued after 1e-05 hours.*goes on.*curl -X POST") as raised:
        await tuned(a_job(max_hours=0.00001))
    assert "$STUB_KEY" in str(raised.value)
    assert KEY not in str(raised.value)
    server.stages = ("queued", "succeeded")
    assert (await tuned()).trained_tokens
    assert len(server.jobs) == 1
    assert len(server.uploaded) == 2


async def test_an_outage_while_the_job_runs_is_sat_out(server: JobsServer) -> None:
    looks = 0

    def fault(call: Call) -> Fault | None:
        nonlocal looks
        looks += call.is_a(*LOOK)
        return wire.BROKEN if 2 <= looks <= 14 and call.is_a(*LOOK) else None

    server.fault = fault
    model = await tuned()
    assert model.trained_tokens
    assert len(server.jobs) == 1


async def test_an_outage_without_end_leaves_a_job_that_can_be_taken_up(server: JobsServer) -> None:
    server.fault = lambda call: wire.BROKEN if call.is_a(*LOOK) else None
    with pytest.raises(BackendUnavailable, match=r"goes on at 127\.0\.0\.1; --resume takes it up"):
        await tuned()
    assert "ftjob-" in str(tuner().left_running(a_job()))
    server.fault = lambda call: None
    assert not (await tuned()).cached
    assert len(server.jobs) == 1
    assert tuner().left_running(a_job()) is None


async def test_a_job_that_is_gone_is_an_error_of_unknown_cost(server: JobsServer) -> None:
    server.fault = lambda call: Fault(404, {"error": {"message": "Could not find"}}) if call.is_a(*LOOK) else None
    with pytest.raises(RequestError, match="is gone from") as raised:
        await tuned()
    assert raised.value.usage.cost_usd is None


async def interrupted(job: TuneJob, until: asyncio.Event) -> None:
    running = asyncio.create_task(tuner().tune(job))
    await until.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_interruption_leaves_the_job_running_and_the_next_sitting_finds_it(server: JobsServer) -> None:
    server.stages = ("queued",)
    looked = asyncio.Event()
    server.fault = lambda call: looked.set() if call.is_a(*LOOK) else None
    await interrupted(a_job(), looked)
    assert server.cancelled == []
    left = tuner().left_running(a_job())
    assert left is not None
    assert next(iter(server.jobs)) in left
    server.stages = ("queued", "succeeded")
    assert not (await tuned()).cached
    assert len(server.jobs) == 1


async def test_an_interruption_ends_the_job_where_the_recipe_says_so(server: JobsServer) -> None:
    server.stages = ("queued",)
    looked = asyncio.Event()
    server.fault = lambda call: looked.set() if call.is_a(*LOOK) else None
    await interrupted(a_job(cancel_on_interrupt=True), looked)
    assert server.cancelled == list(server.jobs)
    assert server.files == {}
    assert tuner().left_running(a_job(cancel_on_interrupt=True)) is None


async def test_a_lost_state_file_loses_nothing(server: JobsServer) -> None:
    server.stages = ("queued",)
    looked = asyncio.Event()
    server.fault = lambda call: looked.set() if call.is_a(*LOOK) else None
    await interrupted(a_job(), looked)
    (Path("job") / "job.json").write_text("{ torn", encoding="utf-8")
    server.stages = ("queued", "succeeded")
    await tuned()
    assert len(server.jobs) == 1
    assert server.files == {}


async def test_an_endpoint_that_forgets_metadata_has_the_job_found_by_its_file(server: JobsServer) -> None:
    server.keeps_metadata = False
    for number in range(5):  # other people's jobs, over several pages
        await tuned(replace(a_job(Path(f"other-{number}")), seed=100 + number))
    server.fault = at(CREATE, Fault(cut=True))
    await tuned()
    assert len(server.jobs) == 6


async def test_an_endpoint_that_refuses_metadata_gets_none(server: JobsServer) -> None:
    server.fault = at(CREATE, wire.error(422, "Extra inputs are not permitted", param="metadata"))
    await tuned()
    bodies = [call.body for call in server.calls if call.is_a(*CREATE)]
    assert ["metadata" in body for body in bodies] == [True, False]


async def test_extra_fields_reach_endpoints_that_know_them(server: JobsServer) -> None:
    await tuned(a_job(lora_r=16, extra_body={"trainingType": "developerTier"}))
    body = next(call.body for call in server.calls if call.is_a(*CREATE))
    assert body["trainingType"] == "developerTier"
    assert body["hyperparameters"] == {"n_epochs": 2, "lora_r": 16}


async def test_openai_gets_hyperparameters_under_their_method(
    server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.openai.endpoints.Endpoint.is_openai", True)
    await tuned(a_job(batch_size=4))
    body = next(call.body for call in server.calls if call.is_a(*CREATE))
    figures = {"n_epochs": 2, "batch_size": 4}
    assert body["method"] == {"type": "supervised", "supervised": {"hyperparameters": figures}}
    assert "hyperparameters" not in body


async def test_dpo_sends_pairs(server: JobsServer) -> None:
    job = replace(a_job(method="dpo", beta=0.2), rejected=("none",) * 40)
    await tuned(job)
    body = next(call.body for call in server.calls if call.is_a(*CREATE))
    assert body["method"] == {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "beta": 0.2}}}
    assert "validation_file" not in body
    row = json.loads(server.contents[body["training_file"]].splitlines()[0])
    assert row["non_preferred_output"] == [{"role": "assistant", "content": "none"}]


async def test_checkpoints_that_can_be_asked_are_listed_oldest_first(server: JobsServer) -> None:
    server.states = {20: "", 30: "", STEPS: ""}
    model = await tuned()
    assert [name.rpartition("-")[2] for name in model.checkpoints] == ["20", "30"]
    assert all(name.startswith(model.name) for name in model.checkpoints)
    assert model.dev_losses == ((1, 1 / 20), (2, 1 / 30), (2, 1 / 40))


@pytest.mark.parametrize(
    "message",
    [
        "Step 3/40: training loss=0.52.",
        "Step 3: training loss=1.2.3",
        f"Step {'9' * 5000}/40: training loss=0.1",
        "\x00",
    ],
)
async def test_events_that_say_odd_things_end_no_job(message: str, server: JobsServer) -> None:
    events = {"data": [{"id": "e", "message": message, "data": {"step": 10**400, "train_loss": 10**400}}]}
    server.fault = lambda call: Fault(200, events) if call.is_a("GET", "/.*/events") else None
    seen: list[TuneProgress] = []
    assert (await tuner().tune(a_job(), seen.append)).trained_tokens
    assert len(server.jobs) == 1


def test_rows_of_a_result_file_without_finite_numbers_are_passed_over() -> None:
    rows = table_of(b"step,train_loss\ninf,1\n1,nan\n2,0.5\n3,inf\n,\n")
    assert [point for row in rows if (point := job_results._point(row)) is not None] == [(2, 0.5)]


@pytest.mark.parametrize("tokens", [10**400, 10**15, -1, True, "7"])
def test_trained_tokens_that_are_no_count_are_not_billed(tokens: object) -> None:
    assert trained_tokens({"trained_tokens": tokens}) is None


def test_a_training_without_a_price_is_billed_where_requests_are(server: JobsServer) -> None:
    prices = '[endpoints.stub.prices."*"]\ninput = 1.0\noutput = 2.0\n'
    for described, is_billed in ((prices, True), ("", False)):
        Path("advisor.toml").write_text(f'[endpoints.stub]\nbase_url = "{server.url}"\n{described}', "utf-8")
        quote = tuner().quote(a_job())
        assert (quote.billed, quote.usd, quote.worst_usd) == (is_billed, None, None)


@pytest.mark.parametrize("is_base64", [True, False])
async def test_result_files_are_read_in_both_forms(is_base64: bool, server: JobsServer) -> None:
    server.is_base64 = is_base64
    assert (await tuned()).losses[1] == (2, 1.0)


def test_a_result_file_that_is_none_has_no_rows() -> None:
    assert table_of(b"\x00\xff not a table") == []
    assert table_of(b"") == []


async def test_an_endpoint_without_the_extras_still_gives_its_model(server: JobsServer) -> None:
    """No events, no checkpoints, no result file, no list of files or models."""
    missing = Fault(404, {"detail": "Not Found"})
    extras = ("/.*/events", "/.*/checkpoints", "/files", "/files/file-results/content", "/models/.*")
    server.fault = lambda call: missing if any(call.is_a("GET", path) for path in extras) else None
    seen: list[TuneProgress] = []
    model = await tuner().tune(a_job(), seen.append)
    assert model.losses == ()
    assert model.checkpoints == ()
    assert any("no file of training losses" in note for note in model.notes)
    assert server.files == {}


async def test_a_job_that_names_no_model_says_what_to_do(server: JobsServer) -> None:
    found = {"id": "ftjob-1", "object": "fine_tuning.job", "status": "SUCCEEDED", "metadata": None}
    server.fault = lambda call: Fault(200, found) if call.is_a(*LOOK) or call.is_a(*CREATE) else None
    with pytest.raises(RequestError, match="names no model that can be asked"):
        await tuned()


async def test_a_job_can_go_on_from_a_tuned_model(server: JobsServer) -> None:
    first = await tuned(a_job(Path("first")))
    again = replace(a_job(Path("second")), start=first.folder)
    await tuned(again)
    models = [call.body["model"] for call in server.calls if call.is_a(*CREATE)]
    assert models == [BASE, first.name.removeprefix("stub/")]
    assert registry.start_problem("openai", f"stub/{BASE}", {}, first.folder) is None
    assert "was tuned from" in str(registry.start_problem("openai", "stub/other", {}, first.folder))
    with pytest.raises(InputError, match="no finished tuned model"):
        await tuned(replace(again, start=Path("nowhere")))


async def test_a_tuned_model_is_priced_by_its_base_where_its_name_does_not_show_it(
    server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path("advisor.toml").read_text(encoding="utf-8").replace('prices."*"', f'prices."ft:{BASE}"')
    Path("advisor.toml").write_text(text, encoding="utf-8")
    folder = Path("done")
    folder.mkdir()
    (folder / "tuned.json").write_text(json.dumps({"base": f"stub/{BASE}"}), encoding="utf-8")
    opened = OpenAIChat.open("stub/some-lora-1", folder=folder)
    assert opened.price(opened.worst_case(ChatRequest((Message("user", "x"),)))) is not None
    unknown = OpenAIChat.open("stub/some-lora-1")
    assert unknown.price(unknown.worst_case(ChatRequest((Message("user", "x"),)))) is None


def test_openais_own_training_prices_and_dates_are_in_the_quote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    job = replace(a_job(), base="openai/gpt-4.1-mini-2025-04-14")
    quote = tuner().quote(job)
    assert quote.usd == pytest.approx(quote.tokens * 2 * 5.0 / 1e6)
    assert quote.billed
    assert quote.leaves
    assert quote.priced
    assert any("2027-01-06" in note and "2027-01-14" in note for note in quote.notes)
    unknown = tuner().quote(replace(job, base="openai/gpt-6-luna"))
    assert unknown.usd is None
    assert unknown.worst_usd is None
    assert not unknown.priced


@pytest.mark.parametrize("seed", range(6))
async def test_a_storm_of_faults_ends_in_one_job_that_is_paid_once(seed: int, server: JobsServer) -> None:
    """A fifth of all requests fails, carried out or not; sittings follow one another until it is done."""
    rng = random.Random(f"{seed}:storm")
    storm = [wire.BUSY, wire.BROKEN, wire.HTML, wire.ERROR_IN_200, wire.CUT, Fault(503, "{}"), Fault(200, "{ torn")]
    server.fault = lambda call: rng.choice(storm) if rng.random() < 0.2 else None
    model = None
    for _ in range(30):
        try:
            model = await tuned()
            break
        except BackendUnavailable:
            continue
    assert model is not None
    alive = [job for job in server.jobs.values() if job["id"] not in server.cancelled]
    assert len(alive) == 1
    assert model.name == f"stub/{alive[0]['fine_tuned_model']}"
    assert model.cost_usd == pytest.approx(server.trained_usd)
