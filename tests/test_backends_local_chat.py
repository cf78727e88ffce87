import asyncio
import json
import subprocess
import sys
import threading

import pytest

from backends.errors import BackendUnavailable, InputError, RequestError
from backends.local import rates
from backends.local.catalog import locate
from backends.local.chat import LocalChat
from backends.local.rates import Rates
from backends.types import ChatRequest, Message, Usage

from .local_models import needs_smollm2, own_cache, save_model, tiny  # noqa: F401

WORDS = ["match", "knee", "soup", "band", "exam", "loan", "flight", "boss", "rain"]


def ask(text, **options):
    options.setdefault("max_tokens", 12)
    return ChatRequest((Message("system", "Sort the message by topic."), Message("user", text)), **options)


@pytest.fixture
async def chat(tiny):  # noqa: F811
    model = LocalChat.open(f"local/{tiny}", usd_per_hour=3.6)
    yield model
    await model.aclose()


async def test_concurrent_requests_answer_as_one_after_another(chat):
    requests = [ask(word, max_tokens=5 + i) for i, word in enumerate(WORDS)]
    together = await asyncio.gather(*(chat.complete(request) for request in requests))
    alone = [await chat.complete(request) for request in requests]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [answer.usage for answer in together] == [answer.usage for answer in alone]
    assert len({answer.text for answer in together}) > 3
    assert all(answer.seconds > 0 for answer in together)


def watched(monkeypatch, chat):
    """How many prompts are admitted at a time, and how many rows every step has."""
    admitted, stepped = [], []
    rows = type(chat._engine().decoder.start())
    admit, extend = rows.admit, rows.extend
    monkeypatch.setattr(rows, "admit", lambda self, prompts: admitted.append(len(prompts)) or admit(self, prompts))
    monkeypatch.setattr(rows, "extend", lambda self, tokens: stepped.append(len(tokens)) or extend(self, tokens))
    return admitted, stepped


async def test_concurrent_requests_are_computed_together(chat, monkeypatch):
    await chat.complete(ask("warm"))
    admitted, _ = watched(monkeypatch, chat)
    await asyncio.gather(*(chat.complete(ask(word)) for word in WORDS))
    assert admitted == [len(WORDS)]


async def test_a_request_joins_those_that_run(chat, monkeypatch):
    await chat.complete(ask("warm"))
    alone = (await chat.complete(ask("match", max_tokens=120))).text
    admitted, stepped = watched(monkeypatch, chat)
    first = asyncio.create_task(chat.complete(ask("match", max_tokens=120)))
    while len(stepped) < 3:
        await asyncio.sleep(0.001)
    await chat.complete(ask("knee", max_tokens=5))
    assert not first.done()
    assert (await first).text == alone
    assert admitted == [1, 1]
    assert max(stepped) == 2


async def test_usage_is_counted_and_priced_by_the_remembered_rates(chat):
    answer = await chat.complete(ask("match"))
    engine = chat._engine()
    assert answer.usage.input_tokens == len(engine.decoder.prompts.encode(ask("match").messages))
    assert 1 <= answer.usage.output_tokens <= 12
    seconds = answer.usage.input_tokens / chat.rates.prefill + answer.usage.output_tokens / chat.rates.decode
    assert answer.usage.cost_usd == pytest.approx(seconds * 3.6 / 3600)
    worst = chat.worst_case(ask("match"))
    assert (worst.input_tokens, worst.output_tokens) == (answer.usage.input_tokens, 12)
    assert not chat.billed


async def test_rates_are_measured_once_and_then_the_same(tiny, monkeypatch):  # noqa: F811
    first = LocalChat.open(f"local/{tiny}", usd_per_hour=1.0)
    known = first.rates
    monkeypatch.setattr("backends.local.chat.measure", None)
    second = LocalChat.open(f"local/{tiny}", usd_per_hour=1.0)
    usage = Usage(input_tokens=1000, output_tokens=10)
    assert second.price(usage) == first.price(usage) == known.cost(usage, 1.0)
    assert second._loaded is None
    await first.aclose()


def test_the_first_process_to_measure_wins():
    one, two = Rates(1.0, 2.0), Rates(3.0, None)
    assert rates.remember("key", "m", one) == one
    assert rates.remember("key", "m", two) == one
    assert rates.remembered("other") is None


def test_an_unknown_price_stays_unknown():
    assert Rates(10.0, 10.0).cost(Usage(input_tokens=5), None) is None
    assert Rates(10.0, None).cost(Usage(input_tokens=5), 7200.0) == 1.0


async def test_choices_bind_whatever_max_tokens_says(chat):
    choices = ("refund of the card", "card_lost")
    answers = await asyncio.gather(*(chat.complete(ask(word, choices=choices, max_tokens=1)) for word in WORDS))
    assert {answer.text for answer in answers} <= set(choices)
    assert {answer.finish_reason for answer in answers} == {"stop"}
    worst = chat.worst_case(ask("x", choices=choices))
    assert max(answer.usage.output_tokens for answer in answers) <= worst.output_tokens


async def test_json_follows_its_schema(chat):
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "yy"]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    answer = await chat.complete(ask("x", json_schema=json.dumps(schema), max_tokens=50))
    assert json.loads(answer.text) in ({"a": "x"}, {"a": "yy"})


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ask("word " * 300), "context window holds 256"),
        (ask("x", json_schema='{"type": "nope"}'), "cannot be enforced"),
        (ask("x", json_schema="{}", choices=("a",)), "not both"),
        (ask("x", max_tokens=0), "at least 1"),
    ],
)
async def test_a_request_that_cannot_be_answered_fails_alone(chat, request_, message):
    bad, good = await asyncio.gather(chat.complete(request_), chat.complete(ask("x")), return_exceptions=True)
    assert isinstance(bad, RequestError)
    assert message in str(bad)
    assert good.usage.requests == 1


