"""Every request that the backend writes is valid by OpenAI's own description of its API, as Prism reads it.

Prism comes from npm on the first run: `python -m pytest tests/test_backends_openai_prism.py -m network`.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from backends.errors import RequestError
from backends.openai import job_creation
from backends.openai.batches_api import BatchesApi
from backends.openai.capabilities import Search
from backends.openai.chat import OpenAIChat
from backends.openai.client import Refused
from backends.openai.embed import OpenAIEmbedder
from backends.openai.endpoints import Endpoint
from backends.openai.failures import BilledError, Failure
from backends.openai.job_body import body_of
from backends.openai.job_state import StateFile
from backends.openai.job_work import looked_through
from backends.openai.jobs_api import JobsApi
from backends.openai.settings import EndpointSettings
from backends.openai.training_file import files_of
from backends.types import ChatRequest, Message, Tool, ToolCall, TuneJob

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.skipif(not shutil.which("npx"), reason="needs npx")]

ASK = ChatRequest((Message("system", "Be brief."), Message("user", "What is it?")), max_tokens=20)
SCHEMA = '{"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]}'
TOOL = Tool("a.look_up", "Look something up.", '{"type": "object", "properties": {"word": {"type": "string"}}}')
HISTORY = (
    *ASK.messages,
    Message("assistant", "", (ToolCall("a.look_up", "{}", "c1"), ToolCall("a.look_up", "{}", "c2"))),
    Message("tool", "a fruit", tool_call_id="c1"),
    Message("tool", "a metal", tool_call_id="c2"),
)
REQUESTS = {
    "plain": ASK,
    "sampled": replace(ASK, temperature=2.0, seed=2**60, repeat=999_999, stop=tuple("abcdef")),
    "log probabilities": replace(ASK, logprobs=True),
    "choices": replace(ASK, choices=("red", "blue")),
    "a schema": replace(ASK, json_schema=SCHEMA),
    "a list": replace(ASK, json_schema='{"type": "array", "items": {"type": "integer"}}'),
    "tools": replace(ASK, tools=(TOOL,), tool_choice="required"),
    "tools and their results": replace(ASK, messages=HISTORY, tools=(TOOL,)),
    "no tools": replace(ASK, tools=(TOOL,), tool_choice="none"),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Prism as a mock that refuses what the description does not allow."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spec = Path(__file__).with_name("openai_api.yaml")
    command = ["npx", "--yes", "-p", "@stoplight/prism-cli@5.14.2", "prism", "mock", "-h", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        [*command, "--errors", str(spec)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/models")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def wait_for(url: str) -> None:
    for _ in range(240):
        with contextlib.suppress(httpx2.TransportError):
            httpx2.get(url, trust_env=False)
            return
        time.sleep(0.5)
    raise AssertionError("Prism did not start")


@pytest.fixture
def endpoint(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PRISM_KEY", "sk-any-key-will-do")
    return Endpoint("prism", url, "PRISM_KEY")


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is refused of requests, as they are asked otherwise thereafter."""
    found: list[str] = []
    refused = Search.refused

    def noted(self: Search, failure: Failure, sent: Sequence[str]) -> bool:
        found.append(failure.text)
        return refused(self, failure, sent)

    monkeypatch.setattr(Search, "refused", noted)
    return found


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_every_chat_request_is_valid(name: str, limit: str, endpoint: Endpoint, refusals: list[str]) -> None:
    chat = OpenAIChat("prism/gpt-4o", endpoint, "gpt-4o")
    chat._memory.learn(frozenset({"max_tokens", "max_completion_tokens"} - {limit}))
    before = chat._memory.refused
    assert (await chat.complete(REQUESTS[name])).text
    assert refusals == []
    # The mock's answer keeps to no form and calls no tool, which is all that may be learnt.
    learnt = {feature.partition(" ")[0] for feature in chat._memory.refused - before}
    assert learnt <= {"strict", "json_schema", "json_object", "tools"}
    await chat.aclose()


async def test_a_request_for_several_answers_is_valid(endpoint: Endpoint, refusals: list[str]) -> None:
    chat = OpenAIChat("prism/gpt-4o", endpoint, "gpt-4o")
    drawn = [replace(ASK, temperature=0.7, repeat=number) for number in range(3)]
    assert all(found.text for found in await asyncio.gather(*map(chat.complete, drawn)))
    assert refusals == []
    await chat.aclose()


