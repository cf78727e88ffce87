"""Everything that goes wrong on the way, each as a recorded error or as one clear message."""

import asyncio
import logging
import random
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import BackendUnavailable, BudgetError, RequestError
from backends.openai import client
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.failures import BilledError
from backends.openai.retries import Policy
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.types import ChatRequest, Message, Usage
from evals.budget import Budget
from evals.cache import CachedChat
from evals.runner import Runner, Work
from evals.scorers.text import Exact
from evals.store import RunRow, Store
from evals.task import Sample
from evals.unsettled import Unsettled
from tests import openai_server as wire
from tests.openai_server import Fault, Json, Server, error
from tests.raw_server import listening

QUICK = Policy(first_seconds=0.001, most_seconds=0.01)
ASK = ChatRequest((Message("user", "What is it?"),), max_tokens=20)
KEY = "sk-planted-0123456789abcdef"
PRICES = {"*": TokenPrices(1.0, 2.0)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PLANTED_KEY", KEY)


def chat_at(url: str, policy: Policy = QUICK, **given: Any) -> OpenAIChat:
    endpoint = Endpoint("here", url, "PLANTED_KEY", EndpointSettings(prices=PRICES, **given))
    return OpenAIChat("here/gpt-4o-mini", endpoint, "gpt-4o-mini", policy=policy)


async def ask(url: str, request: ChatRequest = ASK, policy: Policy = QUICK, **given: Any) -> Usage:
    chat = chat_at(url, policy, **given)
    try:
        return (await chat.complete(request)).usage
    finally:
        await chat.aclose()


def first(*faults: Fault) -> Callable[[int, Json], Fault | None]:
    """The first requests meet these faults, later ones none."""
    return lambda number, body: faults[number] if number < len(faults) else None


def always(fault: Fault) -> Callable[[int, Json], Fault | None]:
    return lambda number, body: fault


def after_one(fault: Fault) -> Callable[[int, Json], Fault | None]:
    """A fault that begins when the endpoint has answered once."""
    return lambda number, body: fault if number else None


PASSING = {
    "429": wire.BUSY,
    "a rate limit that more money would raise": error(
        429,
        "Rate limit reached for gpt-4o-mini on requests per min. Limit: 3 / min. You can increase your rate limit by "
        "adding a payment method to your account at https://platform.openai.com/account/billing.",
        {"retry-after-ms": "1"},
    ),
    "429 without a wait": error(429, "Too many requests."),
    "503": error(503, "Loading model"),
    "500": wire.BROKEN,
    "an unexpected 500": error(500, "An unexpected error occurred: invalid response from upstream."),
    "a 400 that may pass": error(400, "Try again.", {"x-should-retry": "true"}),
    "502 as a page": Fault(502, "<html>Bad Gateway</html>"),
    "a page": wire.HTML,
    "an error in a 200": wire.ERROR_IN_200,
    "a rate limit in a 200": Fault(200, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
    "no object": Fault(200, "[1, 2]"),
    "a key refused in passing": wire.WRONG_KEY,
    "a code of no digits": Fault(200, {"error": {"message": "odd", "code": "\u00b2"}}),
}


@pytest.mark.parametrize("name", PASSING)
async def test_what_passes_is_asked_again_and_costs_nothing(name: str) -> None:
    async with Server(fault=first(PASSING[name])) as server:
        usage = await ask(server.url)
    assert len(server.bodies) == 2
    assert (usage.requests, usage.cost_usd) == (1, pytest.approx(server.billed_usd))


UNREAD = [
    wire.CUT,
    Fault(hang=True),
    error(504, "upstream timed out"),
    Fault(200, "zz", {"content-type": "text/html; charset=hex"}),
    Fault(500, "zz", {"content-type": "text/html; charset=hex"}),
    Fault(200, '{"a":' * 100_000),
]


@pytest.mark.parametrize("fault", UNREAD)
async def test_what_may_have_been_billed_is_counted_in_full_and_asked_again_once(fault: Fault) -> None:
    async with Server(fault=first(fault)) as server:
        usage = await ask(server.url, timeout_seconds=1.0 if fault.hang else 60.0)
    assert len(server.bodies) == 2
    assert usage.requests == 2
    assert usage.cost_usd is not None
    assert usage.cost_usd > server.billed_usd


async def test_a_server_that_drips_is_a_timeout_too() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with listening(drip) as url:
        with pytest.raises(BackendUnavailable, match=r"no answer within 0\.1 s"):
            await ask(f"{url}/v1", timeout_seconds=0.1)


FAILING = {
    "too long": (wire.TOO_LONG, "too long for the model.*maximum context length"),
    "too long as a 500": (error(500, "Requested tokens (900) exceed context window of 100"), "too long for the model"),
    "filtered": (wire.FILTERED, "content filter refused"),
    "refused": (error(400, "You may not."), r"refuses the request: You may not\. \(HTTP 400\)"),
    "not to be asked again": (error(500, "No way.", {"x-should-retry": "false"}), "failed: No way"),
    "always broken": (wire.BROKEN, "had an error while processing.*Given up after 8 attempts"),
    "always busy": (wire.BUSY, "too busy.*Given up after 8 attempts"),
    "always cut": (wire.CUT, "cut the connection.*Given up after 2 attempts"),
    "always HTML from the gateway": (Fault(502, "<html>Bad Gateway</html>"), "failed: HTTP 502"),
}


@pytest.mark.parametrize("name", FAILING)
async def test_what_does_not_pass_fails_the_one_request(name: str) -> None:
    fault, words = FAILING[name]
    async with Server(fault=after_one(fault)) as server:
        chat = chat_at(server.url)
        await chat.complete(ASK)
        with pytest.raises(RequestError, match=words) as caught:
            await chat.complete(ASK)
        await chat.aclose()
    if isinstance(caught.value, BilledError):
        assert name == "always cut"
        assert caught.value.usage.requests == 2
        assert caught.value.usage.cost_usd == chat.worst_case(ASK).cost_usd


async def test_what_cannot_be_the_requests_fault_is_asked_only_as_often_as_it_may_help() -> None:
    async with Server(fault=after_one(wire.TOO_LONG)) as server:
        chat = chat_at(server.url)
        await chat.complete(ASK)
        with pytest.raises(RequestError):
            await chat.complete(ASK)
        await chat.aclose()
    assert len(server.bodies) == 2


FATAL = {
    "wrong key": (wire.WRONG_KEY, "refuses the key in PLANTED_KEY.*Check the key"),
    "no credit": (error(429, "You exceeded your current quota.", code="insufficient_quota"), "credit is used up"),
    "unknown model": (wire.NO_MODEL, "has no such model.*Check the name"),
    "a retired model": (error(400, "The model `x` has been decommissioned."), "has no such model"),
    "no payment": (error(402, "Insufficient credits."), "credit is used up"),
    "forbidden": (error(403, "Country not supported."), "does not allow the request"),
    "no such path": (Fault(404, {"detail": "Not Found"}), r"no such path: Not Found.*end in /v1"),
    "a page": (wire.HTML, r"web page and not with JSON\. Check base_url"),
    "elsewhere": (Fault(307, "moved", {"location": "https://evil.example.com/"}), "sends the request elsewhere"),
    "a long wait": (error(429, "Daily limit.", {"retry-after": "7200"}), "wait for 7200 s.*--resume"),
    "never well": (wire.BROKEN, "Given up after 8 attempts"),
    "an unknown model in a 200": (
        Fault(200, {"error": {"message": "The model x does not exist", "code": "model_not_found"}}),
        "has no such model",
    ),
}


@pytest.mark.parametrize("name", FATAL)
async def test_what_no_request_can_get_past_stops_the_run_with_what_to_do(name: str) -> None:
    fault, words = FATAL[name]
    async with Server(fault=always(fault)) as server:
        with pytest.raises(BackendUnavailable, match=words):
            await ask(server.url)
    assert server.billed_usd == 0


async def test_a_model_that_disappears_in_mid_run_stops_it() -> None:
    async with Server(fault=after_one(wire.NO_MODEL)) as server:
        chat = chat_at(server.url)
        await chat.complete(ASK)
        with pytest.raises(BackendUnavailable, match="has no such model"):
            await chat.complete(ASK)
        await chat.aclose()


async def test_an_outage_stops_the_run_and_does_not_eat_up_all_samples() -> None:
    async with Server(fault=after_one(wire.BROKEN)) as server:
        chat = chat_at(server.url, replace(QUICK, attempts=2))
        await chat.complete(ASK)
        for _ in range(client._OUTAGE - 1):
            with pytest.raises(RequestError, match="Given up"):
                await chat.complete(ASK)
        with pytest.raises(BackendUnavailable, match="Given up"):
            await chat.complete(ASK)
        await chat.aclose()


async def test_a_server_that_does_not_run_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{port}/v1 cannot be reached.*Check that the server runs"):
        await ask(f"http://127.0.0.1:{port}/v1")


async def test_a_host_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(BackendUnavailable, match=r"there is no host 'models\.example\.com'"):
        await ask("https://models.example.com/v1")


async def test_without_tls_on_the_other_side_nothing_is_sent() -> None:
    heard: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BackendUnavailable, match=r"certificate|cannot be reached"):
            await ask(f"https://127.0.0.1:{port}/v1")
    assert heard
    assert all(b"What is it" not in text and KEY.encode() not in text for text in heard)


async def test_a_prompt_that_is_no_text_fails_before_it_is_sent() -> None:
    async with Server() as server:
        with pytest.raises(RequestError, match="surrogate"):
            await ask(server.url, ChatRequest((Message("user", "\ud800"),)))
    assert not server.bodies


def broken_answers() -> dict[str, tuple[Server, ChatRequest, str]]:
    form = replace(ASK, json_schema='{"type": "object", "properties": {"a": {}}, "required": ["a"]}')
    cut = Server(answer=lambda body: '{"a": "one tw', finish=lambda body: "length")
    empty = Server(answer=lambda body: "", finish=lambda body: "length")
    empty.extra = {"usage": {"prompt_tokens": 9, "completion_tokens": 20}}
    filtered = Server(answer=lambda body: "So I", finish=lambda body: "content_filter")
    return {
        "cut within its JSON": (cut, form, "within its JSON"),
        "all reasoned away": (empty, ASK, "raise reasoning_tokens"),
        "filtered": (filtered, ASK, "content filter cut"),
        "no choices": (Server(extra={"choices": []}), ASK, "no chat completion"),
        "no message": (Server(extra={"choices": [{"text": "x"}]}), ASK, "no chat completion"),
        "null choices": (Server(extra={"choices": None}), ASK, "no chat completion"),
    }


@pytest.mark.parametrize("name", broken_answers())
async def test_an_answer_of_no_use_is_an_error_with_its_cost(name: str) -> None:
    server, request, words = broken_answers()[name]
    async with server:
        with pytest.raises(BilledError, match=words) as caught:
            await ask(server.url, request)
    assert caught.value.usage.requests == 1
    assert caught.value.usage.cost_usd is not None
    assert caught.value.usage.cost_usd >= server.billed_usd * 0.99


@pytest.mark.parametrize("logprob", [10**400, float("inf"), float("-inf"), 10**30, None, "0"])
async def test_a_probability_that_is_none_is_unknown(logprob: object) -> None:
    tokens = {"content": [{"token": "a", "logprob": logprob}]}
    choice = {"message": {"content": "a"}, "logprobs": tokens, "finish_reason": "stop"}
    async with Server(extra={"choices": [choice]}) as server:
        chat = chat_at(server.url)
        found = await chat.complete(replace(ASK, logprobs=True))
        await chat.aclose()
    assert (found.text, found.logprob) == ("a", None)


async def test_a_storm_of_429_is_weathered_with_fewer_requests_at_once() -> None:
    allowed = 4

    def storm(number: int, body: Json) -> Fault | None:
        return wire.BUSY if server.active > allowed else None

    async with Server(latency_seconds=0.005) as server:
        server.fault = storm
        chat = chat_at(server.url, replace(QUICK, attempts=20))
        answers = await asyncio.gather(
            *(chat.complete(replace(ASK, messages=(Message("user", str(number)),))) for number in range(200))
        )
        assert chat._connection is not None
        limit = chat._connection.limiter.limit
        await chat.aclose()
    assert [answer.text for answer in answers] == [str(number) for number in range(200)]
    assert limit <= 4 * allowed
    assert sum(answer.usage.cost_usd or 0.0 for answer in answers) == pytest.approx(server.billed_usd)
    # All but four of the first burst were refused; then the limit was found and kept.
    assert len(server.bodies) < 196 + 200 * 1.25


async def test_a_wait_asked_of_one_is_kept_by_all() -> None:
    stamps: list[float] = []

    def busy_once(number: int, body: Json) -> Fault | None:
        stamps.append(asyncio.get_running_loop().time())
        return error(429, "slow", {"retry-after-ms": "150"}) if number == 0 else None

    async with Server(fault=busy_once) as server:
        chat = chat_at(server.url)
        first_one = asyncio.create_task(chat.complete(ASK))
        while chat._connection is None or not chat._connection.limiter._paused_until:
            await asyncio.sleep(0.001)
        await asyncio.gather(first_one, chat.complete(ASK))
        await chat.aclose()
    assert min(stamps[1:]) - stamps[0] >= 0.14


async def test_an_endpoint_that_says_it_is_used_up_is_left_alone_until_it_is_refilled() -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "150ms"}
    async with Server(headers=headers) as server:
        chat = chat_at(server.url)
        begun = asyncio.get_running_loop().time()
        await chat.complete(ASK)
        await chat.complete(ASK)
        assert asyncio.get_running_loop().time() - begun >= 0.14
        await chat.aclose()


