"""Waits for a job to end and tells how far it is. An outage in between costs nothing: the job goes on without us."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any

from backends.errors import BackendUnavailable
from backends.openai.client import GaveUp, Refused
from backends.openai.job_creation import ENDED, status_of
from backends.openai.jobs_api import JobsApi, Json, Missing
from backends.openai.pace import Pace
from backends.types import TuneObserver, TuneProgress

_STEP = re.compile(r"Step (\d{1,12})(?:/(\d{1,12}))?: training loss=(\d+(?:\.\d+)?(?:e-?\d+)?)")
_OUTAGES = 20
"""Looks in a row that may fail before the run stops; at the usual pace that is ten minutes and more."""
_PHASES = {"validating_files": "files are checked", "unknown": "waiting"}


class Stuck(BackendUnavailable):
    """The job did not end within the time that one sitting waits."""


async def ended(api: JobsApi, job: Json, observe: TuneObserver | None, pace: Pace, most_seconds: float) -> Json:
    """The job once it has ended. Raises Stuck, or BackendUnavailable when the endpoint does not answer for long."""
    until = asyncio.get_running_loop().time() + most_seconds
    told = _Teller(api, observe)
    failures = looks = 0
    while status_of(job) not in ENDED:
        await told.tell(job)
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            raise Stuck(f"the job {job['id']} is still {_phase(job)} after {most_seconds / 3600:.3g} hours.")
        await asyncio.sleep(min(left, pace.after(looks)))
        looks += 1
        try:
            job = await api.job(str(job["id"]))
            failures = 0
        except (GaveUp, BackendUnavailable) as error:
            failures += 1
            if failures >= _OUTAGES:
                raise BackendUnavailable(str(error)) from None
    await told.tell(job)
    return job


class _Teller:
    """Tells an observer where a job is, as far as the endpoint says it."""

    def __init__(self, api: JobsApi, observe: TuneObserver | None) -> None:
        self._api = api
        self._observe = observe
        self._has_events = True
        self._last: TuneProgress | None = None

    async def tell(self, job: Mapping[str, Any]) -> None:
        if self._observe is None:
            return
        progress = await self._progress(job)
        if progress != self._last:
            self._last = progress
            self._observe(progress)

    async def _progress(self, job: Mapping[str, Any]) -> TuneProgress:
        step, steps, loss = await self._step(job)
        if not steps:
            return TuneProgress(0, 1, None, None, _phase(job))
        return TuneProgress(min(step, steps), steps, loss, _seconds_left(job), "" if step else _phase(job))

    async def _step(self, job: Mapping[str, Any]) -> tuple[int, int, float | None]:
        """Steps done, steps in all, and the loss; 0 of 0 where the endpoint does not tell."""
        done, total = job.get("trained_steps"), job.get("total_steps")
        known = (done, total, None) if isinstance(done, int) and isinstance(total, int) else (0, 0, None)
        if not self._has_events or status_of(job) in {"validating_files", "queued"}:
            return known
        try:
            events = await self._api.events(str(job["id"]))
        except (Missing, Refused):
            self._has_events = False
            return known
        except (GaveUp, BackendUnavailable):
            return known
        return next((found for event in events if (found := step_of(event))), known)


def step_of(event: Mapping[str, Any]) -> tuple[int, int, float | None] | None:
    """(step, steps in all, training loss) of an event that tells one; 0 steps in all where that is not said."""
    data = event.get("data")
    if isinstance(data, Mapping) and isinstance(data.get("step"), int):
        total, loss = data.get("total_steps"), data.get("train_loss")
        return (
            int(data["step"]),
            total if isinstance(total, int) else 0,
            float(loss) if isinstance(loss, int | float) else None,
        )
    found = _STEP.search(str(event.get("message") or ""))
    return None if found is None else (int(found[1]), int(found[2] or 0), float(found[3]))


def _phase(job: Mapping[str, Any]) -> str:
    status = status_of(job)
    return _PHASES.get(status, status.replace("_", " "))


def _seconds_left(job: Mapping[str, Any]) -> float | None:
    finish = job.get("estimated_finish")
    return max(0.0, finish - time.time()) if isinstance(finish, int | float) else None
