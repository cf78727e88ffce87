"""Chains for tasks that declare none: decompose-solve-answer and draft-critique-revise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from advisor.span import Span
from advisor.techniques.template import escaped, fields
from evals.task import ChainStep, Task

Plan = Literal["declared", "decompose", "revise"]

MOST_QUESTIONS = 3

_CONCLUDE = "Now do the task. Give the answer only."
"""Stands last: small models follow what they read last, and the instructions are far above by then."""

_WRITTEN = {
    "decompose": Span(14, 34, 96),
    "solve": Span(8, 24, 96),
    "draft": Span(25, 70, 200),
    "critique": Span(5, 28, 96),
}
ASKED = Span(1, 2, MOST_QUESTIONS)
"""Questions that an input is split into, assumed, and the tokens of one."""
QUESTION = Span(7, 13, 30)

_MARKER = re.compile(r"^\s*(?:[-*•]+|\(?\d+[.):]|[Qq](?:uestion)?\s*\d*[.):])\s*")


@dataclass(frozen=True, slots=True)
class Part:
    """One prompt of a chain, and how it is run."""

    step: ChainStep
    each: bool = False
    """Asked once for every `{question}` in the output before it; its own field holds the answers so far."""
    informed: bool = False
    """Whether a chain that retrieves looks up passages for it: about the question if `each`, else about the input."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Read what `asdict` gave, after a way through JSON."""
        step = ChainStep(**{**state["step"], "choices": tuple(state["step"]["choices"])})
        return cls(step, state["each"], state["informed"])


def declared(task: Task) -> tuple[Part, ...]:
    """The steps of the scenario; passages stand with the input, wherever a step looks at it."""
    return tuple(Part(step, informed="input" in fields(step.prompt)) for step in task.chain)


def decompose(task: Task) -> tuple[Part, ...]:
    """Questions that lead to the answer, their answers one after another, then the answer.

    Least-to-most prompting (Zhou et al. 2022, arXiv:2205.10625), with at most three questions, so that the cost of a
    sample is bounded.
    """
    return (
        Part(
            ChainStep(
                "decompose",
                f"The task is:\n{_instructions(task)}\n\nThe input is:\n{{input}}\n\nDo not do the task yet. Write the"
                " one, two or three short questions that must be answered first, one a line.",
                max_tokens=96,
            )
        ),
        Part(
            ChainStep(
                "solve",
                "{input}\n\n{solve}\n\nAnswer only this question, in one short sentence, with the calculation if there"
                " is one.\nQuestion: {question}",
                max_tokens=96,
            ),
            each=True,
            informed=True,
        ),
        Part(ChainStep("answer", f"{{input}}\n\nNotes:\n{{solve}}\n\n{_CONCLUDE}"), informed=True),
    )


def revise(task: Task) -> tuple[Part, ...]:
    """A draft that may think aloud, a review of it, then the answer (Self-Refine, Madaan et al. 2023, 2303.17651)."""
    start = f"The task is:\n{_instructions(task)}\n\nThe input is:\n{{input}}\n\n"
    return (
        Part(
            ChainStep("draft", start + "Think it through in a few short sentences, then give an answer."), informed=True
        ),
        Part(
            ChainStep(
                "critique",
                start + "A draft:\n{draft}\n\nName the mistakes of the draft in one or two sentences, or write: no"
                " mistakes.",
                max_tokens=96,
            ),
            informed=True,
        ),
        Part(
            ChainStep("revise", f"{{input}}\n\nA draft:\n{{draft}}\n\nA review of it:\n{{critique}}\n\n{_CONCLUDE}"),
            informed=True,
        ),
    )


def written(step: ChainStep, most_tokens: int) -> Span:
    """Tokens that a step on the way writes; assumed."""
    if step.choices:
        return Span(1, 4, 16)
    return _WRITTEN.get(step.name, Span(6, 40, 200)).at_most(step.max_tokens or most_tokens)


def parts(plan: Plan, task: Task) -> tuple[Part, ...]:
    """The chain of a plan."""
    return {"declared": declared, "decompose": decompose, "revise": revise}[plan](task)


def questions(text: str, otherwise: str) -> list[str]:
    """The questions a model wrote, one a line, at most three; `otherwise` when there is none.

    Lines that end with a question mark count where there are any: small models like to begin with a remark.
    """
    lines = [_MARKER.sub("", line).strip() for line in text.splitlines()]
    found = list(dict.fromkeys(line for line in lines if line))
    asked = [line for line in found if line.endswith("?")] or found
    return asked[:MOST_QUESTIONS] or [otherwise]


def as_state(chain: Sequence[Part]) -> list[dict[str, Any]]:
    """JSON-ready form of a chain."""
    return [asdict(part) for part in chain]


def _instructions(task: Task) -> str:
    return escaped(task.instructions.strip())
