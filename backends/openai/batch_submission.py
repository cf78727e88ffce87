"""Sends the requests of one batch: uploads them and creates the batch, once, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from backends.errors import BackendError, BackendUnavailable, InputError, Problem
from backends.openai.batch_journal import Entry, Journal
from backends.openai.batches_api import BatchesApi
from backends.openai.client import GaveUp, Refused
from backends.openai.jobs_api import Json, Missing
from backends.openai.pace import Pace

NONCE = "advisor_batch"
"""Name of the metadata field that holds a batch's nonce."""
_ATTEMPTS = 4
_LOOKS = 4
"""How often the list is looked at after an act whose outcome nobody knows: lists may lag behind."""


async def submitted(api: BatchesApi, journal: Journal, entry: Entry, path: str, pace: Pace) -> Entry:
    """The entry with the id of its batch. Raises InputError where the endpoint takes none, and BackendUnavailable."""
    try:
        entry = journal.change(entry, file=await _uploaded(api, journal, entry, pace))
        # Written before the act: from now on the batch may exist.
        entry = journal.change(entry, creating=True)
        return journal.change(entry, batch=await _created(api, entry, path, pace))
    except (Missing, Refused) as error:
        journal.forget(entry)
        await tidied(api, entry.file)
        what = f"{api.place} takes no batches: {error}"
        remedy = "Leave out --batch, or set batches to false for this endpoint."
        raise InputError(Problem("--batch", what, remedy)) from None


async def found(api: BatchesApi, entry: Entry) -> str | None:
    """The id of the batch of an entry, when the endpoint has it although its id was not written down here."""
    if entry.batch is not None or not entry.creating:
        return entry.batch
    return next((str(one["id"]) for one in await api.batches() if one.get("id") and _is_of(one, entry)), None)


async def tidied(api: BatchesApi, *file_ids: object) -> None:
    """Delete files at the endpoint; what cannot be deleted stays there and stops nothing."""
    for file_id in file_ids:
        if isinstance(file_id, str) and file_id:
            with contextlib.suppress(BackendError, GaveUp, Refused, Missing):
                await api.delete(file_id)


async def _uploaded(api: BatchesApi, journal: Journal, entry: Entry, pace: Pace) -> str:
    name, last = f"{entry.nonce}.jsonl", ""
    for attempt in range(_ATTEMPTS):
        try:
            uploaded = await api.upload(name, journal.requests(entry))
        except GaveUp as error:
            last = str(error)
        else:
            if uploaded.get("id"):
                return str(uploaded["id"])
            last = "the endpoint answered an upload with something that is no file"
        await asyncio.sleep(pace.after(attempt))
        for file in await api.files():
            if file.get("filename") == name and file.get("id"):
                return str(file["id"])
    raise BackendUnavailable(f"the requests of a batch could not be uploaded: {last} Go on later with --resume.")


async def _created(api: BatchesApi, entry: Entry, path: str, pace: Pace) -> str:
    last = ""
    for _ in range(_ATTEMPTS):
        try:
            made: Json = await api.begin(str(entry.file), path, {NONCE: entry.nonce})
        except GaveUp as error:
            last = str(error)
        else:
            if made.get("id"):
                return str(made["id"])
            last = "the endpoint answered with something that is no batch"
        for look in range(_LOOKS):
            await asyncio.sleep(pace.after(look))
            known = await found(api, entry)
            if known is not None:
                return known
    raise BackendUnavailable(f"a batch could not be created: {last} Go on later with --resume.")


def _is_of(batch: dict[str, Any], entry: Entry) -> bool:
    metadata = batch.get("metadata")
    if isinstance(metadata, dict) and metadata.get(NONCE) is not None:
        return bool(metadata[NONCE] == entry.nonce)
    # An endpoint that keeps no metadata still tells which file a batch is of.
    return entry.file is not None and batch.get("input_file_id") == entry.file
