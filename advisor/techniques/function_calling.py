"""Function calling: the model asks for tools; they are run and their results told, or the calls are the answer."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from advisor.techniques.base import FitContext, Given, GivenKind, Technique, read_state, write_state
from advisor.techniques.choose import Tried, as_rows, best_on_dev, from_rows, rounds_ahead
from advisor.techniques.forecast import Ask, Corpus, Plan, Prospect, Way, stand_ins
from advisor.techniques.prompt import Prompt
from advisor.tools.ahead import turns_ahead
from advisor.tools.calls import Call, calls_of, calls_text, first_json
from advisor.tools.declare import declared_all
from advisor.tools.form import Form, Worked
from advisor.tools.loop import Toolset, ask_once, ask_until_answered
from advisor.tools.native import NativeForm
from advisor.tools.process import ToolProcess
from advisor.tools.prompted import PromptedForm
from advisor.tools.schema import Bounds
from backends.errors import RequestError
from backends.extras import require
from backends.meter import Meter
from backends.types import ChatRequest, FloatArray, Message, Tool
from evals.runner import Solve
from evals.task import Sample, Task, Toolbox

FormName = Literal["auto", "native", "prompted"]

_LEAF = "advisor.techniques.neighbours"
_TRIED = (0, 4, 8)
"""Numbers of worked calls that are tried on dev."""
_SOURCE_FILE = "tools.py"


class _Neighbours(Protocol):
    def nearest(self, query: FloatArray, k: int) -> npt.NDArray[np.int64]: ...

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class Manner:
    """How calls are asked for and made."""

    form: FormName
    constrained: bool
    max_calls: int
    tool_seconds: float
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Examples:
    """Worked calls from train, and where those nearest to an input are found."""

    pool: tuple[Worked, ...] = ()
    neighbours: _Neighbours | None = None
    k: int = 0

    async def nearest(self, text: str, models: Meter) -> list[Worked]:
        """The `k` nearest to a text, the nearest last, next to the input."""
        if self.neighbours is None or not self.k:
            return []
        query = (await models.embed([text]))[0]
        return [self.pool[position] for position in self.neighbours.nearest(query, self.k)[::-1]]


@dataclass(frozen=True, slots=True)
class FittedFunctionCalling:
    """Function calling where the calls themselves are the answer."""

    technique: ClassVar[str] = "function_calling"
    prompt: Prompt
    manner: Manner
    toolbox: Toolbox | None
    """None where every sample brings tools of its own."""
    examples: Examples = Examples()
    tried: tuple[Tried, ...] = ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How calls are asked for, and what was chosen."""
        bounds = self.manner.bounds
        shown = {"k": self.examples.k, "calls": f"{bounds.fewest_calls} to {bounds.most_calls}"}
        return {
            "form": self.manner.form,
            "constrained": self.manner.constrained,
            "tools": None if self.toolbox is None else len(self.toolbox.tools),
            **shown,
            **({"tried": as_rows(self.tried)} if self.tried else {}),
        }

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One request; the answer is the list of calls as canonical JSON, or what the model wrote in its place."""
        tools = tools_of(sample, self.toolbox)
        worked = await self.examples.nearest(sample.input, models)
        turn = await ask_once(self.form(tools, models.native_tools()), sample.input, worked, models)
        return turn.text if turn.calls is None else calls_text(turn.calls)

    def form(self, tools: tuple[Tool, ...], native_tools: bool) -> Form:
        """How calls are asked for, of a model that takes tools or does not."""
        executed = self.toolbox is not None and self.toolbox.source is not None
        native = native_tools if self.manner.form == "auto" else self.manner.form == "native"
        if native:
            return NativeForm(self.prompt, tools, executed)
        return PromptedForm(self.prompt, tools, executed, self.manner.bounds, self.manner.constrained)

    def save(self, folder: Path) -> None:
        """Write prompt, tools, worked calls and their index, and a copy of the file of tools."""
        write_state(folder, self.technique, self._state())
        if self.examples.neighbours is not None:
            self.examples.neighbours.save(folder)
        if self.toolbox is not None and self.toolbox.source is not None:
            (folder / _SOURCE_FILE).write_bytes(self.toolbox.source.read_bytes())

    def _state(self) -> dict[str, Any]:
        toolbox = self.toolbox
        return {
            "prompt": self.prompt.as_state(),
            "manner": dataclasses.asdict(self.manner),
            "tools": None if toolbox is None else [dataclasses.asdict(tool) for tool in toolbox.tools],
            "source": None if toolbox is None or toolbox.source is None else str(toolbox.source.absolute()),
            "pool": [{"input": shown.input, "calls": calls_text(shown.calls)} for shown in self.examples.pool],
            "k": self.examples.k,
            "indexed": self.examples.neighbours is not None,
            "tried": as_rows(self.tried),
        }

    @classmethod
    def load(cls, folder: Path) -> FittedFunctionCalling:
        """Read what save wrote; with tools that are run, a FittedToolLoop."""
        state = read_state(folder)
        kind = cls if state["source"] is None else FittedToolLoop
        manner = state["manner"] | {"bounds": Bounds(**state["manner"]["bounds"])}
        pool = tuple(Worked(row["input"], calls_of(first_json(row["calls"])) or ()) for row in state["pool"])
        neighbours = require(_LEAF, "rag").Neighbours.load(folder) if state["indexed"] else None
        return kind(
            Prompt.from_state(state["prompt"]),
            Manner(**manner),
            _toolbox(state, folder),
            Examples(pool, neighbours, state["k"]),
            from_rows(state["tried"]),
        )


@dataclass(frozen=True, slots=True)
class FittedToolLoop(FittedFunctionCalling):
    """Function calling where tools are run and the model answers from their results."""

    accepts: ClassVar[frozenset[GivenKind]] = frozenset({"tool_results"})

    async def solve(self, sample: Sample, models: Meter) -> str:
        """As many requests as the model takes turns."""
        assert self.toolbox is not None
        assert self.toolbox.source is not None
        async with ToolProcess(self.toolbox.source, self.manner.tool_seconds) as process:
            tools = Toolset(self.toolbox.tools, process, self.manner.max_calls)
            form = self.form(self.toolbox.tools, models.native_tools())
            return await ask_until_answered(form, sample.input, tools, models)

    async def solve_given(self, sample: Sample, models: Meter, given: Given) -> str:
        """Answer from right results; no tool is offered, so the model has only to read them."""
        if given.tool_results is None:
            return await self.solve(sample, models)
        told = "\n".join(f"- {result}" for result in given.tool_results)
        messages = (
            Message("system", self.prompt.instructions),
            Message("user", f"{sample.input}\n\nResults of tools that were called for this:\n{told}"),
        )
        request = ChatRequest(
            messages, self.prompt.max_tokens, choices=self.prompt.choices, json_schema=self.prompt.json_schema
        )
        return (await models.complete(request)).text


def tools_of(sample: Sample, toolbox: Toolbox | None) -> tuple[Tool, ...]:
    """The tools for one sample: the task's, or its own. Raises RequestError when it has none that can be used."""
    if toolbox is not None:
        return toolbox.tools
    try:
        tools = declared_all(sample.metadata.get("tools") or ())
    except ValueError as error:
        raise RequestError(str(error)) from error
    if not tools:
        raise RequestError("neither the scenario nor the sample declares a tool")
    return tools


