import math

import pytest
import torch

from backends.errors import RequestError
from backends.local.batches import Limits
from backends.local.decoder import Decoder
from backends.local.engine import Engine
from backends.local.labels import Trie
from backends.local.prompts import Prompts
from backends.types import ChatRequest, Message

from .local_models import own_cache, tiny_model, tiny_tokenizer  # noqa: F401

EOS = 2
LABELS = ("card", "card_lost", "refund", "Zürich", "health", "health food", " led by a space", "<|im_end|>")


def engine(kind="llama", seed=0):
    return Engine(Decoder(tiny_model(kind, seed), Prompts("tiny", tiny_tokenizer(), (EOS,))), Limits())


def ask(text, choices=LABELS, **options):
    return ChatRequest((Message("user", text),), choices=choices, logprobs=True, **options)


@torch.inference_mode()
def brute_force(engine, request):
    """Log-probability of each choice: every path scored apart, renormalised over the paths at each of its places."""
    prompts = engine.decoder.prompts
    ids = prompts.encode(request.messages)
    paths = {choice: prompts.encode_answer(choice)[:-1] for choice in request.choices}
    # The token that ends the answer is a choice only where another choice goes on.
    for choice, path in paths.items():
        if any(other[: len(path)] == path and other != path for other in paths.values()):
            paths[choice] = [*path, EOS]
    scores = {}
    for choice, path in paths.items():
        logits = engine.decoder.model(torch.tensor([[*ids, *path]])).logits[0].double()
        scores[choice] = 0.0
        for i, token in enumerate(path):
            allowed = sorted({other[i] for other in paths.values() if other[:i] == path[:i] and len(other) > i})
            here = logits[len(ids) + i - 1]
            scores[choice] += float(here[token] - here[allowed].logsumexp(0))
    return scores


@pytest.mark.parametrize("kind", ["llama", "alibi"])
@pytest.mark.parametrize("seed", range(3))
def test_probabilities_of_all_labels_add_up_and_the_chosen_one_has_its_own(kind, seed):
    tiny = engine(kind, seed)
    requests = [ask(text) for text in ("match", "my knee", "soup again")]
    answers = tiny.answer([tiny.job(request) for request in requests])
    for request, answer in zip(requests, answers, strict=True):
        scores = brute_force(tiny, request)
        assert math.fsum(map(math.exp, scores.values())) == pytest.approx(1)
        assert answer.text in LABELS
        assert answer.logprob == pytest.approx(scores[answer.text], abs=1e-4)


def test_without_choices_it_is_the_probability_of_the_whole_answer():
    tiny = engine()
    job = tiny.job(ChatRequest((Message("user", "match"),), max_tokens=9, logprobs=True))
    (answer,) = tiny.answer([job])
    with torch.inference_mode():
        logits = tiny.decoder.model(torch.tensor([[*job.ids, *answer.ids]])).logits[0].log_softmax(1)
    expected = sum(float(logits[len(job.ids) + i - 1, token]) for i, token in enumerate(answer.ids))
    assert answer.logprob == pytest.approx(expected, abs=1e-4)
    job.logprobs = False
    assert tiny.answer([job])[0].logprob is None


def test_one_choice_is_certain_and_json_is_renormalised_by_its_grammar():
    tiny = engine()
    (only,) = tiny.answer([tiny.job(ask("x", ("refund",)))])
    assert (only.text, only.logprob) == ("refund", 0.0)
    schema = '{"enum": ["x"]}'
    (fixed,) = tiny.answer([tiny.job(ChatRequest((Message("user", "x"),), json_schema=schema, logprobs=True))])
    assert fixed.text == '"x"'
    assert fixed.logprob == pytest.approx(0, abs=2)


def test_labels_apart_in_their_first_token_cost_no_step():
    tiny = engine()
    steps = []
    start = tiny.decoder.start

    def counted():
        rows = start()
        extend = rows.extend
        rows.extend = lambda tokens: steps.append(1) or extend(tokens)
        return rows

    tiny.decoder.start = counted
    answers = tiny.answer([tiny.job(ask(text, ("refund of the card", "health"))) for text in ("a", "b", "c")])
    assert {answer.text for answer in answers} <= {"refund of the card", "health"}
    assert not steps


def test_a_choice_is_given_whole_whatever_stop_and_max_tokens_say():
    tiny = engine()
    job = tiny.job(ask("x", ("refund of the card",), max_tokens=1, stop=("of",)))
    (answer,) = tiny.answer([job])
    assert answer.text == "refund of the card"
    assert len(answer.ids) <= job.limit


def test_a_trie_refuses_what_its_tokens_cannot_tell_apart():
    assert Trie.of([("a", [1, 2]), ("A", [1, 2])], EOS) is None
    assert Trie.of([("a", [])], EOS) is None
    assert Trie.of([("a", [1]), ("ab", [1, 2])], None) is None
    assert Trie.of([("a", [1]), ("b", [3, 4])], None) is not None
    walk = Trie.of([("a", [1]), ("ab", [1, 5])], EOS).start()
    walk.accept(1)
    assert not walk.is_done
    assert walk.forced() == ([], False)
    with pytest.raises(RequestError, match="left the choices"):
        walk.accept(9)
    with pytest.raises(RequestError, match="within a choice"):
        walk.text([])


def test_choices_that_tokens_cannot_tell_apart_go_by_their_letters(monkeypatch):
    tiny = engine()
    monkeypatch.setattr(tiny.decoder.prompts, "encode_answer", lambda text: [7, EOS])
    trie, grammar = tiny.decoder.choices(("yes", "no"))
    assert trie is None
    assert "yes" in grammar
    (answer,) = tiny.answer([tiny.job(ask("x", ("yes", "no")))])
    assert answer.text in {"yes", "no"}
