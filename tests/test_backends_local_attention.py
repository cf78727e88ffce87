import itertools
import random

import pytest
import torch

from backends.local import attention
from backends.local.attention import Pass, attend, attending, merge
from backends.local.cascade import Cascade, _cut, _stretches
from backends.local.prefixes import Prefixes, Segment
from backends.local.ragged import Ragged
from backends.local.sharing import is_harmless, ways

from .local_models import tiny_model

CPU = torch.device("cpu")


def plain(query, key, value, scale, visible):
    """Attention in one piece, in float64; heads share keys in groups."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, 1).double() for part in (key, value))
    scores = (query.double() @ key.transpose(2, 3) * scale).masked_fill(~visible, float("-inf"))
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


def some(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("heads", [2, 6])
def test_parts_merged_are_attention_to_the_whole(heads):
    query, key, value = some(1, heads, 5, 16), some(1, 2, 12, 16), some(1, 2, 12, 16)
    everything = torch.ones(5, 12, dtype=torch.bool)
    expected, weight = plain(query, key, value, 0.3, everything)
    parts = [attend(query, key[:, :, a:b], value[:, :, a:b], 0.3) for a, b in ((0, 3), (3, 4), (4, 12))]
    for first, second, third in itertools.permutations(parts):
        merged = merge(merge(first, second), third)
        assert torch.allclose(merged[0].double(), expected, atol=1e-6)
        assert torch.allclose(merged[1].double(), weight, atol=1e-6)


def test_causal_and_masked_attention_agree_with_the_formula():
    query, key, value = some(2, 4, 7, 8), some(2, 2, 7, 8), some(2, 2, 7, 8)
    lower = torch.ones(7, 7, dtype=torch.bool).tril()
    expected, weight = plain(query, key, value, 0.5, lower)
    mask = torch.zeros(2, 1, 7, 7).masked_fill(~lower, float("-inf"))
    for out, found in (
        attend(query, key, value, 0.5, causal=True),
        attend(query, key, value, 0.5, mask=mask),
    ):
        assert torch.allclose(out.double(), expected, atol=1e-6)
        assert torch.allclose(found.double(), weight, atol=1e-6)


@pytest.mark.parametrize("lengths", [(3, 1, 4), (2, 2), (5,)])
def test_packing_undoes_padding_and_every_token_knows_its_place(lengths):
    ragged = Ragged(lengths, CPU)
    tokens = torch.arange(sum(lengths) * 2).view(-1, 2)
    padded = ragged.padded(tokens)
    assert padded.shape == (len(lengths), max(lengths), 2)
    assert torch.equal(ragged.packed(padded), tokens)
    for row, part in enumerate(tokens.split(lengths)):
        assert torch.equal(padded[row, : len(part)], part)
    assert ragged.row.tolist() == [row for row, length in enumerate(lengths) for _ in range(length)]
    assert ragged.place.tolist() == [place for length in lengths for place in range(length)]


def test_passes_are_bounded_in_padded_size_and_cover_all_rows():
    rng = random.Random(0)
    lengths = sorted(rng.randint(1, 1500) for _ in range(50))
    cuts = list(_cut(lengths))
    assert [low for low, _ in cuts] == [0, *(high for _, high in cuts[:-1])]
    assert cuts[-1][1] == 50
    assert all((high - low) * max(lengths[low:high]) <= 1024 or high - low == 1 for low, high in cuts)
    assert list(_cut([])) == []


def test_neighbours_with_a_segment_in_common_are_one_stretch():
    root, one, two = (Segment([(torch.zeros(1, size, 1), torch.zeros(1, size, 1))]) for size in (2, 3, 4))
    found = list(_stretches([(root, one), (root, one), (root, two), (), (root,)], [2, 5, 6, 8, 9]))
    assert {(start, stop, layers[0][0].shape[1]) for start, stop, layers in found} == {
        (0, 6, 2),
        (8, 9, 2),
        (0, 5, 3),
        (5, 6, 4),
    }


def test_outside_of_a_pass_the_model_is_as_it_was():
    model = tiny_model()
    ids = torch.arange(3, 20)[None]
    before = model(ids).logits
    Cascade(model, Prefixes()).admit([tuple(range(3, 20))])
    assert torch.equal(model(ids).logits, before)
    with pytest.raises(ZeroDivisionError), attending(model, Pass([], None)):
        _ = 1 / 0
    assert model.config._attn_implementation == "sdpa"
    assert attention._current.get() is None


@pytest.mark.parametrize("kind", ["softcap", "sliding_window", "s_aux"])
def test_other_kinds_of_attention_are_refused(kind):
    module = torch.nn.Module()
    part = some(1, 2, 3, 8)
    token = attention._current.set(Pass([], None))
    with pytest.raises(ValueError, match=kind):
        attention.cascade(module, part, part, part, None, **{kind: 1})
    attention._current.reset(token)


def test_a_model_that_attends_in_its_own_way_falls_back(monkeypatch):
    model = tiny_model()
    assert ways(model, Prefixes())[0]().can_join
    wrong = attention.merge
    monkeypatch.setattr(attention, "merge", lambda first, second: wrong(second, second))
    assert not is_harmless(model, lambda kept: Cascade(model, kept))
    start, shares = ways(model, Prefixes())
    assert not start().can_join
    assert shares
    model.model.layers[1].self_attn.layer_idx = 0
    monkeypatch.undo()
    assert not is_harmless(model, lambda kept: Cascade(model, kept))


def test_several_tokens_at_once_are_as_one_after_another():
    model = tiny_model()
    prompts = [tuple(range(3, 3 + size)) for size in (5, 9)]
    many, single = Cascade(model, Prefixes()), Cascade(model, Prefixes())
    with torch.inference_mode():
        many.admit(prompts)
        single.admit(prompts)
        together = many.extend([[7, 8, 9], [4]])
        single.extend([[7], [4]])
        single.keep([0])
        single.extend([[8]])
        last = single.extend([[9]])
        alone = [model(torch.tensor([ids])).logits[0, -1] for ids in ((*prompts[0], 7, 8, 9), (*prompts[1], 4))]
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)
    assert torch.allclose(last[0], alone[0], atol=1e-4)
