"""Ways of putting the same instructions: as written, in sections, form first, or with a thought before the answer.

And what instructions that a model wrote must keep of those they replace.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal, get_args

from advisor.span import Span
from advisor.techniques.forecast import Ask
from advisor.techniques.prompt import Prompt
from backends.meter import Meter
from backends.types import ChatRequest, Message
from evals.task import Task

Instruction = Literal["plain", "structured", "format_first", "reason_then_answer"]
INSTRUCTIONS: tuple[Instruction, ...] = get_args(Instruction)
"""All variants, the plainest first."""

REASONING_TOKENS = 160
"""The longest thought before an answer: three sentences, and some more for models that write long ones."""
THOUGHT = Span(15, 50, REASONING_TOKENS)
"""Tokens of such a thought, assumed."""

_LONGEST_LIST = 4_000
"""Characters of answers or schema that a prompt repeats; beyond it the constraint alone must do."""
_LONGEST_REWRITTEN = 4_000
"""Characters; what is longer costs more in every request than it can be worth."""
_MOST_ANSWERS = 50
"""Up to so many different answers in train are looked for in the instructions as a list of allowed answers."""
_THINK = "First think in one to three short sentences. Do not give the answer yet."
_CONCLUDE = "Now give the answer only."
_THINK_THEN_ANSWER = (
    "First think in one to three short sentences. Then write the answer alone on a last line that begins with Answer:"
)
_MARKER = re.compile(r"\banswer\b[*_`]*\s*:", re.IGNORECASE)
_EMPHASIS = "*_` \n\t"


def reworded(prompt: Prompt, instruction: Instruction) -> Prompt:
    """The prompt with its instructions put this way; `reason_then_answer` leaves them as they are written."""
    task = prompt.instructions
    if instruction == "structured":
        sections = [f"# Task\n{task}", _allowed(prompt), f"# Output\n{_form(prompt)}"]
        return replace(prompt, instructions="\n\n".join(section for section in sections if section))
    if instruction == "format_first":
        return replace(prompt, instructions=f"{_form(prompt)}\n\n{task}")
    return prompt


async def answered(prompt: Prompt, instruction: Instruction, text: str, models: Meter) -> str:
    """Answer `text` with instructions put this way: one request, or two where a free thought precedes a fixed form."""
    if instruction != "reason_then_answer":
        return (await models.complete(reworded(prompt, instruction).request(text))).text
    if not closed(prompt):
        return after_marker((await models.complete(thinking(prompt, text))).text)
    with models.step("reason") as reason:
        reason.output = (await models.complete(thinking(prompt, text))).text
    with models.step("answer") as answer:
        answer.output = (await models.complete(concluding(prompt, text, reason.output))).text
    return answer.output


def planned(prompt: Prompt, instruction: Instruction, text: str) -> list[Ask]:
    """What `answered` asks."""
    if instruction != "reason_then_answer":
        return [Ask(reworded(prompt, instruction).request(text))]
    if not closed(prompt):
        return [Ask(thinking(prompt, text), thought=THOUGHT)]
    first = Ask(thinking(prompt, text), target=False, thought=THOUGHT)
    return [first, Ask(concluding(prompt, text, ""), more=THOUGHT)]


def closed(prompt: Prompt) -> bool:
    """Whether the answer's form is enforced, so that a thought needs a request of its own."""
    return bool(prompt.choices) or prompt.json_schema is not None


def thinking(prompt: Prompt, text: str) -> ChatRequest:
    """A request for a thought; where answers are free, for the thought and the answer after a marker."""
    if closed(prompt):
        return ChatRequest(_told(prompt, text, _THINK), max_tokens=REASONING_TOKENS)
    return ChatRequest(_told(prompt, text, _THINK_THEN_ANSWER), max_tokens=REASONING_TOKENS + prompt.max_tokens)


def concluding(prompt: Prompt, text: str, thought: str) -> ChatRequest:
    """A request for the answer in its enforced form, after a thought."""
    turns = (*_told(prompt, text, _THINK), Message("assistant", thought), Message("user", _CONCLUDE))
    return replace(prompt.request(text), messages=turns)


def after_marker(output: str) -> str:
    """What follows the last `Answer:`; the whole output where a model left the marker out."""
    found = list(_MARKER.finditer(output))
    rest = output[found[-1].end() :].strip(_EMPHASIS) if found else ""
    return rest or output.strip()


def complaint(proposal: str, seed: str, answers: frozenset[str]) -> str:
    """Why a proposal is not worth a try, as the rest of a sentence about it; nothing when it is."""
    if not proposal.strip():
        return "is empty"
    longest = max(_LONGEST_REWRITTEN, len(seed))
    if len(proposal) > longest:
        return f"has more than {longest} characters"
    lost = sorted(answer for answer in answers if answer not in proposal)
    return f"loses the answer {lost[0]!r}" if lost else ""


def listed_answers(task: Task, instructions: str) -> frozenset[str]:
    """The allowed answers that the instructions name: labels, or the answers in train where these are few."""
    answers = set(task.labels) or {sample.target.strip() for sample in task.train}
    few = task.labels or len(answers) <= _MOST_ANSWERS
    return frozenset(answer for answer in answers if few and answer and answer in instructions)


def _told(prompt: Prompt, text: str, rule: str) -> tuple[Message, ...]:
    return replace(prompt, instructions=f"{prompt.instructions}\n\n{rule}").messages(text)


def _allowed(prompt: Prompt) -> str:
    """The section that lists the allowed answers; empty where there is no list or it is too long to repeat."""
    listed = "\n".join(f"- {choice}" for choice in prompt.choices)
    return f"# Allowed answers\n{listed}" if 0 < len(listed) <= _LONGEST_LIST else ""


def _form(prompt: Prompt) -> str:
    """What an answer must look like."""
    if prompt.choices:
        return "Give exactly one of the allowed answers, written as it is listed, and nothing else."
    if prompt.json_schema is not None:
        schema = (
            f" that fits this JSON Schema:\n{prompt.json_schema}" if len(prompt.json_schema) <= _LONGEST_LIST else ""
        )
        return f"Give one JSON object and nothing else{schema or '.'}"
    return "Give the answer only, as short as it can be, without an explanation."
