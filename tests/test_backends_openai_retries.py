import asyncio
import itertools
import random
from collections.abc import Mapping

import pytest

from backends.openai.limits import Limiter
from backends.openai.redact import redact
from backends.openai.retries import Policy, asked_delay, exhausted_delay


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after-ms": "inf", "retry-after": "2"}, 2.0),
    ],
)
def test_the_wait_asked_for_is_read(headers: Mapping[str, str], seconds: float | None) -> None:
    assert asked_delay(headers) == seconds


def test_a_date_is_compared_with_the_servers_own_clock() -> None:
    # Both clocks are wrong by years; the wait is not.
    headers = {"date": "Wed, 21 Oct 2015 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}
    assert asked_delay(headers) == 30.0
    assert asked_delay({**headers, "date": "Wed, 21 Oct 2015 07:29:00 GMT"}) == 0.0
    # Without a clock of the server's there is only ours, and the moment has passed.
    assert asked_delay({"retry-after": headers["retry-after"]}) == 0.0
    assert asked_delay({"retry-after": "Wed, 99 Oct 2015 07:28:30 GMT"}) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2"}, 2.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "later"}, None),
        ({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({}, None),
    ],
)
def test_a_used_up_rate_limit_says_when_it_is_refilled(headers: Mapping[str, str], seconds: float | None) -> None:
    assert exhausted_delay(headers) == seconds


def test_waits_double_and_spread_and_are_bounded() -> None:
    policy = Policy(first_seconds=1.0, most_seconds=10.0)
    waits = [[policy.delay(failures, random.Random(seed)) for seed in range(50)] for failures in (1, 2, 3, 9)]
    for full, drawn in zip((1.0, 2.0, 4.0, 10.0), waits, strict=True):
        assert full / 2 <= min(drawn) < max(drawn) <= full
        assert len(set(drawn)) > 40


async def held(limiter: Limiter, release: asyncio.Event) -> None:
    async with limiter.slot():
        await release.wait()


async def settle(turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_only_so_many_are_under_way_and_the_rest_come_in_order() -> None:
    limiter = Limiter(most=2)
    order: list[int] = []

    async def work(number: int) -> None:
        async with limiter.slot():
            order.append(number)
            assert limiter.active <= 2
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert order == list(range(20))
    assert limiter.active == 0


async def test_a_crowd_begins_one_a_turn_and_a_place_given_back_is_taken_at_once() -> None:
    limiter = Limiter(most=8)
    release = asyncio.Event()
    tasks = [asyncio.create_task(held(limiter, release)) for _ in range(20)]
    seen = []
    for _ in range(15):
        await asyncio.sleep(0)
        seen.append(limiter.active)
    steps = [after - before for before, after in itertools.pairwise([0, *seen])]
    assert set(steps) == {0, 1}
    assert seen[-1] == 8
    release.set()
    # Those that wait take the places of the eight in the very step in which these are given back.
    await settle(1)
    assert limiter.active == 8
    await asyncio.gather(*tasks)
    assert limiter.active == 0
    again = [asyncio.create_task(held(limiter, release)) for _ in range(3)]
    await asyncio.sleep(0)
    assert limiter.active <= 1, "a crowd after a pause begins as the first did"
    await asyncio.gather(*again)


async def test_a_burst_of_which_four_are_taken_ends_near_four_and_grows_back() -> None:
    limiter = Limiter(most=16)
    release, answer = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(held(limiter, release)) for _ in range(4)]

    async def refused() -> None:
        async with limiter.slot():
            await answer.wait()
            limiter.overloaded()

    tasks += [asyncio.create_task(refused()) for _ in range(12)]
    await settle(30)
    assert limiter.active == 16
    answer.set()
    await settle()
    assert limiter.limit == 4.0
    release.set()
    await asyncio.gather(*tasks)
    for _ in range(4):
        limiter.succeeded()
    assert 4.8 < limiter.limit <= 5.0
    for _ in range(1000):
        limiter.succeeded()
    assert limiter.limit == 16.0


async def test_the_limit_never_falls_below_one() -> None:
    limiter = Limiter(most=4)
    for _ in range(10):
        async with limiter.slot():
            limiter.overloaded()
    assert limiter.limit == 1.0


async def test_a_pause_holds_everyone_back_and_ends() -> None:
    limiter = Limiter(most=8)
    limiter.pause(0.05)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with limiter.slot():
        assert loop.time() - begun >= 0.04
    limiter.close()


async def test_a_cancelled_waiter_leaves_no_hole() -> None:
    limiter = Limiter(most=1)
    release = asyncio.Event()
    first = asyncio.create_task(held(limiter, release))
    await settle()
    waiting = [asyncio.create_task(held(limiter, release)) for _ in range(3)]
    await settle()
    waiting[0].cancel()
    release.set()
    # Cancelled in the very step in which its turn comes.
    waiting[1].cancel()
    await asyncio.wait_for(asyncio.gather(first, *waiting, return_exceptions=True), 5)
    assert limiter.active == 0
    async with limiter.slot():
        assert limiter.active == 1


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: my-odd-key-that-nobody-knows.",
        "header Authorization: Bearer zzzzzzzzzzzzzz was refused",
        "sk-proj-abcdefghijk is wrong",
        "your key sk-****************wxyz",
        "AIzaSyA-0123456789abcdef",
        "in the middle plantedkey0123 of it",
    ],
)
def test_keys_are_hidden_wherever_they_stand(text: str) -> None:
    hidden = redact(text, "plantedkey0123")
    assert "[key]" in hidden
    for secret in ("my-odd", "zzzz", "abcdefghijk", "wxyz", "0123456789", "planted"):
        assert secret not in hidden


def test_what_is_no_key_stays_and_long_texts_are_cut() -> None:
    text = "the API key in OPENAI_API_KEY is missing; task-based sky-high values"
    assert redact(text, "") == text
    assert len(redact("word " * 1000)) < 500
    assert redact("two\n  lines") == "two lines"
