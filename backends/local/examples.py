"""Conversations to token ids with the part to learn, and the order in which they are learnt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from backends.errors import InputError, Problem, RequestError
from backends.local.prompts import Prompts
from backends.types import Message
from backends.wording import agreeing, counted

_TOLD = 5
"""Problems of a split that are told one by one."""
_POOL = 16
"""Batches are cut from pools of this many batches sorted by length: little padding, yet other company every epoch."""


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation."""

    ids: tuple[int, ...]
    answer: int
    """How many tokens at its end are the answer, the end of the turn included; only these have a loss."""


def encode(
    prompts: Prompts, conversations: Sequence[Sequence[Message]], where: str, window: int | None
) -> list[Example]:
    """Token ids by the model's template, exactly as it will be asked.

    Raises InputError with the first problems, and how many more there are.
    """
    examples: list[Example] = []
    problems: list[Problem] = []
    for i, conversation in enumerate(conversations):
        try:
            examples.append(_example(prompts, conversation, window))
        except (RequestError, ValueError) as error:
            problems.append(Problem(f"{where}[{i}]", str(error), ""))
    if problems:
        raise InputError(_few(problems, where))
    return examples


def _few(problems: list[Problem], where: str) -> list[Problem]:
    """As many as people read."""
    more = len(problems) - _TOLD
    if more <= 0:
        return problems
    have = f"{counted(more, 'more conversation')} {agreeing(more, 'has', 'have')}"
    what = f"{have} such a problem, the last of them {problems[-1].where}."
    return [*problems[:_TOLD], Problem(where, what, "Correct or remove them all.")]


def _example(prompts: Prompts, conversation: Sequence[Message], window: int | None) -> Example:
    if len(conversation) < 2 or conversation[-1].role != "assistant":
        raise ValueError("must be a question and, as its last message, the assistant's answer.")
    if not conversation[-1].content.strip():
        raise ValueError("has an empty answer; there is nothing to learn from it.")
    answer = prompts.encode_answer(conversation[-1].content)
    ids = (*prompts.encode(conversation[:-1]), *answer)
    if window is not None and len(ids) > window:
        raise ValueError(f"has {len(ids)} tokens; the model's context window holds {window}. Shorten or drop it.")
    return Example(ids, len(answer))


def batches(examples: Sequence[Example], size: int, seed: int, epoch: int) -> list[list[Example]]:
    """The epoch's batches, in order; the same for the same seed and epoch."""
    rng = random.Random(f"{seed}/{epoch}")
    order = rng.sample(range(len(examples)), len(examples))
    pools = [order[i : i + size * _POOL] for i in range(0, len(order), size * _POOL)]
    # A stable sort: examples of one length stay in their random order.
    in_line = [i for pool in pools for i in sorted(pool, key=lambda i: len(examples[i].ids))]
    cut = [[examples[i] for i in in_line[at : at + size]] for at in range(0, len(in_line), size)]
    rng.shuffle(cut)
    return cut


def by_tokens(examples: Sequence[Example], limit: int) -> list[list[Example]]:
    """Cut into parts of at most `limit` padded tokens (at least one example each), shortest first."""
    parts: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: len(example.ids)):
        if parts and len(example.ids) * (len(parts[-1]) + 1) <= limit:
            parts[-1].append(example)
        else:
            parts.append([example])
    return parts
