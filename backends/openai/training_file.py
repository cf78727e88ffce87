"""Training conversations as the files that endpoints take, looked through before anything is sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backends.errors import InputError, Problem
from backends.openai.endpoints import Endpoint
from backends.openai.tokens import PER_REPLY, bound, count
from backends.openai.training_recipe import Recipe
from backends.openai.upload_check import Finding, Scan, scan
from backends.types import Message, TuneJob
from backends.wording import agreeing, counted

FEWEST = 10
"""Examples that OpenAI asks for at least."""
LARGEST_BYTES = 512 * 1024 * 1024
"""Of one uploaded file (openai 3.54.0, files.create)."""
LONGEST_EXAMPLE = 65_536
"""Tokens of one training example of OpenAI's gpt-4o and gpt-4.1 models; longer ones are cut, and lose their answer."""
_WHERE = "fine_tune"
_SHOWN = 3

Conversation = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Files:
    """What is sent, as JSON lines."""

    train: bytes
    dev: bytes
    """Empty when there is nothing to look at while training."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one pass over the train conversations."""

    counted: int
    most: int
    """An upper bound, where the model's encoding or the framing of pairs is not known."""


def check(job: TuneJob, recipe: Recipe, endpoint: Endpoint) -> Scan:
    """Look through the data and return what is personal in them; raises InputError with all that forbids the upload."""
    key = endpoint.key()
    found = scan((*job.train, *job.dev, *_as_turns(_rejected(job))), [key] if key else [])
    problems = [*_count_problems(job), *_turn_problems(job), *_pair_problems(job, recipe)]
    if found.secrets and not recipe.allow_secrets:
        problems.append(_secrets_problem(found.secrets, endpoint))
    if problems:
        raise InputError(problems)
    return found


def files_of(job: TuneJob, recipe: Recipe) -> Files:
    """The files of a job that was checked. Raises InputError when one is larger than endpoints take."""
    pairs = recipe.method == "dpo"
    train = _lines(job.train, job.rejected if pairs else ())
    has_dev = job.dev and (not pairs or (bool(job.dev_rejected) and all(job.dev_rejected)))
    dev = _lines(job.dev, job.dev_rejected if pairs else ()) if has_dev else b""
    for name, content in (("train", train), ("dev", dev)):
        if len(content) > LARGEST_BYTES:
            what = f"the {name} file has {len(content) / 1e6:,.0f} MB; endpoints take {LARGEST_BYTES / 1e6:,.0f}."
            raise InputError(Problem(_WHERE, what, "Take fewer or shorter samples."))
    return Files(train, dev)


def tokens_of(job: TuneJob, recipe: Recipe, endpoint: Endpoint, model: str) -> Tokens:
    """Count the train conversations. Raises InputError for one that is too long to be learnt from in full."""
    limit = LONGEST_EXAMPLE if endpoint.is_openai else recipe.extra.get("context_length")
    counted = most = 0
    too_long = []
    for position, conversation in enumerate(job.train, start=1):
        tokens = count(conversation, model).tokens - PER_REPLY
        if limit is not None and tokens > limit:
            too_long.append(position)
        counted += tokens
        most += bound(conversation, model)
    if recipe.method == "dpo":
        for conversation, rejected in zip(job.train, job.rejected, strict=True):
            other = (Message("assistant", rejected),)
            counted += count(other, model).tokens - PER_REPLY
            # Nobody tells whether the prompt of a pair is billed twice.
            most += bound((*conversation[:-1], *other), model)
    if too_long:
        what = f"{_have(too_long)} more tokens than the {limit:,} that are learnt from"
        what = f"{what} ({_positions(too_long)}); their answers would be cut off."
        raise InputError(Problem(_WHERE, what, "Shorten them or leave them out."))
    return Tokens(counted, most)


def remarks(job: TuneJob, found: Scan) -> tuple[str, ...]:
    """What a person should know of the data before they are sent, a sentence each."""
    told = [
        f"{one.samples} of the {len(job.train) + len(job.dev)} samples hold what looks like {one.kind}."
        for one in (*found.personal, *found.secrets)
    ]
    turns = Counter(tuple((message.role, message.content) for message in one) for one in job.train)
    copies = sum(times - 1 for times in turns.values())
    if copies:
        are = agreeing(copies, "is an exact copy of another", "are exact copies of others")
        told.append(f"{counted(copies, 'train sample')} {are}; each counts as often as it stands there.")
    answers = Counter(prompt for *prompt_turns, _ in turns for prompt in [tuple(prompt_turns)])
    torn = sum(times > 1 for times in answers.values())
    if torn:
        stand = f"{counted(torn, 'input')} {agreeing(torn, 'stands', 'stand')}"
        told.append(f"{stand} in the train split with different answers; a model cannot learn both.")
    return tuple(told)


