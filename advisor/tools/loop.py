"""The loop of a model and its tools: ask, call, tell the results, until there is an answer or calls are used up."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.tools.calls import Call, calls_text, fault
from advisor.tools.form import Form, Turn, Worked
from advisor.tools.process import Result, ToolProcess
from backends.meter import Meter
from backends.types import Message, Tool

STEP_CHARACTERS = 2_000
"""Most that is kept of a result as the output of its step; the model is told all of it."""
_NAME = 64
"""Longest name a tool can have; what a model makes up may be longer."""


async def ask_once(form: Form, text: str, worked: Sequence[Worked], models: Meter) -> Turn:
    """One turn: the calls that a model would make."""
    return await _turn(form, form.opening(text, worked), models, 1, final=False)


async def ask_until_answered(form: Form, text: str, tools: Toolset, models: Meter) -> str:
    """The answer after at most `tools.most_calls` calls.

    Every call that is asked for counts, broken ones too; those of one turn that go beyond the limit are not made.
    """
    messages = form.opening(text)
    left = tools.most_calls
    number = 0
    while True:
        number += 1
        turn = await _turn(form, messages, models, number, final=left <= 0)
        if left <= 0 or not turn.calls:
            return turn.text
        turn = Turn(turn.calls[:left], turn.text)
        left -= len(turn.calls or ())
        results = [await tools.result(call, models) for call in turn.calls or ()]
        messages = form.continued(messages, turn, results, final=left <= 0)


async def _turn(form: Form, messages: Sequence[Message], models: Meter, number: int, *, final: bool) -> Turn:
    with models.step(f"turn {number}") as step:
        turn = form.read(await models.complete(form.request(messages, final)))
        step.output = calls_text(turn.calls) if turn.calls else turn.text
    return turn


class Toolset:
    """The tools of one sample, with the process that runs them."""

    def __init__(self, tools: Sequence[Tool], process: ToolProcess, most_calls: int) -> None:
        self._tools = tools
        self._process = process
        self.most_calls = most_calls

    async def result(self, call: Call, models: Meter) -> str:
        """What a call gives, or what is wrong with it, for the model to read."""
        with models.step(f"tool {call.name[:_NAME]}") as step:
            found = await self._made(call)
            models.spend_seconds(found.seconds)
            step.output = _kept(found.text)
        return found.text

    async def _made(self, call: Call) -> Result:
        problem = fault(call, self._tools)
        if problem is not None:
            return Result(f"error: {problem}", True, 0.0)
        return await self._process.call(call.name, call.arguments)


def _kept(text: str) -> str:
    return text if len(text) <= STEP_CHARACTERS else f"{text[: STEP_CHARACTERS - 1]}…"
