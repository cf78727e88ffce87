"""Where in a chain an error began: the first step whose output is not what it should have been."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from advisor.retrieval.retriever import STEP
from backends.meter import Step

_REVISION = ["draft", "critique", "revise"]


def first_wrong_step(
    trial_steps: Sequence[Step], gold_steps: Mapping[str, str] | Sequence[str], same: Callable[[str, str], bool]
) -> str | None:
    """Name of the first step that went wrong; None when none is known to have.

    `gold_steps` are right outputs by step, or right results in their order; `same` says whether an output, its first
    argument, means what a gold text means, by the scorer's idea of it. Steps without a gold text are not judged.

    Results in their order belong to the numbered questions of a decomposition, which is itself at fault when it asked
    for fewer; otherwise to the steps, in turn. A draft is not one of several results: give its gold text by name.
    """
    steps = [step for step in trial_steps if step.name != STEP]
    names = [step.name for step in steps]
    wanted = gold_steps if isinstance(gold_steps, Mapping) else _by_name(names, gold_steps)
    for step in steps:
        if step.name in wanted and not same(step.output, wanted[step.name]):
            return step.name
    unasked = any(name not in names for name in wanted)
    return "decompose" if unasked and "decompose" in names else None


def _by_name(names: Sequence[str], gold: Sequence[str]) -> dict[str, str]:
    """The results, by the step that should have given each."""
    if list(names) == _REVISION:
        return {}
    if "solve 1" in names:
        return {f"solve {number}": text for number, text in enumerate(gold, start=1)}
    return dict(zip(names, gold, strict=False))
