import random

import pytest

from backends.local.batches import Limits, Prompt, common_prefix, plan, shared_prefix


def prompts(*ids, limit=8):
    return [Prompt(tuple(one), limit) for one in ids]


def cost(batches, all_prompts):
    """Tokens computed: each batch's prefix once, then padded rows."""
    total = 0
    for batch in batches:
        ids = [all_prompts[i].ids for i in batch]
        shared = shared_prefix(ids)
        total += shared + len(ids) * (max(map(len, ids)) - shared)
    return total


def test_common_prefix_stops_at_the_first_difference_or_the_shorter_end():
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 4]) == 2
    assert common_prefix([], [1]) == 0


def test_a_shared_prefix_leaves_each_row_a_token():
    assert shared_prefix([(1, 2, 3), (1, 2, 4)]) == 2
    assert shared_prefix([(1, 2), (1, 2, 4)]) == 1
    assert shared_prefix([(1, 2, 3)]) == 2


def test_two_techniques_are_not_mixed_in_a_batch():
    one = [(1,) * 200 + (7, i) for i in range(10)]
    two = [(2,) * 300 + (7, i) for i in range(10)]
    mixed = prompts(*[p for pair in zip(one, two, strict=True) for p in pair])
    batches = plan(mixed, Limits())
    assert sorted(map(len, batches)) == [10, 10]
    assert cost(batches, mixed) == 201 + 301 + 20


def test_prompts_without_a_shared_prefix_still_run_together():
    mixed = prompts(*[(i, *range(20)) for i in range(20)])
    assert len(plan(mixed, Limits())) == 1


def test_rows_are_sorted_by_length_within_a_family():
    mixed = prompts(*[(1,) * 100 + (2,) * size for size in (50, 5, 40, 1, 30)])
    (batch,) = plan(mixed, Limits(rows=5))
    assert [len(mixed[i].ids) for i in batch] == sorted(len(p.ids) for p in mixed)


def test_limits_hold():
    mixed = prompts(*[(1,) * 10 + (i,) * 10 for i in range(2, 40)], limit=20)
    assert max(map(len, plan(mixed, Limits(rows=7)))) == 7
    assert max(map(len, plan(mixed, Limits(held_tokens=130)))) == 3
    assert max(map(len, plan(mixed, Limits(computed_tokens=25)))) == 2
    assert max(map(len, plan(prompts((1,) * 99), Limits(held_tokens=1, computed_tokens=1)))) == 1


def test_without_padding_all_rows_of_a_batch_have_one_length():
    mixed = prompts(*[(i,) * (5 + i % 3) for i in range(12)])
    batches = plan(mixed, Limits(), padded=False)
    assert all(len({len(mixed[i].ids) for i in batch}) == 1 for batch in batches)
    assert len(batches) == 3


@pytest.mark.parametrize("seed", range(5))
def test_every_prompt_is_in_one_batch_and_order_of_arrival_does_not_matter(seed):
    rng = random.Random(seed)
    starts = [tuple(rng.choices(range(9), k=rng.randint(0, 90))) for _ in range(4)]
    mixed = prompts(*[rng.choice(starts) + tuple(rng.choices(range(9), k=rng.randint(1, 30))) for _ in range(60)])
    batches = plan(mixed, Limits(rows=8))
    assert sorted(i for batch in batches for i in batch) == list(range(60))
    shuffled = rng.sample(mixed, 60)
    again = plan(shuffled, Limits(rows=8))
    assert [[mixed[i].ids for i in b] for b in batches] == [[shuffled[i].ids for i in b] for b in again]
    assert cost(batches, mixed) <= sum(len(p.ids) for p in mixed)


def test_nothing_pending_is_no_batch():
    assert plan([], Limits()) == []
