"""A server on loopback that takes files and batches of chat requests, at half the price, and ends them when told."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.openai_server import Fault, Json, Server, error

NOT_FOUND = error(404, "Not found.")
SHARE = 0.5


@dataclass
class BatchServer(Server):
    """Works on a batch when it is looked at, `looks` times after it was created."""

    looks: int = 1
    on_hold: bool = False
    """While true no batch comes to an end."""
    line: Callable[[int, Json], Json | None] = lambda number, body: None
    """What to write instead of the answer to the line of this number, counted from 0 over all batches."""
    ends_as: str = "completed"
    creating: Callable[[int], Fault | None] = lambda number: None
    """What to do instead of telling that the batch of this number was created; it is created all the same."""
    uploading: Callable[[int], Fault | None] = lambda number: None
    """The same for uploads."""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    batches: dict[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.uploads = self.lines = 0
        self.names: list[str] = []
        """`custom_id` of every line that was answered rightly."""
        self.asked: list[list[str]] = []
        """Of every line, batch by batch."""

    def active_looks(self) -> int:
        """How often batches were looked at."""
        return sum(batch["looks"] for batch in self.batches.values())

    async def other(self, method: str, path: str, headers: Mapping[str, str], raw: bytes) -> Fault | None:
        """Files and batches."""
        parts = urlsplit(path)
        _, kind, *rest = parts.path.strip("/").split("/")
        if kind == "files":
            return await self._file(method, rest, headers, raw)
        if kind == "batches":
            return await self._batch(method, rest, parse_qs(parts.query), raw)
        return None

    async def _file(self, method: str, rest: list[str], headers: Mapping[str, str], raw: bytes) -> Fault | None:
        if method == "POST":
            return await self._upload(headers, raw)
        if not rest:
            rows = [self._row(file_id) for file_id in self.files]
            return Fault(body={"object": "list", "data": rows, "has_more": False})
        if rest[0] not in self.files:
            return NOT_FOUND
        if method == "DELETE":
            del self.files[rest[0]]
            return Fault(body={"id": rest[0], "object": "file", "deleted": True})
        if rest[1:] == ["content"]:
            return Fault(body=self.files[rest[0]][1].decode(), headers={"content-type": "application/octet-stream"})
        return Fault(body=self._row(rest[0]))

    async def _upload(self, headers: Mapping[str, str], raw: bytes) -> Fault | None:
        head = f"content-type: {headers['content-type']}\r\n\r\n".encode()
        fields = {
            str(part.get_param("name", header="content-disposition")): part
            for part in email.message_from_bytes(head + raw, policy=email.policy.HTTP).iter_parts()
        }
        assert str(fields["purpose"].get_payload()).strip() == "batch"
        file_id = f"file-{len(self.files)}-{self.uploads}"
        content = fields["file"].get_payload(decode=True)
        assert isinstance(content, bytes)
        self.files[file_id] = (str(fields["file"].get_filename()), content)
        self.uploads += 1
        return await self._instead(self.uploading(self.uploads - 1)) or Fault(body=self._row(file_id))

    async def _batch(self, method: str, rest: list[str], query: Mapping[str, Any], raw: bytes) -> Fault | None:
        if method == "POST":
            asked = json.loads(raw)
            assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
            if asked["input_file_id"] not in self.files:
                return error(400, "There is no such file.")
            batch_id = f"batch_{len(self.batches)}"
            lines = self.files[asked["input_file_id"]][1].splitlines()
            self.asked.append([json.loads(line)["custom_id"] for line in lines])
            counts = {"total": 0, "completed": 0, "failed": 0}
            made = {**asked, "id": batch_id, "object": "batch", "status": "validating", "request_counts": counts}
            self.batches[batch_id] = made | {"looks": 0}
            return await self._instead(self.creating(len(self.batches) - 1)) or Fault(body=self.batches[batch_id])
        if not rest:
            return Fault(body={"object": "list", "data": list(self.batches.values())[::-1], "has_more": False})
        if rest[0] not in self.batches:
            return NOT_FOUND
        self._work(self.batches[rest[0]])
        return Fault(body=self.batches[rest[0]])

    async def _instead(self, fault: Fault | None) -> Fault | None:
        if fault is not None and fault.hang:
            await self._stopping.wait()
        return fault

    def _work(self, batch: Json) -> None:
        batch["looks"] += 1
        if batch["status"] not in {"validating", "in_progress"}:
            return
        batch["status"] = "in_progress"
        if self.on_hold or batch["looks"] < self.looks:
            return
        batch["status"] = self.ends_as
        if self.ends_as == "failed":
            batch["errors"] = {
                "object": "list",
                "data": [{"code": "invalid", "message": "Line 1 is wrong.", "line": 1}],
            }
            return
        rows = [self._answered(json.loads(line)) for line in self.files[batch["input_file_id"]][1].splitlines()]
        right = [row for row in rows if row is not None and not row.get("error") and _status(row) == 200]
        wrong = [row for row in rows if row is not None and row not in right]
        for name, found in (("output_file_id", right), ("error_file_id", wrong)):
            if found:
                # In another order than asked for, as the protocol allows.
                lines = "".join(json.dumps(row) + "\n" for row in found[::-1])
                batch[name] = f"file-{batch['id']}-{name}"
                self.files[batch[name]] = (name, lines.encode())
        batch["request_counts"] = {"total": len(rows), "completed": len(right), "failed": len(wrong)}

    def _answered(self, line: Json) -> Json | None:
        number, self.lines = self.lines, self.lines + 1
        instead = self.line(number, line["body"])
        frame = {"id": f"batch_req_{number}", "custom_id": line["custom_id"], "response": None, "error": None}
        if instead is not None:
            return {**frame, **instead} if instead else None
        before = self.billed_usd
        body = self._chat(line["body"])
        self.billed_usd = before + (self.billed_usd - before) * SHARE
        self.names.append(line["custom_id"])
        return {**frame, "response": {"status_code": 200, "request_id": "req_1", "body": body}}

    def _row(self, file_id: str) -> Json:
        name, content = self.files[file_id]
        return {"id": file_id, "object": "file", "filename": name, "bytes": len(content), "purpose": "batch"}


def line_error(status: int, message: str, **fields: Any) -> Json:
    """A line of the error file: the request was refused."""
    return {"response": {"status_code": status, "body": error(status, message, **fields).body}}


EXPIRED: Json = {"error": {"code": "batch_expired", "message": "This request could not be executed in time."}}
MISSING: Json = {}


def _status(row: Json) -> int:
    return int((row["response"] or {}).get("status_code", 0))


async def until(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that another thread or process does."""
    for _ in range(int(seconds / 0.02)):
        if is_so():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen in time")
