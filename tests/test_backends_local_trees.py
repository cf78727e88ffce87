import random

import pytest

from backends.local.batches import Limits, Prompt
from backends.local.trees import groups, tree


def cost(node, prompts, above=0):
    """Tokens computed when every stretch of the tree is computed once."""
    stretch = node.shared - above
    own = sum(len(prompts[i]) - node.shared for i in node.rows)
    return stretch + own + sum(cost(child, prompts, node.shared) for child in node.children)


def rows(node):
    return [*node.rows, *(i for child in node.children for i in rows(child))]


def test_instructions_and_demonstrations_are_two_levels():
    instructions, few, many = (1,) * 100, (2,) * 50, (3,) * 70
    prompts = [(*instructions, *more, 9, i) for more in (few, many) for i in range(10)]
    root = tree(prompts)
    (top,) = root.children
    assert (root.shared, top.shared) == (0, 100)
    assert sorted(child.shared for child in top.children) == [151, 171]
    assert cost(root, prompts) == 100 + 51 + 71 + 20


def test_equal_prompts_keep_a_token_of_their_own():
    (node,) = tree([(1,) * 50] * 5).children
    assert node.shared == 49
    assert sorted(node.rows) == [0, 1, 2, 3, 4]


def test_a_saving_that_is_not_worth_a_pass_is_left():
    assert tree([(1, 2, 3, i) for i in range(4, 10)]).children == []
    assert tree([]).rows == []
    assert tree([(1, 2)]).rows == [0]


@pytest.mark.parametrize("seed", range(5))
def test_a_tree_holds_every_prompt_once_under_what_it_begins_with(seed):
    rng = random.Random(seed)
    starts = [tuple(rng.choices(range(3), k=rng.randint(0, 90))) for _ in range(6)]
    prompts = [rng.choice(starts) + tuple(rng.choices(range(9), k=rng.randint(1, 30))) for _ in range(80)]
    root = tree(prompts)
    assert sorted(rows(root)) == list(range(80))
    waiting = [root]
    while waiting:
        node = waiting.pop()
        waiting += node.children
        assert len({prompts[i][: node.shared] for i in rows(node)}) == 1
        assert all(len(prompts[i]) > node.shared for i in rows(node))
        assert all(child.shared > node.shared for child in node.children)
    assert cost(root, prompts) <= sum(map(len, prompts))


def test_prompts_that_each_begin_the_next_do_not_exhaust_the_stack():
    prompts = [(1,) * size for size in range(1, 1500)]
    assert sorted(i for group in groups([Prompt(ids, 1) for ids in prompts], Limits()) for i in group) == list(
        range(1499)
    )


def test_families_stay_together_and_the_short_come_first():
    prompts = [Prompt((family,) * 100 + (9,) * size, 1) for size in (8, 2, 5) for family in (1, 2)]
    (order,) = groups(prompts, Limits())
    assert [(prompts[i].ids[0], len(prompts[i].ids)) for i in order] == [
        (1, 102),
        (1, 105),
        (1, 108),
        (2, 102),
        (2, 105),
        (2, 108),
    ]


def test_limits_count_what_a_row_does_not_share():
    prompts = [Prompt((1,) * 1000 + (i,) * 10, 10) for i in range(2, 42)]
    assert max(map(len, groups(prompts, Limits(rows=7)))) == 7
    assert max(map(len, groups(prompts, Limits(rows=99, held_tokens=100)))) == 5
    assert max(map(len, groups(prompts, Limits(rows=99, computed_tokens=30)))) == 3
    assert groups([Prompt((1,) * 99, 9)], Limits(held_tokens=1, computed_tokens=1)) == [[0]]
    assert groups([], Limits()) == []


def test_order_of_arrival_does_not_matter():
    rng = random.Random(0)
    prompts = [Prompt(tuple(rng.choices(range(3), k=rng.randint(1, 120))), 4) for _ in range(60)]
    shuffled = rng.sample(prompts, 60)
    one, two = ([[p[i].ids for i in g] for g in groups(p, Limits(rows=8))] for p in (prompts, shuffled))
    assert one == two
