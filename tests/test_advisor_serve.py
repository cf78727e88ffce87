"""The winner of a run behind an OpenAI-compatible endpoint, asked through OpenAI's own client."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import openai
import pytest
from rich.console import Console

from advisor import engine
from advisor.cli.serve import serve
from advisor.scenario.load import load_scenario
from advisor.serve.endpoint import Endpoint, is_loopback
from advisor.serve.served import BareModel, FittedCandidate, Served
from advisor.serve.winner import read_winner
from advisor.workspace import Workspace
from backends import registry as backends
from backends.errors import InputError
from evals.cache import store_path
from evals.store import Store
from tests import toys


@asynccontextmanager
async def client(served: Served, key: str | None = None, host: str = "127.0.0.1") -> AsyncIterator[openai.AsyncOpenAI]:
    application = Endpoint([served], key).application(local_only=True)
    transport = httpx2.ASGITransport(app=application)
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        openai.AsyncOpenAI(base_url=f"http://{host}/v1", api_key="shown", http_client=http, max_retries=0) as found,
    ):
        yield found


@pytest.fixture
def finished(tmp_path: Path) -> engine.Finished:
    """A run that picks few-shot: without worked examples the model gets half wrong."""
    model = toys.script(tmp_path, "m", [*toys.rules(1.0, needs="worked example"), *toys.rules(0.3, seed=1)])
    found = engine.run(toys.scenario(tmp_path / "s", model), tmp_path / "w")
    assert str(found.report["pick"]).startswith("few_shot")
    return found


def winner(finished: engine.Finished, tmp_path: Path) -> FittedCandidate:
    return FittedCandidate(*read_winner(Workspace(tmp_path / "w"), finished.report["run_id"]))


async def test_the_winner_answers_as_it_did_in_the_run(finished: engine.Finished, tmp_path: Path) -> None:
    task = load_scenario(tmp_path / "s").task
    inputs = {sample.id: sample.input for sample in task.test}
    with Store.open(store_path(tmp_path / "w")) as store:
        trials = store.trials(finished.report["run_id"], finished.report["pick"], "test")
    assert len(trials) > 10
    async with client(winner(finished, tmp_path)) as asked:
        for trial in trials[:12]:
            answer = await asked.chat.completions.create(
                model="toy",
                messages=[
                    {"role": "system", "content": "The client's own prompt."},
                    {"role": "user", "content": inputs[trial.sample_id]},
                ],
            )
            assert answer.choices[0].message.content == trial.output
            assert answer.usage is not None
            assert answer.usage.prompt_tokens == trial.usage.input_tokens
            assert answer.usage.completion_tokens == trial.usage.output_tokens


async def test_a_stream_carries_the_same_text_and_the_usage(finished: engine.Finished, tmp_path: Path) -> None:
    async with client(winner(finished, tmp_path)) as asked:
        messages = [{"role": "user", "content": "message 3 about iron and more"}]
        whole = await asked.chat.completions.create(model="toy", messages=messages)
        stream = await asked.chat.completions.create(
            model="toy", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content == "metal"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None, "stop"]
    assert chunks[-1].usage == whole.usage


async def test_the_list_of_models_names_the_scenario(finished: engine.Finished, tmp_path: Path) -> None:
    async with client(winner(finished, tmp_path)) as asked:
        assert [model.id async for model in asked.models.list()] == ["toy"]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "exactly one user message"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "exactly one user message"),
        ([{"role": "nobody", "content": "a"}], "messages.0.role"),
        ([], "messages"),
    ],
)
async def test_conversations_it_was_not_tested_on_are_refused(
    finished: engine.Finished, tmp_path: Path, messages: list[dict[str, str]], says: str
) -> None:
    async with client(winner(finished, tmp_path)) as asked:
        with pytest.raises(openai.BadRequestError, match=says):
            await asked.chat.completions.create(model="toy", messages=messages)


async def test_another_model_is_not_found(finished: engine.Finished, tmp_path: Path) -> None:
    async with client(winner(finished, tmp_path)) as asked:
        with pytest.raises(openai.NotFoundError, match="there is toy"):
            await asked.chat.completions.create(model="other", messages=[{"role": "user", "content": "a"}])


async def test_a_bare_model_takes_the_clients_conversation(tmp_path: Path) -> None:
    name = toys.script(tmp_path, "m", toys.rules(1.0))
    async with client(BareModel(backends.open_chat(name, backends.Settings()))) as asked:
        answer = await asked.chat.completions.create(
            model=name,
            messages=[{"role": "user", "content": [{"type": "text", "text": "message 1 about zinc and more"}]}],
            max_tokens=5,
        )
    assert answer.choices[0].message.content == "metal"


async def test_a_key_is_asked_for_when_there_is_one(finished: engine.Finished, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "message 3 about iron and more"}]
    async with client(winner(finished, tmp_path), key="another") as asked:
        with pytest.raises(openai.AuthenticationError):
            await asked.chat.completions.create(model="toy", messages=messages)
    async with client(winner(finished, tmp_path), key="shown") as asked:
        assert (await asked.chat.completions.create(model="toy", messages=messages)).choices


async def test_a_page_that_reaches_the_port_under_another_name_is_refused(
    finished: engine.Finished, tmp_path: Path
) -> None:
    async with client(winner(finished, tmp_path), host="evil.example") as asked:
        with pytest.raises(openai.BadRequestError) as refused:
            await asked.models.list()
        assert refused.value.response.text == "Invalid host header"


async def test_a_body_without_end_is_refused(finished: engine.Finished, tmp_path: Path) -> None:
    async with client(winner(finished, tmp_path)) as asked:
        with pytest.raises(openai.APIStatusError, match="larger than"):
            await asked.chat.completions.create(model="toy", messages=[{"role": "user", "content": "a" * 9_000_000}])


def test_a_run_without_a_pick_has_nothing_to_serve(tmp_path: Path) -> None:
    model = toys.script(tmp_path, "m", toys.rules(0.1))
    path = toys.scenario(tmp_path / "s", model, fine_tune={"when": "never"})
    found = engine.run(path, tmp_path / "w")
    assert found.report["pick"] is None
    with pytest.raises(InputError, match="no winner to serve"):
        serve(Console(), found.report["run_id"], tmp_path / "w", "127.0.0.1", 0)
    with pytest.raises(InputError, match="the workspace has no run with a pick"):
        serve(Console(), "last", tmp_path / "w", "127.0.0.1", 0)


def test_other_machines_are_let_in_only_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADVISOR_SERVE_KEY", raising=False)
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    with pytest.raises(InputError, match="ADVISOR_SERVE_KEY"):
        serve(Console(), "scripted/x.json", tmp_path, "0.0.0.0", 0)


def test_the_command_serves_until_it_is_interrupted(finished: engine.Finished, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "advisor", "serve", finished.report["run_id"]]
    command += ["--workspace", str(tmp_path / "w"), "--port", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/v1", line)
        assert url is not None, line
        with openai.OpenAI(base_url=url[0], api_key="x") as asked:
            answer = asked.chat.completions.create(
                model="toy", messages=[{"role": "user", "content": "message 3 about iron and more"}]
            )
        assert answer.choices[0].message.content == "metal"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) in {0, 130, -signal.SIGINT}