def _lines(conversations: Sequence[Conversation], rejected: Sequence[str]) -> bytes:
    rows: Iterator[dict[str, Any]]
    if rejected:
        rows = (_pair(turns, other) for turns, other in zip(conversations, rejected, strict=True))
    else:
        rows = ({"messages": _turns(turns)} for turns in conversations)
    return b"".join(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in rows)


def _pair(conversation: Conversation, rejected: str) -> dict[str, Any]:
    """A preference as OpenAI's description of the API writes it (FineTunePreferenceRequestInput)."""
    return {
        "input": {"messages": _turns(conversation[:-1])},
        "preferred_output": _turns(conversation[-1:]),
        "non_preferred_output": [{"role": "assistant", "content": rejected}],
    }


def _turns(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in conversation]


def _as_turns(answers: Sequence[str]) -> list[Conversation]:
    return [(Message("assistant", answer),) for answer in answers]


def _rejected(job: TuneJob) -> Sequence[str]:
    return (*job.rejected, *job.dev_rejected)


def _have(found: Sequence[int], noun: str = "train sample") -> str:
    """The beginning of a sentence about the samples at these positions."""
    return f"{counted(len(found), noun)} {agreeing(len(found), 'has', 'have')}"


def _count_problems(job: TuneJob) -> Iterator[Problem]:
    if len(job.train) < FEWEST:
        few = f"{counted(len(job.train), 'train sample')} {agreeing(len(job.train), 'is', 'are')} too few"
        what = f"{few}; endpoints ask for at least {FEWEST}."
        yield Problem(_WHERE, what, "Add samples, or set fine_tune.when to never.")
    answers = {conversation[-1].content for conversation in job.train if conversation}
    if len(answers) == 1 and len(job.train) > 1:
        what = "all train samples have one answer; a model would learn to say that whatever it is asked."
        yield Problem(_WHERE, what, "Add samples with other answers.")


def _turn_problems(job: TuneJob) -> Iterator[Problem]:
    """Endpoints refuse a whole file for one conversation that is none."""
    wrong = [position for position, one in enumerate((*job.train, *job.dev), start=1) if not _is_conversation(one)]
    if wrong:
        what = f"{_have(wrong, 'sample')} an empty input or target ({_positions(wrong)}, train before dev)."
        yield Problem(_WHERE, what, "Fill them in or leave them out.")


def _is_conversation(turns: Conversation) -> bool:
    roles = [message.role for message in turns]
    is_whole = len(turns) >= 2 and roles[-1] == "assistant" and "user" in roles and "tool" not in roles
    return is_whole and all(message.content.strip() for message in turns)


def _pair_problems(job: TuneJob, recipe: Recipe) -> Iterator[Problem]:
    if recipe.method != "dpo":
        return
    rejected = job.rejected or ("",) * len(job.train)
    missing = [position for position, answer in enumerate(rejected, start=1) if not answer.strip()]
    same = [
        position
        for position, (turns, answer) in enumerate(zip(job.train, rejected, strict=True), start=1)
        if answer.strip() and answer == turns[-1].content
    ]
    if missing:
        what = f"dpo learns from pairs, and {_have(missing)} no wrong answer ({_positions(missing)})."
        remedy = "Give each a field `rejected` with an answer that was really given and is wrong, or drop method: dpo."
        yield Problem(f"{_WHERE} recipe.method", what, remedy)
    if same:
        reject = agreeing(len(same), "rejects its", "reject their")
        what = f"{counted(len(same), 'train sample')} {reject} own target ({_positions(same)})."
        yield Problem(f"{_WHERE} recipe.method", what, "Correct `rejected`.")


def _secrets_problem(found: Sequence[Finding], endpoint: Endpoint) -> Problem:
    kinds = ", ".join(
        f"{one.kind} in {counted(one.samples, 'sample')} (the first is number {one.first})" for one in found
    )
    what = f"the samples would be uploaded to {endpoint.host}, and hold what looks like {kinds}."
    remedy = "Take it out. If it is none, or is meant to be sent, set fine_tune.recipe.allow_secrets: true."
    return Problem(_WHERE, what, remedy)


def _positions(found: Sequence[int]) -> str:
    more = ", ..." if len(found) > _SHOWN else ""
    return f"number {', '.join(map(str, found[:_SHOWN]))}{more}"