def _toolbox(state: Mapping[str, Any], folder: Path) -> Toolbox | None:
    """The tools; those that are run come from the user's file while it is as it was, else from our copy of it."""
    if state["tools"] is None:
        return None
    tools = tuple(Tool(**tool) for tool in state["tools"])
    if state["source"] is None:
        return Toolbox(tools)
    source, copy = Path(state["source"]), folder / _SOURCE_FILE
    # The original may read files beside it.
    return Toolbox(tools, source if _digest(source) == _digest(copy) else copy)


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


@dataclass(frozen=True, slots=True)
class FunctionCalling(Technique):
    """Offer the task's tools, natively where the model takes them and in a prompted form where it does not."""

    name: ClassVar[str] = "function_calling"
    summary: ClassVar[str] = "the model asks for tools, which are run, or whose calls are the answer"
    tunes: ClassVar[bool] = False
    fitted: ClassVar[type[FittedFunctionCalling]] = FittedFunctionCalling

    max_calls: int = 8
    """Most calls for one sample; then the model must answer."""
    form: FormName = "auto"
    """`native` is the chat protocol's own tools, `prompted` describes them in the prompt; `auto` goes by the model."""
    constrained: bool = True
    """Prompted form: whether only valid calls can be written (by grammar, where the backend has one)."""
    k: int | None = 0
    """Worked calls shown, the nearest to each input; None tries 0, 4 and 8 on dev. Only where targets are calls."""
    tool_seconds: float = 10.0
    """Longest that a call may take."""

    def __post_init__(self) -> None:
        if self.max_calls < 1:
            raise ValueError(f"max_calls is {self.max_calls}, but at least one call must be possible")
        if self.k is not None and self.k < 0:
            raise ValueError(f"k is {self.k}, but it counts examples")
        if self.tool_seconds <= 0:
            raise ValueError(f"tool_seconds is {self.tool_seconds}, but calls take time")

    @property
    def embeds(self) -> bool:
        """Whether worked calls are shown, which are found by embedding."""
        return self.k != 0

    def unfit(self, task: Task) -> str | None:
        """Needs tools; and worked calls, where some are to be shown."""
        if task.tools is None and not _bring_tools(task):
            return "the scenario declares no tools"
        if self.k and len(worked_calls(task)) <= self.k:
            return f"the train targets are no calls of which {self.k} could be shown"
        return None

    def skip(self, task: Task) -> str | None:
        """Where calls are the answer, the targets must be calls."""
        is_run = task.tools is not None and task.tools.source is not None
        if is_run or any(_is_calls(sample) for sample in task.dev):
            return None
        return "the tools are only declared, and the targets are no calls of them"

    def suits(self, task: Task) -> str:
        """There are tools."""
        if task.tools is None:
            return "the samples bring tools of their own"
        count = len(task.tools.tools)
        return f"{count} tool{' is' if count == 1 else 's are'} declared"

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """One request where calls are the answer, else one for each turn of a conversation with tools."""
        plain, pool = self._plain(task), worked_calls(task)
        options = self._options(pool)
        ways = [self._way(plain, pool, k, prospect) for k in options or [0]]
        corpora = (Corpus("worked calls", tuple(shown.input for shown in pool), len(pool)),) if any(options) else ()
        return Plan(tuple(ways), rounds_ahead(ways, task.dev, prospect.seed), corpora=corpora)

    def _way(self, plain: FittedFunctionCalling, pool: Sequence[Worked], k: int, prospect: Prospect) -> Way:
        def asks(sample: Sample) -> list[Ask]:
            try:
                form = plain.form(tools_of(sample, plain.toolbox), prospect.native_tools)
            except RequestError:  # a sample without a usable tool is a failed trial that asks nothing
                return []
            request = form.request(form.opening(sample.input, stand_ins(pool, k, sample, prospect.seed)))
            return turns_ahead(request, self.max_calls) if isinstance(plain, FittedToolLoop) else [Ask(request)]

        return Way(f"k={k}", asks, dataclasses.replace(self, k=k), embeds=k > 0)

    def _options(self, pool: Sequence[Worked]) -> list[int]:
        """Numbers of worked calls to choose from."""
        return [k for k in (_TRIED if self.k is None else (self.k,)) if k == 0 or k < len(pool)]

    async def fit(self, task: Task, context: FitContext) -> FittedFunctionCalling:
        """Learn bounds of calls from train; choose the number of worked calls on dev when it is open."""
        plain = self._plain(task)
        pool = worked_calls(task)
        options = self._options(pool)
        if not any(options):
            return plain
        vectors = await context.models.embed([shown.input for shown in pool])
        neighbours = require(_LEAF, "rag").Neighbours.of(vectors)
        fitted = {
            f"k={k}": dataclasses.replace(plain, examples=Examples(pool, neighbours, k) if k else Examples())
            for k in options
        }
        solves: dict[str, Solve] = {name: one.solve for name, one in fitted.items()}
        best, tried = await best_on_dev(solves, context, task.dev)
        return dataclasses.replace(fitted[best], tried=tried)

    def _plain(self, task: Task) -> FittedFunctionCalling:
        """Without worked calls."""
        is_run = task.tools is not None and task.tools.source is not None
        targets = [sample.target for sample in task.train]
        bounds = (Bounds.of_answers if is_run else Bounds.learnt)(targets, self.max_calls)
        manner = Manner(self.form, self.constrained, self.max_calls, self.tool_seconds, bounds)
        kind = FittedToolLoop if is_run else FittedFunctionCalling
        return kind(Prompt.of(task), manner, task.tools)


def worked_calls(task: Task) -> tuple[Worked, ...]:
    """The train samples whose targets are calls; none where tools are run, since no call is known to be right."""
    if task.tools is not None and task.tools.source is not None:
        return ()
    return tuple(Worked(sample.input, calls) for sample in task.train if (calls := _calls(sample)) is not None)


def _calls(sample: Sample) -> tuple[Call, ...] | None:
    return calls_of(first_json(sample.target))


def _is_calls(sample: Sample) -> bool:
    return _calls(sample) is not None


def _bring_tools(task: Task) -> bool:
    samples: Sequence[Sample] = (*task.train, *task.dev)
    return bool(samples) and all(sample.metadata.get("tools") for sample in samples)
