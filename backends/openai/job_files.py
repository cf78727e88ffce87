"""Uploads the files of a job once, finds those that an earlier sitting uploaded, and deletes them in the end."""

from __future__ import annotations

import asyncio

from backends.errors import BackendError, RequestError
from backends.openai.client import GaveUp, Refused
from backends.openai.job_state import StateFile
from backends.openai.jobs_api import JobsApi, Json, Missing
from backends.openai.pace import Pace
from backends.openai.training_file import Files

_UPLOADS = 3
"""Attempts at one upload whose outcome nobody knows."""
_LOOKS = 40
"""How often a file is looked at before it is used although the endpoint does not say that it was processed."""


def name_of(key: str, split: str) -> str:
    """Name of an uploaded file; by it a later sitting finds it."""
    return f"advisor-{key[:24]}-{split}.jsonl"


async def uploaded(api: JobsApi, state: StateFile, files: Files, pace: Pace) -> None:
    """Have the files at the endpoint; `state` knows their ids afterwards. Raises RequestError when it refuses them."""
    known = await _known(api)
    for split, content in (("train", files.train), ("dev", files.dev)):
        field = f"{split}_file"
        if not content or await _exists(api, getattr(state.now, field)):
            continue
        name = name_of(state.now.key, split)
        found = _same(known, name, content) or await _upload(api, name, content, pace)
        state.change(**{field: str(found["id"])})
    for file_id in (state.now.train_file, state.now.dev_file):
        if file_id is not None:
            await _processed(api, file_id, pace)


async def cleaned(api: JobsApi, state: StateFile) -> str | None:
    """Delete all files of this job; what could not be deleted is said and stops nothing."""
    names = {name_of(state.now.key, split) for split in ("train", "dev")}
    left: list[str] = []
    try:
        listed = [str(row["id"]) for row in await _known(api) if row.get("filename") in names]
        ours = [one for one in (state.now.train_file, state.now.dev_file) if one is not None]
        for file_id in dict.fromkeys([*ours, *listed]):
            left.append(file_id)
            await api.delete(file_id)
            left.remove(file_id)
        state.change(train_file=None, dev_file=None)
    except (BackendError, GaveUp, Refused, Missing) as error:
        return f"Uploaded files may still lie at the endpoint ({', '.join(left) or 'see its list'}): {error}"
    return None


async def _exists(api: JobsApi, file_id: str | None) -> bool:
    if file_id is None:
        return False
    try:
        await api.file(file_id)
    except Missing:
        return False
    return True


async def _known(api: JobsApi) -> list[Json]:
    """Files at the endpoint; none where it does not list them."""
    try:
        return [row for row in await api.files() if row.get("id")]
    except (Missing, Refused):
        return []


def _same(known: list[Json], name: str, content: bytes) -> Json | None:
    """A file that an earlier attempt uploaded whole."""
    return next(
        (
            row
            for row in known
            if row.get("filename") == name and row.get("bytes") == len(content) and row.get("status") != "error"
        ),
        None,
    )


async def _upload(api: JobsApi, name: str, content: bytes, pace: Pace) -> Json:
    last = ""
    for attempt in range(_UPLOADS):
        try:
            found = await api.upload(name, content)
        except Refused as error:
            raise RequestError(f"the training file was not taken: {error}") from None
        except GaveUp as error:
            last = str(error)
        else:
            if found.get("id"):
                return found
            last = "the endpoint answered an upload with something that is no file"
        await asyncio.sleep(pace.after(attempt))
        same = _same(await _known(api), name, content)
        if same is not None:
            return same
    raise RequestError(f"the training file could not be uploaded: {last}")


async def _processed(api: JobsApi, file_id: str, pace: Pace) -> None:
    """Wait until a file may be used; jobs on files that are still looked at are refused."""
    for look in range(_LOOKS):
        try:
            found = await api.file(file_id)
        except (Missing, Refused, GaveUp):
            return
        status = found.get("status")
        if status == "error":
            said = api.clean(found.get("status_details")) or "it does not say why"
            raise RequestError(f"the endpoint finds the training file wrong: {said}")
        if status not in {"uploaded", "pending", "running"}:
            return
        await asyncio.sleep(pace.after(look))