async def test_a_cancelled_request_leaves_the_others_alone(chat):
    alone = [(await chat.complete(ask(word, max_tokens=100))).text for word in WORDS[:3]]
    tasks = [asyncio.create_task(chat.complete(ask(word, max_tokens=100))) for word in WORDS[:3]]
    await asyncio.sleep(0.02)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert [results[0].text, results[2].text] == [alone[0], alone[2]]


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_closing_fails_what_waits_and_frees_the_model(tiny, seconds):  # noqa: F811
    chat = LocalChat.open(f"local/{tiny}")
    tasks = [asyncio.create_task(chat.complete(ask(word, max_tokens=200))) for word in WORDS]
    await asyncio.sleep(seconds)
    await chat.aclose()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, BackendUnavailable) for result in results if isinstance(result, Exception))
    assert chat._loaded is None
    with pytest.raises(BackendUnavailable, match="closed"):
        await chat.complete(ask("x"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("advisor-local")]


def test_a_model_serves_several_event_loops(tiny):  # noqa: F811
    chat = LocalChat.open(f"local/{tiny}")
    first = asyncio.run(chat.complete(ask("x")))
    assert asyncio.run(chat.complete(ask("x"))).text == first.text
    asyncio.run(chat.aclose())


async def test_an_error_while_loading_reaches_every_caller(tmp_path):
    folder = save_model(tmp_path / "base", template=False)
    chat = LocalChat.open(f"local/{folder}")
    results = await asyncio.gather(*(chat.complete(ask(word)) for word in WORDS), return_exceptions=True)
    assert all(isinstance(result, InputError) and "chat template" in str(result) for result in results)
    await chat.aclose()


async def test_a_bug_reaches_the_caller_and_the_model_goes_on(chat, monkeypatch):
    await chat.complete(ask("x"))
    with monkeypatch.context() as broken:
        broken.setattr(type(chat._engine().decoder.start()), "admit", lambda self, prompts: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await chat.complete(ask("x"))
    assert (await chat.complete(ask("x"))).usage.requests == 1


def test_opening_imports_neither_torch_nor_transformers(tiny):  # noqa: F811
    code = (
        f"import sys; from backends.local.chat import LocalChat; m = LocalChat.open('local/{tiny}'); m.fingerprint;"
        "print(sorted({'torch', 'transformers', 'llguidance'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_fingerprint_follows_precision(tiny):  # noqa: F811
    place = locate(f"local/{tiny}")
    prints = {LocalChat(n, place, usd_per_hour=1.0, dtype=d).fingerprint for n, d in [("a", None), ("b", None)]}
    assert len(prints) == 1
    assert LocalChat("a", place, usd_per_hour=1.0, dtype="bfloat16").fingerprint not in prints


@needs_smollm2
async def test_smollm2_answers_a_batch_as_one_by_one(monkeypatch):
    import torch

    # The user's own cache: the conversion takes half a minute and is made once per machine.
    monkeypatch.delenv("ADVISOR_CACHE")
    chat = LocalChat.open("local/smollm2-135m")
    questions = ["What is the capital of France?", "Name a colour.", "Write one sentence about the sea, please."]
    requests = [ChatRequest((Message("user", question),), max_tokens=12) for question in questions]
    answers = await asyncio.gather(*(chat.complete(request) for request in requests))
    decoder = chat._engine().decoder
    for request, answer in zip(requests, answers, strict=True):
        ids = torch.tensor([decoder.prompts.encode(request.messages)])
        output = decoder.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        assert answer.text == decoder.prompts.decode(output[0, ids.shape[1] :].tolist())
    assert "Paris" in answers[0].text
    await chat.aclose()


@pytest.mark.slow
@needs_smollm2
def test_smollm2_answers_twelve_varied_prompts_as_one_by_one(monkeypatch):
    import torch

    from backends.local.decoder import Job
    from backends.local.engine import Engine
    from backends.local.loading import load

    monkeypatch.delenv("ADVISOR_CACHE", raising=False)
    engine = Engine.load("local/smollm2-135m", locate("local/smollm2-135m"), "float32", "cpu")
    demos = "\n".join(f"Message: the {word} was {i} times late\nTopic: {word}" for i, word in enumerate(WORDS))
    prompts = [(demos, f"Message: my {word} again\nTopic:") for word in WORDS[:5]]
    prompts += [
        ("", f"Tell me {x}.") for x in ("a joke", "how rain forms", "the first ten primes", "who Ada Lovelace was")
    ]
    prompts += [
        ("Answer in French.", "What is a band?"),
        ("", "x" * 200),
        ("", "Write JSON with two keys about a loan."),
    ]
    messages = [tuple(Message(r, t) for r, t in zip(("system", "user"), p, strict=True) if t) for p in prompts]
    jobs = [Job(tuple(engine.decoder.prompts.encode(m)), 24) for m in messages]
    plain, _ = load("local/smollm2-135m", locate("local/smollm2-135m"), "float32", "cpu")
    for job, answer in zip(jobs, engine.answer(jobs), strict=True):
        ids = torch.tensor([job.ids])
        output = plain.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        assert answer.ids == tuple(output[0, ids.shape[1] :].tolist())
