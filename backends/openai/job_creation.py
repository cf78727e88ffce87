"""Finds the job of a key at the endpoint and, where there is none, creates it: once, whatever happens in between.

The key goes into the job's metadata. Where an endpoint does not keep metadata, a job is known by the uploaded files,
whose names hold the key.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from backends.errors import BackendUnavailable
from backends.openai.client import GaveUp, Refused
from backends.openai.job_state import StateFile
from backends.openai.jobs_api import JobsApi, Json, Missing
from backends.openai.pace import Pace

NONCE = "advisor_job"
"""Name of the metadata field that holds a job's key."""
ENDED = frozenset({"succeeded", "failed", "cancelled"})
_CREATIONS = 4
_LOOKS = 4
"""How often the list is looked at after a creation whose outcome nobody knows: lists may lag behind."""


def status_of(job: Mapping[str, Any]) -> str:
    """Status in the protocol's words; some servers shout it."""
    return str(job.get("status") or "unknown").lower()


async def found(api: JobsApi, state: StateFile) -> Json | None:
    """The job of this key that is under way or done, the oldest if there are several; None where there is none."""
    if state.now.job is not None:
        with contextlib.suppress(Missing):
            known = await api.job(state.now.job)
            if status_of(known) not in ENDED - {"succeeded"}:
                return known
    alive = await _alive(api, state)
    return alive[-1] if alive else None


async def created(api: JobsApi, state: StateFile, body: Mapping[str, Any], pace: Pace) -> Json:
    """Create the job. Raises Refused, Closed and Missing as the endpoint says it, and BackendUnavailable.

    After an attempt whose outcome nobody knows the list is asked before another one is made.
    """
    state.change(creating=True)
    last = ""
    for attempt in range(_CREATIONS):
        try:
            job = await _create(api, body)
        except GaveUp as error:
            last = str(error)
        else:
            if job.get("id"):
                return await _only(api, state, job) if attempt else job
            last = "the endpoint answered with something that is no job"
        known = await _appeared(api, state, pace)
        if known is not None:
            return known
    raise BackendUnavailable(f"the tuning job could not be created: {last} Go on later with --resume.")


async def _create(api: JobsApi, body: Mapping[str, Any]) -> Json:
    try:
        return await api.create(body)
    except Refused as refusal:
        if "metadata" not in refusal.failure.said:
            raise
    # The files' names hold the key too.
    return await api.create({name: value for name, value in body.items() if name != "metadata"})


async def _appeared(api: JobsApi, state: StateFile, pace: Pace) -> Json | None:
    for look in range(_LOOKS):
        await asyncio.sleep(pace.after(look))
        alive = await _alive(api, state)
        if alive:
            return alive[-1]
    return None


async def _only(api: JobsApi, state: StateFile, job: Json) -> Json:
    """Of several jobs of one key, all but the oldest are ended: an earlier attempt had come through after all."""
    alive = await _alive(api, state)
    for other in alive[:-1]:
        with contextlib.suppress(GaveUp, Refused, Missing):
            await api.cancel(str(other["id"]))
    return alive[-1] if alive else job


async def _alive(api: JobsApi, state: StateFile) -> list[Json]:
    """Jobs of this key that did not fail, newest first."""
    listed = await api.jobs({NONCE: state.now.key})
    ours = [job for job in listed if job.get("id") and _is_of(job, state)]
    ours = [job for job in ours if status_of(job) not in ENDED - {"succeeded"}]
    return sorted(ours, key=lambda job: _created_at(job), reverse=True)


def _is_of(job: Mapping[str, Any], state: StateFile) -> bool:
    metadata = job.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get(NONCE) is not None:
        return bool(metadata[NONCE] == state.now.key)
    file = state.now.train_file
    return file is not None and file in _training_files(job)


def _training_files(job: Mapping[str, Any]) -> Sequence[Any]:
    files = job.get("training_files")
    return [job.get("training_file"), *(files if isinstance(files, list) else ())]


def _created_at(job: Mapping[str, Any]) -> float:
    at = job.get("created_at")
    return float(at) if isinstance(at, int | float) else 0.0
