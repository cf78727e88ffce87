"""One of several processes that train a model together: `python -m backends.local.worker FOLDER`, as accelerate says.

FOLDER is what `launch` has handed over.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import traceback
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState

from backends.errors import AdvisorError, InputError
from backends.local.catalog import locate
from backends.local.files import read_json, write_text
from backends.local.fitting import Fitted, fit
from backends.local.group import Group
from backends.local.launch import ERROR, JOB, RESULT
from backends.local.recipe import Recipe
from backends.local.tune import Work, told_clearly
from backends.types import Message, ToolCall, TuneJob, TuneObserver, TuneProgress

_PATIENCE = timedelta(hours=4)
"""The others wait for the first to write a checkpoint; who is lost is noticed by the launcher, not by the clock."""


def main(folder: Path) -> int:
    """Train; the exit code says whether it came to an end."""
    tell = _told()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        told = read_json(folder / JOB)
        work = _work(told)
        with told_clearly(work):
            state = PartialState(cpu=told["device"] == "cpu", timeout=_PATIENCE)
            group = Group(state.process_index, state.num_processes, told["device"])
            observe = tell if group.leads else None
            fitted = fit(work, told["device"], observe, threading.Event(), group)
            if group.leads:
                write_text(folder / RESULT, json.dumps(_as_json(fitted)))
            group.wait()
            state.destroy_process_group()
    except Exception as error:  # The one boundary of this process: whatever it is must reach the one that asked.
        # The first counts: that the others lose it is no news.
        write_text(folder / ERROR, json.dumps(_error(error)), replace=False)
        return 1
    return 0


def _told() -> TuneObserver:
    """Tells progress on the standard output, to which nothing else is written from now on."""
    out = os.dup(1)
    os.dup2(2, 1)

    def tell(progress: TuneProgress) -> None:
        os.write(out, json.dumps(asdict(progress)).encode() + b"\n")

    return tell


def _end_with_parent() -> None:
    """End at once when the standard input is closed; a checkpoint is whole or not there at any moment."""
    while os.read(0, 1):
        pass
    os._exit(130)


def _work(told: dict[str, Any]) -> Work:
    job = told["job"]
    for split in ("train", "dev"):
        job[split] = tuple(tuple(_message(each) for each in conversation) for conversation in job[split])
    job |= {name: tuple(value) for name, value in job.items() if isinstance(value, list)}
    job |= {name: Path(job[name]) for name in told["paths"]}
    recipe = dataclasses.replace(Recipe.parse(job["recipe"]), processes=told["processes"])
    return Work(TuneJob(**job), recipe, locate(job["base"]), told["base_content"], told["key"])


def _message(told: dict[str, Any]) -> Message:
    return Message(**told | {"tool_calls": tuple(ToolCall(**call) for call in told["tool_calls"])})


def _as_json(fitted: Fitted) -> dict[str, Any]:
    return {
        "standing": asdict(fitted.standing),
        "recipe": asdict(fitted.recipe),
        "trained_tokens": fitted.trained_tokens,
    }


def _error(error: Exception) -> dict[str, Any]:
    if isinstance(error, InputError):
        return {"problems": [[each.where, each.what, each.remedy] for each in error.problems]}
    if isinstance(error, AdvisorError):
        return {"message": str(error)}
    return {"traceback": "".join(traceback.format_exception(error))}


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    # Without waiting for a group of which a member may be lost.
    sys.stderr.flush()
    os._exit(code)
