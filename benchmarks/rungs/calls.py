"""How often what a model wrote can be run as calls: the share of outputs that are valid under the tools' schemas."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from advisor.tools.calls import calls_of, fault
from backends.types import Tool
from evals.task import Toolbox
from evals.trial import Trial


def is_valid(output: str, tools: Sequence[Tool]) -> bool:
    """True when the output, read strictly, is JSON calls of these tools with arguments that fit their schemas."""
    try:
        calls = calls_of(json.loads(output))
    except (ValueError, RecursionError):
        return False
    return calls is not None and all(fault(call, tools) is None for call in calls)


def valid_share(trials: Iterable[Trial], toolbox: Toolbox) -> float | None:
    """Share of the trials with an output whose output is valid; None without any.

    Trials that ended in an error have no output and are told by the error rate.
    """
    outputs = [trial.output for trial in trials if trial.output is not None]
    if not outputs:
        return None
    return sum(is_valid(output, toolbox.tools) for output in outputs) / len(outputs)
