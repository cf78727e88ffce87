"""Every request that the backend writes is valid by OpenAI's own description of its API, as Prism reads it.

Prism comes from npm on the first run: `python -m pytest tests/test_backends_openai_prism.py -m network`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from backends.errors import RequestError
from backends.openai.chat import OpenAIChat
from backends.openai.embed import OpenAIEmbedder
from backends.openai.endpoints import Endpoint
from backends.openai.failures import BilledError
from backends.types import ChatRequest, Message, Tool, ToolCall

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


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_every_chat_request_is_valid(name: str, limit: str, endpoint: Endpoint) -> None:
    chat = OpenAIChat("prism/gpt-4o", endpoint, "gpt-4o")
    chat._memory.learn(frozenset({"max_tokens", "max_completion_tokens"} - {limit}))
    before = chat._memory.refused
    assert (await chat.complete(REQUESTS[name])).text
    # Nothing was refused; the mock's answer keeps to no form, which is all that may be learnt.
    assert {feature.partition(" ")[0] for feature in chat._memory.refused - before} <= {"strict", "json_schema"}
    await chat.aclose()


async def test_every_embedding_request_is_valid(endpoint: Endpoint) -> None:
    embedder = OpenAIEmbedder("prism/text-embedding-3-small", endpoint, "text-embedding-3-small")
    # The mock makes numbers up, among them some that no vector holds; a refusal would be no BilledError.
    with contextlib.suppress(BilledError):
        await embedder.embed(["one"])
    assert embedder._memory.refused == frozenset()
    await embedder.aclose()


async def test_prism_does_refuse_what_is_wrong(endpoint: Endpoint) -> None:
    chat = OpenAIChat("prism/gpt-4o", endpoint, "gpt-4o")
    with pytest.raises(RequestError, match="422"):
        await chat.complete(replace(ASK, messages=()))
    await chat.aclose()
