"""What a call to an endpoint costs this machine: CPU per call and wall-clock against the best possible.

    python benchmarks/api_overhead.py [--calls 1000] [--latency 0 0.05 0.5] [--concurrency 10 50 200]
        [--clients our_engine,litellm,...] [--peers FOLDER] [--install]

A stub on loopback, in a process of its own, answers every chat request after the latency. It is asked by the `openai`
SDK with asyncio and a semaphore; our backend (`OpenAIChat`: limits, retries, errors, costs); the whole engine (runner,
cache, budget, scoring, every trial durably stored, a live table); and by peers (api_peers.py), each in an environment
of its own under `--peers`, which `--install` makes. `lm_eval` is its whole evaluation, `lm_eval_client` its client
alone. CPU is user and system time of the asking process, so other load on the machine does little harm; the best
possible time is calls x latency / concurrency.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import openai
from rich.console import Console

from advisor.cli.progress import display
from advisor.events import Evaluated, Planned
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
from evals.unsettled import Unsettled

CANDIDATE = "zero_shot@stub/gpt-4o-mini"
PROMPT = "Sort the message into one of the labels. " * 20
MESSAGE = {"role": "assistant", "content": "label"}
USAGE = {"prompt_tokens": 200, "completion_tokens": 1, "total_tokens": 201}
ANSWER = json.dumps(
    {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "usage": USAGE}
    | {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop", "logprobs": None}]}
).encode()
HEAD = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n"
REPLY = HEAD.encode() + ANSWER

PEERS = {
    "litellm": ["litellm==1.106.2"],
    "dspy": ["dspy==3.4.1"],
    "inspect": ["inspect_ai==0.3.285", "openai==3.54.0"],
    "lm_eval": ["lm_eval[api]==0.4.13"],
    "promptfoo": ["node@24", "promptfoo@0.123.1"],
}
"""What each is installed from, by pip, and the last by npm (it wants a newer Node.js than many machines have)."""
PEERS_FILE = Path(__file__).with_name("api_peers.py")
VENVS = Path("~/.cache/advisor/bench-venvs").expanduser()

Ask = Callable[[str, int, int, Path], Awaitable[None]]
Figures = tuple[float, ...]
"""CPU milliseconds a call, and seconds of wall-clock time."""


class Stub(asyncio.Protocol):
    """Answers everything in the same way. As lean as can be: it shares the machine with whom it measures."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take one request at a time, as clients of HTTP/1.1 send them."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) if end else 1
        if end and len(body) >= length:
            self._received = body[length:]
            asyncio.get_running_loop().call_later(self._latency, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(REPLY)


async def serve(port: int, latency: float) -> None:
    """Run the stub; says its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(latency), "127.0.0.1", port, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def stub(latency: float) -> Iterator[str]:
    """The stub's address."""
    command = [sys.executable, __file__, "--serve", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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
    """The same in our words."""
    return ChatRequest(tuple(Message(m["role"], m["content"]) for m in messages(number)), max_tokens=20)  # type: ignore[arg-type]


async def ask_backend(url: str, calls: int, concurrency: int, folder: Path) -> None:
    """Our backend alone."""
    chat = our_chat(url, concurrency)
    await asyncio.gather(*(chat.complete(request(number)) for number in range(calls)))
    await chat.aclose()


async def ask_engine(url: str, calls: int, concurrency: int, folder: Path) -> None:
    """Runner, cache, budget, scoring, store and the table of a terminal around our backend."""
    samples = [Sample(f"s{number}", f"message {number}", "label") for number in range(calls)]
    store = Store.open(folder / "advisor.db")
    store.add_run(RunRow("r", "2026-01-01", "run", "stub", "stub.yaml", "h", {}))
    chat = CachedChat(our_chat(url, concurrency), store, "r", Budget(100.0, unsettled=Unsettled(store, "r")))

    async def solve(sample: Sample, meter: Meter) -> str:
        return (await meter.complete(request(int(sample.id[1:])))).text

    with display(Console(file=io.StringIO(), force_terminal=True), quiet=False) as observe:
        observe(Planned("r", (CANDIDATE,), calls, resumed=False))
        runner = Runner(store, "r", Exact(), lambda trial: observe(Evaluated(trial)), concurrency=concurrency)
        trials = await runner.run(Work(CANDIDATE, solve, chat, "test"), samples)
    assert sum(trial.score is not None and trial.score.value for trial in trials) == calls
    await chat.aclose()
    store.close()
    with closing(sqlite3.connect(store.path)) as written:
        assert written.execute("SELECT count(*) FROM trials WHERE score = 1").fetchone() == (calls,)


ASKS: dict[str, Ask] = {"openai_sdk": ask_sdk, "our_backend": ask_backend, "our_engine": ask_engine}


def measure(ask: Ask, latency: float, calls: int, concurrency: int) -> Figures:
    """One of ours, in this process."""
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


def measure_peer(name: str, latency: float, calls: int, concurrency: int, folder: Path) -> Figures | str:
    """A peer, in a process of its own environment, or why there are no figures."""
    home = folder / name.removesuffix("_client")
    python = Path(sys.executable) if name == "promptfoo" else home / "bin" / "python"
    if not home.exists() or not python.exists():
        return "not installed (give --install)"
    with stub(latency) as url:
        command = [str(python), str(PEERS_FILE), name, url, str(calls), str(concurrency), str(latency), str(home)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = next((text for text in done.stdout.splitlines() if text.startswith("FIGURES ")), None)
    if said is None:
        return f"failed: {' '.join((done.stderr or done.stdout).split())[-200:]}"
    return tuple(json.loads(said.removeprefix("FIGURES ")).values())


def install(folder: Path) -> None:
    """Make the environments that are not there yet; what cannot be installed is said and left out."""
    for name, requirements in PEERS.items():
        home = folder / name
        home.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
        if name != "promptfoo":
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
            command = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "-q"]
        try:
            subprocess.run([*command, *requirements], check=True, cwd=home, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name}: could not be installed: {error}")


def table(options: argparse.Namespace, latency: float, concurrency: int) -> None:
    """A line for each that is asked."""
    best = options.calls * latency / concurrency
    print(f"\n{latency * 1000:.0f} ms, {concurrency} at once, {options.calls} calls: at best {best:.2f} s")
    for name in options.clients.split(","):
        asked = (latency, options.calls, concurrency)
        found = measure(ASKS[name], *asked) if name in ASKS else measure_peer(name, *asked, options.peers)
        print(f"  {name:16} {found if isinstance(found, str) else line(found, best)}", flush=True)


def line(found: Figures, best: float) -> str:
    """Figures for people."""
    ratio = f"{found[1] / best:6.2f} x best" if best else ""
    return f"{found[0]:7.2f} ms CPU a call {found[1]:8.2f} s {ratio}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0, 0.05, 0.5])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--clients", default=",".join([*ASKS, *PEERS, "lm_eval_client"]))
    parser.add_argument("--peers", type=Path, default=VENVS)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(0, options.serve))
    if options.install:
        install(options.peers)
    for latency in options.latency:
        for concurrency in options.concurrency:
            table(options, latency, concurrency)


if __name__ == "__main__":
    main()