async def test_every_embedding_request_is_valid(endpoint: Endpoint) -> None:
    embedder = OpenAIEmbedder("prism/text-embedding-3-small", endpoint, "text-embedding-3-small")
    # The mock makes numbers up, among them some that no vector holds; a refusal would be no BilledError.
    with contextlib.suppress(BilledError):
        await embedder.embed(["one"])
    assert embedder._memory.refused == frozenset()
    await embedder.aclose()


def tune_job(folder: Path, **recipe: Any) -> TuneJob:
    asked = tuple(
        (Message("system", "Sort."), Message("user", f"message {number}"), Message("assistant", f"answer {number % 2}"))
        for number in range(12)
    )
    wrong = ("no",) * 12 if recipe.get("method") == "dpo" else ()
    return TuneJob("prism/gpt-4.1-mini-2025-04-14", asked, asked[:2], 1, folder, recipe, None, wrong, wrong[:2])


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"epochs": 50, "batch_size": 256, "learning_rate_multiplier": 0.1, "suffix": "x" * 64},
        {"method": "dpo", "beta": 2},
        {"lora_r": 8, "extra_body": {"trainingType": "Standard"}},
    ],
    ids=["plain", "every figure", "dpo", "others' fields"],
)
@pytest.mark.parametrize("as_openai", [True, False])
async def test_every_request_that_begins_a_job_is_valid(
    recipe: dict[str, Any], as_openai: bool, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.openai.job_work.find", lambda name: (endpoint, name.partition("/")[2]))
    work = looked_through(tune_job(tmp_path, **recipe))
    if as_openai:
        monkeypatch.setattr("backends.openai.endpoints.Endpoint.is_openai", True)
    files = files_of(work.job, work.recipe)
    state = StateFile(tmp_path, work.key, endpoint.base_url)
    async with JobsApi(endpoint) as api:
        uploaded = await api.upload(f"advisor-{work.key[:24]}-train.jsonl", files.train)
        state.change(train_file=str(uploaded["id"]), dev_file=str(uploaded["id"]))
        assert (await api.create(body_of(work, state, files)))["object"] == "fine_tuning.job"


async def test_every_request_about_files_jobs_and_models_is_valid(endpoint: Endpoint) -> None:
    async with JobsApi(endpoint) as api:
        assert await api.files() is not None
        assert (await api.file("file-abc"))["object"] == "file"
        await api.content("file-abc")
        await api.delete("file-abc")
        assert await api.jobs({job_creation.NONCE: "0" * 64})
        assert (await api.job("ftjob-abc"))["object"] == "fine_tuning.job"
        assert await api.events("ftjob-abc") is not None
        assert await api.checkpoints("ftjob-abc")
        assert (await api.cancel("ftjob-abc"))["object"] == "fine_tuning.job"
        assert (await api.model("ft:gpt-4.1-mini-2025-04-14:acme::abc"))["object"] == "model"


async def test_prism_refuses_a_job_that_is_wrong(endpoint: Endpoint) -> None:
    async with JobsApi(endpoint) as api:
        with pytest.raises(Refused):
            await api.create({"model": "gpt-4.1-mini"})
        wrong = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 51}}}
        with pytest.raises(Refused):
            await api.create({"model": "x", "training_file": "file-1", "method": wrong})


async def test_every_request_about_batches_is_valid(endpoint: Endpoint) -> None:
    async with BatchesApi(endpoint) as api:
        line = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'
        file_id = str((await api.upload("advisor-1.jsonl", line))["id"])
        assert await api.files()
        assert await api.content(file_id)
        batch = await api.begin(file_id, "/chat/completions", {"advisor_batch": "advisor-1"})
        assert (await api.batch(str(batch["id"])))["status"]
        assert await api.batches()
        await api.delete(file_id)
        with pytest.raises(Refused, match="422"):
            await api.begin(file_id, "/no/such/path", {})


async def test_a_streamed_request_is_valid_although_the_mock_does_not_stream(endpoint: Endpoint) -> None:
    chat = OpenAIChat("prism/gpt-4o", replace(endpoint, settings=EndpointSettings(stream=True)), "gpt-4o")
    assert (await chat.complete(ASK)).text
    assert not {"stream", "stream_options"} & chat._memory.refused
    await chat.aclose()


async def test_prism_does_refuse_what_is_wrong(endpoint: Endpoint) -> None:
    chat = OpenAIChat("prism/gpt-4o", endpoint, "gpt-4o")
    with pytest.raises(RequestError, match="422"):
        await chat.complete(replace(ASK, messages=()))
    await chat.aclose()