ECHOES = [
    error(401, f"Incorrect API key provided: {KEY}. You sent Authorization: Bearer {KEY}"),
    error(400, f"bad header {KEY}"),
    error(500, f"internal: {KEY}"),
    error(404, f"model not found for {KEY}", {"x-request-id": "req_7"}),
    Fault(200, {"error": {"message": f"proxy says {KEY}"}}),
    Fault(400, f"plain text with {KEY}"),
]


@pytest.mark.parametrize("fault", ECHOES)
async def test_the_key_is_in_no_error_no_traceback_no_log_and_no_file(
    fault: Fault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Server(fault=always(fault)) as server:
        chat = chat_at(server.url)
        with pytest.raises((RequestError, BackendUnavailable)) as caught:
            await chat.complete(replace(ASK, logprobs=True))
        text = "".join(traceback.format_exception(caught.value))
        assert server.request_headers[0]["authorization"] == f"Bearer {KEY}"
        assert KEY not in f"{text} {chat!r} {chat.fingerprint} {chat.notes} {vars(chat)}"
        await chat.aclose()
    assert KEY not in caplog.text
    assert all(KEY not in file.read_text("utf-8", "replace") for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_key_that_an_endpoint_echoes_into_its_answer_is_not_in_what_is_stored(is_streamed: bool) -> None:
    async with Server(answer=lambda body: f"You sent Bearer {KEY}.") as server:
        chat = chat_at(server.url, stream=is_streamed)
        assert (await chat.complete(ASK)).text == "You sent Bearer [key]."
        await chat.aclose()


@pytest.mark.parametrize(
    "used",
    [
        None,
        {"prompt_tokens": -5, "completion_tokens": -9},
        {"prompt_tokens": 10**18, "completion_tokens": 1},
        {"prompt_tokens": 10**400, "completion_tokens": 1},
    ],
)
async def test_usage_that_is_none_is_counted_here_with_the_form_that_was_asked_for(used: Json | None) -> None:
    request = replace(ASK, choices=("yes", "no", "as the case may be", "nobody can tell"))
    async with Server(extra={"usage": used}) as server:
        usage = await ask(server.url, request)
    assert usage.cost_usd == pytest.approx(server.billed_usd, rel=0.1)


async def test_a_request_id_is_told_so_that_the_provider_can_find_it() -> None:
    async with Server(fault=always(error(400, "No.", {"x-request-id": "req_7"}))) as server:
        with pytest.raises(RequestError, match=r"Request req_7\."):
            await ask(server.url)


WEATHER = [wire.BUSY, wire.BROKEN, wire.HTML, wire.ERROR_IN_200, wire.CUT, wire.TOO_LONG, wire.FILTERED, wire.WRONG_KEY]


def weather(seed: int, share: float = 0.2, faults: list[Fault] = WEATHER) -> Callable[[int, Json], Fault | None]:
    rng = random.Random(seed)
    return lambda number, body: rng.choice(faults) if rng.random() < share else None


async def test_with_a_fifth_of_all_calls_failing_every_sample_has_exactly_one_trial(tmp_path: Path) -> None:
    samples = [Sample(f"s{number}", f"input {number}", f"input {number}") for number in range(150)]
    store = Store.open(tmp_path / "advisor.db")
    store.add_run(RunRow("r", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
    async with Server(fault=weather(3)) as server:
        chat = CachedChat(chat_at(server.url), store, "r", Budget(10.0))

        async def solve(sample: Sample, meter: Any) -> str:
            answer = await meter.complete(ChatRequest((Message("user", sample.input),), max_tokens=20))
            return str(answer.text)

        trials = await Runner(store, "r", Exact(), lambda trial: None).run(Work("c", solve, chat, "test"), samples)
        await chat.aclose()
    stored = store.trials("r", "c", "test", "")
    assert [trial.sample_id for trial in trials] == [sample.id for sample in samples]
    assert sorted(trial.sample_id for trial in stored) == sorted(sample.id for sample in samples)
    failed = [trial for trial in trials if trial.error]
    assert 0 < len(failed) < 30
    assert all(trial.score and trial.score.value == 1.0 for trial in trials if not trial.error)
    store.close()


LOSSLESS = {
    "429": wire.BUSY,
    "a clock that is a year ahead": error(
        429, "slow", {"retry-after": "Fri, 01 Jan 2027 00:00:01 GMT", "date": "Fri, 01 Jan 2027 00:00:01 GMT"}
    ),
    "500": wire.BROKEN,
    "a page": wire.HTML,
    "an error in a 200": wire.ERROR_IN_200,
    "too long": wire.TOO_LONG,
    "filtered": wire.FILTERED,
    "a key refused in passing": wire.WRONG_KEY,
    "a model that is gone for a moment": wire.NO_MODEL,
}
LOSSY = {"cut": wire.CUT, "half of the JSON": Fault(200, '{"choices": [{"mess'), "never": Fault(hang=True)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
async def test_each_fault_at_a_fifth_of_the_calls_leaves_one_trial_a_sample_and_the_bill_that_was_served(
    name: str, stream: bool, tmp_path: Path
) -> None:
    fault = LOSSLESS.get(name) or LOSSY[name]
    samples = [Sample(f"s{number}", f"input {number}", f"input {number}") for number in range(40)]
    store = Store.open(tmp_path / "advisor.db")
    store.add_run(RunRow("r", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
    # The first call is well: an endpoint that never was is another matter.
    rng = random.Random(f"{name}:{stream}")
    async with Server(fault=lambda number, body: fault if number and rng.random() < 0.2 else None) as server:
        patient = replace(QUICK, attempts=20)
        chat = chat_at(server.url, patient, stream=stream, timeout_seconds=1.0 if fault.hang else 60.0)
        budget = Budget(10.0, 0.0, Unsettled(store, "r"))
        cached = CachedChat(chat, store, "r", budget)

        async def solve(sample: Sample, meter: Any) -> str:
            answer = await meter.complete(ChatRequest((Message("user", sample.input),), max_tokens=20))
            return str(answer.text)

        await Runner(store, "r", Exact(), lambda trial: None).run(Work("c", solve, cached, "test"), samples[:1])
        await Runner(store, "r", Exact(), lambda trial: None).run(Work("c", solve, cached, "test"), samples)
        await cached.aclose()
    stored = store.trials("r", "c", "test", "")
    assert sorted(trial.sample_id for trial in stored) == sorted(sample.id for sample in samples)
    assert all(trial.score and trial.score.value == 1.0 for trial in stored if not trial.error)
    recorded = sum(trial.usage.cost_usd or 0.0 for trial in stored)
    assert store.billed_usd("r") == pytest.approx(budget.spent_usd) == pytest.approx(recorded)
    if name in LOSSY:
        assert recorded > server.billed_usd
    else:
        assert recorded == pytest.approx(server.billed_usd)
    store.close()


@dataclass(frozen=True)
class Spree:
    """Requests asked at once under a cap that most of them fit below."""

    seed: int
    usd: tuple[float, float]
    calls: int
    share: float
    """The cap, as a share of the worst case of all."""
    stream: bool = False
    cuts: bool = True
    """Whether some answers are cut off after they were billed."""

    def requests(self) -> list[ChatRequest]:
        """Prompts and answers of random lengths, some of a form."""
        rng = random.Random(f"{self.seed}:requests")
        return [
            ChatRequest(
                (Message("user", f"{number} " + "word ä漢 " * rng.randrange(200)),),
                max_tokens=rng.randrange(1, 200),
                choices=("one", "two") if rng.random() < 0.3 else (),
            )
            for number in range(self.calls)
        ]

    def server(self) -> Server:
        """Bills by its own count; a fifth of all attempts fail, and some prompts are cut off after they were billed."""
        rng = random.Random(f"{self.seed}:answers")
        passing = weather(self.seed, 0.2, [wire.BUSY, wire.BROKEN, wire.ERROR_IN_200, wire.HTML, wire.FILTERED])

        def fault(number: int, body: Json) -> Fault | None:
            return wire.CUT if self.cuts and rng.random() < 0.2 else passing(number, body)

        def answer(body: Json) -> str:
            return wire.form_answer(body) or "word " * rng.randrange(body["max_tokens"])

        return Server(answer=answer, usd=self.usd, fault=fault)

    async def spend(self, store: Store) -> None:
        """A run under the cap, and a second sitting with what it takes: neither overshoots, and all samples end up."""
        async with self.server() as server:
            prices = {"*": TokenPrices(*self.usd)}
            endpoint = Endpoint("here", server.url, None, EndpointSettings(prices=prices, stream=self.stream))
            for raised in (0.0, 1.0):
                chat = OpenAIChat("here/gpt-4o", endpoint, "gpt-4o", policy=replace(QUICK, attempts=40))
                worst = sum(chat.worst_case(request).cost_usd or 0.0 for request in self.requests())
                ended = await self.sit(chat, store, worst * (self.share + raised), server)
                if ended and not self.cuts and not raised:
                    # No call was cut off, by the server or by the end of the sitting: the two bills are one.
                    assert store.billed_usd("r") == pytest.approx(server.billed_usd)

    async def sit(self, chat: OpenAIChat, store: Store, cap: float, server: Server) -> bool:
        """One sitting of the run, and whether it came to its end; what it spent is known all the same."""
        requests = self.requests()
        unsettled = Unsettled(store, "r")
        budget = Budget(cap, store.billed_usd("r"), unsettled)
        cached = CachedChat(chat, store, "r", budget)

        async def solve(sample: Sample, meter: Any) -> str:
            return str((await meter.complete(requests[int(sample.id)])).text)

        samples = [Sample(str(number), "", "") for number in range(len(requests))]
        ended = True
        try:
            await Runner(store, "r", Exact(), lambda trial: None).run(Work("c", solve, cached, "test"), samples)
        except (BudgetError, BackendUnavailable):
            ended = False
        await cached.aclose()
        unsettled.close()
        stored = [trial.sample_id for trial in store.trials("r")]
        assert len(stored) == len(set(stored))
        assert not ended or len(stored) == len(samples)
        assert store.billed_usd("r") == pytest.approx(budget.spent_usd)
        assert server.billed_usd <= budget.spent_usd * (1 + 1e-9)
        assert budget.spent_usd <= cap * (1 + 1e-9)
        return ended


prices_usd = st.floats(0.01, 100)
sprees = st.builds(
    Spree,
    st.integers(0, 10**6),
    st.tuples(prices_usd, prices_usd),
    st.integers(1, 12),
    st.floats(0.05, 1.2),
    st.booleans(),
    st.booleans(),
)


def check_cap(spree: Spree, folder: Path) -> None:
    store = Store.open(folder / "advisor.db")
    store.add_run(RunRow("r", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
    asyncio.run(spree.spend(store))
    store.close()


@settings(max_examples=20, deadline=None)
@given(spree=sprees)
def test_the_servers_own_bill_never_exceeds_the_cap(tmp_path_factory: pytest.TempPathFactory, spree: Spree) -> None:
    check_cap(spree, tmp_path_factory.mktemp("cap"))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(spree=sprees)
def test_in_two_hundred_random_runs_the_cap_holds(tmp_path_factory: pytest.TempPathFactory, spree: Spree) -> None:
    check_cap(spree, tmp_path_factory.mktemp("cap"))


async def test_without_a_price_a_dollar_budget_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "advisor.db")
    endpoint = Endpoint("far", "https://models.example.com/v1", None)
    chat = CachedChat(OpenAIChat("far/m", endpoint, "m"), store, "r", Budget(5.0))
    with pytest.raises(BudgetError, match=r"price of far/m is not known"):
        await chat.complete(ASK)
    store.close()
