"""What a job that succeeded gave: the model, earlier states of it, losses, and what was billed."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.errors import BackendError
from backends.openai.client import GaveUp, Refused
from backends.openai.job_watch import step_of
from backends.openai.jobs_api import JobsApi, Json, Missing

_MOST_POINTS = 100
"""Of a loss curve that is kept; longer ones are averaged."""
_EVENTS = 100
_MOST_TOKENS = 10**12
"""What is said to be more was never trained on."""

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of the model after some epochs."""

    model: str
    step: int
    dev_loss: float | None


@dataclass(frozen=True, slots=True)
class Results:
    """Of one job."""

    losses: Points
    """(step, training loss)."""
    checkpoints: tuple[Checkpoint, ...]
    """Those that can be asked, but for the final model; in the order of their steps."""
    dev_losses: Points
    """(epoch, loss on dev), as far as the endpoint tells."""
    notes: tuple[str, ...]


async def results(api: JobsApi, job: Mapping[str, Any], epochs: int) -> Results:
    """Fetch what the endpoint has; what it has not is left out, and said where it matters."""
    losses, notes = await _losses(api, job)
    rows = await _checkpoints(api, str(job["id"]))
    final = str(job.get("fine_tuned_model") or "")
    last = max([step for step, _ in losses] + [row.step for row in rows], default=0)
    earlier = tuple(row for row in rows if row.model != final and row.step < last)
    dev = tuple(
        (max(1, round(row.step * epochs / last)), row.dev_loss) for row in rows if last and row.dev_loss is not None
    )
    return Results(_thinned(losses), earlier, dev, notes)


def table_of(content: bytes) -> list[Mapping[str, str]]:
    """The rows of a result file: CSV, which OpenAI itself sends in base64."""
    text = content.decode("utf-8", "replace").strip()
    if "," not in text.partition("\n")[0]:
        try:
            text = base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return []
    return list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"))))


def trained_tokens(job: Mapping[str, Any]) -> int | None:
    """What the endpoint bills, None where it does not tell."""
    tokens = job.get("trained_tokens")
    is_count = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= _MOST_TOKENS
    return tokens if is_count else None


def seconds_of(job: Mapping[str, Any]) -> float | None:
    """Seconds from creation to end by the endpoint's own clock."""
    begun, ended = job.get("created_at"), job.get("finished_at")
    if isinstance(begun, int | float) and isinstance(ended, int | float) and ended >= begun:
        return float(ended - begun)
    return None


def hyperparameters_of(job: Mapping[str, Any]) -> Json:
    """The hyperparameters as the endpoint says it used them, those of `auto` filled in."""
    method = job.get("method")
    inner = method.get(str(method.get("type"))) if isinstance(method, Mapping) else None
    for holder in (inner, job):
        found = holder.get("hyperparameters") if isinstance(holder, Mapping) else None
        if isinstance(found, Mapping) and found:
            return {str(name): value for name, value in found.items() if isinstance(value, str | int | float | None)}
    return {}


def error_of(job: Mapping[str, Any]) -> str:
    """Why a job failed, in the endpoint's words; empty where it does not say."""
    error = job.get("error")
    if not isinstance(error, Mapping):
        return str(error or "")
    parts = [str(error.get("message") or ""), str(error.get("param") or "")]
    return f"{parts[0]} ({parts[1]})" if parts[1] else parts[0] or str(error.get("code") or "")


async def _losses(api: JobsApi, job: Mapping[str, Any]) -> tuple[list[tuple[int, float]], tuple[str, ...]]:
    """From the result file, else from the last events."""
    files = job.get("result_files")
    for file_id in files if isinstance(files, list) else ():
        try:
            rows = table_of(await api.content(str(file_id)))
        except (Missing, Refused, GaveUp, BackendError):
            continue
        found = [point for row in rows if (point := _point(row)) is not None]
        if found:
            return sorted(found), ()
    try:
        events = await api.events(str(job["id"]), _EVENTS)
    except (Missing, Refused, GaveUp, BackendError):
        events = []
    steps = [step for event in events if (step := step_of(event)) is not None]
    return sorted((step, loss) for step, _, loss in steps if loss is not None), (
        "The endpoint gave no file of training losses.",
    )


def _point(row: Mapping[str, str | None]) -> tuple[int, float] | None:
    try:
        step, loss = int(float(row["step"] or "")), float(row["train_loss"] or "")
    except (KeyError, ValueError, OverflowError):
        return None
    return (step, loss) if math.isfinite(loss) else None


async def _checkpoints(api: JobsApi, job_id: str) -> list[Checkpoint]:
    try:
        rows = await api.checkpoints(job_id)
    except (Missing, Refused, GaveUp, BackendError):
        return []
    found = [
        Checkpoint(str(row["fine_tuned_model_checkpoint"]), row["step_number"], _dev_loss(row))
        for row in rows
        if row.get("fine_tuned_model_checkpoint") and isinstance(row.get("step_number"), int)
    ]
    return sorted(found, key=lambda one: one.step)


def _dev_loss(row: Mapping[str, Any]) -> float | None:
    metrics = row.get("metrics")
    for name in ("full_valid_loss", "valid_loss"):
        loss = metrics.get(name) if isinstance(metrics, Mapping) else None
        if isinstance(loss, int | float) and not isinstance(loss, bool):
            return float(loss)
    return None


def _thinned(points: Sequence[tuple[int, float]]) -> Points:
    """At most a hundred points, each the mean since the one before it."""
    size = -(-len(points) // _MOST_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups)
