"""Reflective prompt evolution with GEPA (Agrawal et al. 2025, arXiv:2507.19457). A leaf: needs the package gepa.

GEPA is synchronous, so it runs in a thread of its own; whatever it asks is done by the coroutine that started it.
So everything is awaited where a cancellation, a budget's end or a failure strikes, and the thread never outlives it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from gepa.api import optimize
from gepa.core.adapter import EvaluationBatch
from gepa.strategies.instruction_proposal import InstructionProposalSignature

from evals.task import Sample
from evals.trial import Trial

Answer = TypeVar("Answer")

_PART = "instructions"
_TEMPLATE = (
    f"{InstructionProposalSignature.default_prompt_template}\n\n"
    "Where the instructions list the allowed answers, keep that list word for word. Write at most 300 words."
)
_LONGEST_INPUT, _LONGEST_OUTPUT = 1500, 500
"""Characters of an input and of an answer that a reflection is shown."""


class Ended(Exception):
    """Unwinds GEPA when nothing more may be asked."""


class Laboratory(Protocol):
    """Where prompts are tried: keeps the budget and remembers what was found."""

    def ended(self, rounds: int) -> bool:
        """Whether no further round should begin, after so many."""

    async def trials(self, text: str, samples: Sequence[Sample]) -> list[Trial] | None:
        """Answers of the model told `text` about the samples, in their order; None when they do not fit the budget."""

    async def reflection(self, request: str) -> str | None:
        """What the reflector answers; None when it could not or when that does not fit the budget."""

    def usable(self, parent: str, proposal: str) -> bool:
        """Take note of a proposal, and say whether it is worth trying."""


async def evolve(
    seed_text: str, train: Sequence[Sample], dev: Sequence[Sample], minibatch: int, seed: int, laboratory: Laboratory
) -> None:
    """Evolve prompts until the laboratory has ended; it holds what was found.

    Every round reflects on a minibatch of train samples; a proposal that does better on them is tried on all of dev.
    Raises what the laboratory's coroutines raise.
    """
    bridge = Bridge()
    adapter: Any = _Adapter(laboratory, bridge)

    def work() -> None:
        optimize(
            seed_candidate={_PART: seed_text},
            trainset=list(train),
            valset=list(dev),
            adapter=adapter,
            reflection_minibatch_size=minibatch,
            stop_callbacks=lambda state: bridge.closed or laboratory.ended(state.i + 1),
            logger=_Silent(),
            seed=seed,
        )

    await bridge.run(work)


@dataclass(frozen=True, slots=True)
class _Call:
    """What the thread wants done, and where it waits for the answer."""

    make: Callable[[], Awaitable[Any]]
    answer: Future[Any]


class Bridge:
    """Runs synchronous code in a thread and does the asynchronous work that it asks for, one piece at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: asyncio.Queue[_Call | None] = asyncio.Queue()
        self._lock = threading.Lock()
        self._waiting: Future[Any] | None = None
        self._failure: BaseException | None = None
        self.closed = False
        """True when nothing more is done for the thread."""

    async def run(self, work: Callable[[], None]) -> None:
        """Run `work` to its end. Raises what it raises (but Ended) and what the work it asked for raises."""
        thread = threading.Thread(target=self._in_thread, args=(work,), name="prompt-evolution", daemon=True)
        thread.start()
        try:
            while (call := await self._calls.get()) is not None:
                call.answer.set_result(await call.make())
        finally:
            self._close()
            # It waits for nothing any more and only unwinds.
            thread.join()
        if self._failure is not None:
            raise self._failure

    def wait(self, make: Callable[[], Awaitable[Answer]]) -> Answer:
        """For the thread: have this awaited, and return its result. Raises Ended when nothing more is done."""
        answer: Future[Answer] = Future()
        with self._lock:
            if self.closed:
                raise Ended
            self._waiting = answer
            self._loop.call_soon_threadsafe(self._calls.put_nowait, _Call(make, answer))
        return answer.result()

    def _in_thread(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Ended:
            pass
        except BaseException as error:  # handed over to the coroutine, which raises it
            self._failure = error
        finally:
            self._loop.call_soon_threadsafe(self._calls.put_nowait, None)

    def _close(self) -> None:
        with self._lock:
            self.closed = True
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_exception(Ended())


class _Adapter:
    """What GEPA knows of the task: one text, tried on samples."""

    def __init__(self, laboratory: Laboratory, bridge: Bridge) -> None:
        self._laboratory = laboratory
        self._bridge = bridge

    def evaluate(self, batch: list[Sample], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        """Scores of a text on samples; an error earns nothing."""
        text = candidate[_PART]
        trials = self._bridge.wait(lambda: self._laboratory.trials(text, batch))
        if trials is None:
            raise Ended
        return EvaluationBatch(
            outputs=[trial.output for trial in trials],
            scores=[trial.score.value if trial.score else 0.0 for trial in trials],
            trajectories=list(zip(batch, trials, strict=True)) if capture_traces else None,
        )

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], evaluated: Any, parts: Sequence[str]
    ) -> dict[str, list[dict[str, str]]]:
        """What the reflector is shown: inputs, answers and what was wrong with them."""
        return {_PART: [_shown(sample, trial) for sample, trial in evaluated.trajectories]}

    def propose_new_texts(
        self, candidate: Mapping[str, str], dataset: Mapping[str, Sequence[Mapping[str, Any]]], parts: Sequence[str]
    ) -> dict[str, str]:
        """One reflection; nothing when it gave no usable text."""
        parent = candidate[_PART]
        request = InstructionProposalSignature.prompt_renderer(
            {"current_instruction_doc": parent, "dataset_with_feedback": dataset[_PART], "prompt_template": _TEMPLATE}
        )
        output = self._bridge.wait(lambda: self._laboratory.reflection(str(request)))
        proposal = "" if output is None else InstructionProposalSignature.output_extractor(output)["new_instruction"]
        return {_PART: proposal} if self._laboratory.usable(parent, proposal) else {}


def _shown(sample: Sample, trial: Trial) -> dict[str, str]:
    if trial.error is not None:
        feedback = f"The request failed: {trial.error}"
    elif trial.score is not None and trial.score.value >= 1.0:
        feedback = "Right."
    else:
        feedback = f"Wrong. The right answer is: {sample.target[:_LONGEST_OUTPUT]}"
    return {
        "Inputs": sample.input[:_LONGEST_INPUT],
        "Generated Outputs": (trial.output or "")[:_LONGEST_OUTPUT],
        "Feedback": feedback,
    }


class _Silent:
    """GEPA prints its log unless it is given another place for it; all that matters is in the history."""

    def log(self, message: str) -> None:
        """Drop it."""
