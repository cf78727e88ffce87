"""What a call to an endpoint costs this machine: CPU per call and wall-clock against the best possible.

    python benchmarks/api_overhead.py [--calls 1000] [--latency 0 0.05 0.5] [--concurrency 10 50 200]

A stub on loopback, in a process of its own, answers every chat request after the latency. Asked are: the `openai` SDK
with asyncio and a semaphore; our backend (`OpenAIChat`: limits, retries, errors, costs); and the whole engine (runner,
cache, budget, scoring, every trial durably stored). CPU is user and system time of the asking process, so other load
on the machine does little harm; `best` is calls x latency / concurrency.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai

from backends.meter import Meter
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.types import ChatRequest, Message
from evals.budget import Budget
from evals.cache import CachedChat
from evals.runner import Runner, Work
from evals.scorers.text import Exact
from evals.store import RunRow, Store
from evals.task import Sample

PROMPT = "Sort the message into one of the labels. " * 20
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "label"},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 200, "completion_tokens": 1, "total_tokens": 201},
    }
).encode()

Ask = Callable[[str, int, int, Path], Awaitable[None]]


async def serve(port: int, latency: float) -> None:
    """Answer everything in the same way."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n".encode()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(request.partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                if latency:
                    await asyncio.sleep(latency)
                writer.write(head + ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", port, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def stub(latency: float) -> Iterator[str]:
    """The stub's address."""
    command = [sys.executable, __file__, "--serve", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def messages(number: int) -> list[dict[str, str]]:
    """The prompt of one call."""
    return [{"role": "system", "content": PROMPT}, {"role": "user", "content": f"message {number}"}]


async def ask_sdk(url: str, calls: int, concurrency: int, folder: Path) -> None:
    """The SDK alone."""
    places = asyncio.Semaphore(concurrency)
    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:

        async def one(number: int) -> None:
            async with places:
                found = await client.chat.completions.create(
                    model="gpt-4o-mini",
                    messages=messages(number),  # type: ignore[arg-type]
                    max_tokens=20,
                    temperature=0.0,
                )
                assert found.choices[0].message.content == "label"

        await asyncio.gather(*(one(number) for number in range(calls)))


def our_chat(url: str, concurrency: int) -> OpenAIChat:
    """Our model, with prices so that costs are computed."""
    settings = EndpointSettings(max_concurrency=concurrency, prices={"*": TokenPrices(1.0, 2.0)})
    return OpenAIChat("stub/gpt-4o-mini", Endpoint("stub", url, None, settings), "gpt-4o-mini")


def request(number: int) -> ChatRequest:
    """The same call in our words."""
    return ChatRequest(tuple(Message(m["role"], m["content"]) for m in messages(number)), max_tokens=20)  # type: ignore[arg-type]


async def ask_backend(url: str, calls: int, concurrency: int, folder: Path) -> None:
    """Our backend alone."""
    chat = our_chat(url, concurrency)
    await asyncio.gather(*(chat.complete(request(number)) for number in range(calls)))
    await chat.aclose()


async def ask_engine(url: str, calls: int, concurrency: int, folder: Path) -> None:
    """Runner, cache, budget, scoring and store around our backend."""
    samples = [Sample(f"s{number}", f"message {number}", "label") for number in range(calls)]
    store = Store.open(folder / "advisor.db")
    store.add_run(RunRow("r", "2026-01-01", "run", "stub", "stub.yaml", "h", {}))
    chat = CachedChat(our_chat(url, concurrency), store, "r", Budget(100.0))

    async def solve(sample: Sample, meter: Meter) -> str:
        return (await meter.complete(request(int(sample.id[1:])))).text

    runner = Runner(store, "r", Exact(), lambda trial: None, concurrency=concurrency)
    trials = await runner.run(Work("c", solve, chat, "test"), samples)
    assert sum(trial.score is not None and trial.score.value for trial in trials) == calls
    await chat.aclose()
    store.close()


ASKS: dict[str, Ask] = {"openai SDK": ask_sdk, "our backend": ask_backend, "our engine": ask_engine}


def measure(ask: Ask, latency: float, calls: int, concurrency: int) -> tuple[float, float]:
    """CPU milliseconds a call, and wall-clock seconds."""
    with stub(latency) as url, tempfile.TemporaryDirectory() as folder:
        # Imports, tokenizer and TLS are loaded once a process and belong to no call.
        warm = Path(folder) / "warm"
        warm.mkdir()
        asyncio.run(ask(url, 5, 5, warm))
        before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        asyncio.run(ask(url, calls, concurrency, Path(folder)))
        seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * cpu / calls, seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0, 0.05, 0.5])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(0, options.serve))
    print(f"{'latency':>8} {'at once':>8} {'best s':>8}  " + "  ".join(f"{name:>22}" for name in ASKS))
    for latency in options.latency:
        for concurrency in options.concurrency:
            cells = []
            for ask in ASKS.values():
                cpu, seconds = measure(ask, latency, options.calls, concurrency)
                cells.append(f"{cpu:6.2f} ms/call {seconds:6.2f} s")
            best = options.calls * latency / concurrency
            print(f"{latency * 1000:5.0f} ms {concurrency:8} {best:8.2f}  " + "  ".join(f"{c:>22}" for c in cells))


if __name__ == "__main__":
    main()
