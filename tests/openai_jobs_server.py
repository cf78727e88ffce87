"""A server on loopback with files, fine-tuning jobs and the models they make, which answer as they were taught.

A job takes one step each time somebody looks at it, so tests do not depend on time. Faults are injected per request;
one that cuts or hangs does the work first, as a connection that breaks after a request has arrived.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from backends.openai.tokens import count_text
from tests.openai_server import Fault, Json, _write, prompt_tokens

BASE = "gpt-4.1-mini-2025-04-14"
STEPS = 40
STAGES = ("validating_files", "queued", "running", "running", "running", "succeeded")
CLOSED = Fault(
    403,
    {
        "error": {
            "message": "OpenAI is winding down the fine-tuning platform and your organization is no longer able to "
            "create new fine-tuning training jobs.",
            "type": "invalid_request_error",
            "param": None,
            "code": "training_not_available",
        }
    },
)


@dataclass(frozen=True)
class Call:
    """One request as the server got it."""

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]

    def is_a(self, method: str, pattern: str) -> bool:
        """Whether it is of this kind, as `POST /fine_tuning/jobs`."""
        return self.method == method and re.fullmatch(pattern, self.path) is not None


@dataclass
class JobsServer:
    """`async with` starts and stops it; `tests.openai_server.in_thread` runs it beside code with a loop of its own."""

    fault: Callable[[Call], Fault | None] = lambda call: None
    stages: tuple[str, ...] = STAGES
    """Statuses that a job goes through, one each time it is looked at; it stays in the last."""
    error: Json | None = None
    """What a job that failed says."""
    answer: Callable[[Json], str] = lambda body: "no idea"
    """Of models that were not taught here."""
    states: Mapping[int, str] = field(default_factory=dict)
    """Step -> what the model says to anything in that state; empty for `as taught`."""
    keeps_metadata: bool = True
    is_base64: bool = True
    """Whether result files come in base64, as OpenAI sends them."""
    training_usd: float = 5.0
    """Dollars per million trained tokens."""
    usd: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self) -> None:
        self.calls: list[Call] = []
        self.files: dict[str, Json] = {}
        self.contents: dict[str, bytes] = {}
        self.uploaded: list[str] = []
        """Names of all files that were ever uploaded."""
        self.jobs: dict[str, Json] = {}
        self.taught: dict[str, dict[str, Counter[str]]] = {}
        """Model -> word -> how often it stood beside which answer."""
        self.cancelled: list[str] = []
        self.chat_usd = 0.0
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """The address that a client is given."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def trained_usd(self) -> float:
        """Dollars of all trainings that came to an end."""
        return sum(job["trained_tokens"] or 0 for job in self.jobs.values()) * self.training_usd / 1e6

    @property
    def billed_usd(self) -> float:
        """Dollars of everything."""
        return self.chat_usd + self.trained_usd

    def count(self, method: str, pattern: str) -> int:
        """How many requests of a kind came."""
        return sum(call.is_a(method, pattern) for call in self.calls)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        self._serving: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._stopping = asyncio.Event()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._stopping.set()
        for writer in self._serving.values():
            writer.close()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while (call := await self._read(reader)) is not None:
                if not await self._reply(call, writer):
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        del self._serving[task]

    async def _read(self, reader: asyncio.StreamReader) -> Call | None:
        first = (await reader.readline()).decode("latin-1").split(" ")
        if len(first) < 2:
            return None
        headers = {}
        while (line := (await reader.readline()).decode("latin-1").strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(first[1])
        is_form = headers.get("content-type", "").startswith("multipart/form-data")
        body = _form(content, headers) if is_form else json.loads(content or b"{}")
        path = unquote(parts.path.removeprefix("/v1"))
        return Call(len(self.calls), first[0], path, dict(parse_qsl(parts.query)), body, headers)

    async def _reply(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        self.calls.append(call)
        fault = self.fault(call) or Fault()
        status, content = fault.status, fault.body
        if not content:
            status, content = self._answer(call)
        if fault.hang:
            await self._stopping.wait()
        text = content if isinstance(content, str) else json.dumps(content)
        await _write(writer, status, text, fault.headers, cut=fault.cut)
        return not fault.cut

    def _answer(self, call: Call) -> tuple[int, Json | str]:
        for (method, pattern), handler in _ROUTES.items():
            found = re.fullmatch(pattern, call.path)
            if call.method == method and found is not None:
                return handler(self, call, *found.groups())
        return _missing(f"unknown path {call.path}")

    # -- files ----------------------------------------------------------------------------------------------------

    def _upload(self, call: Call) -> tuple[int, Json]:
        name, content = call.body["file"]
        assert call.body["purpose"] == "fine-tune"
        found = {
            "id": f"file-{next(self._numbers)}",
            "object": "file",
            "bytes": len(content),
            "created_at": 1,
            "filename": name,
            "purpose": "fine-tune",
            "status": "processed",
        }
        self.files[found["id"]], self.contents[found["id"]] = found, content
        self.uploaded.append(name)
        return 200, found

    def _list_files(self, call: Call) -> tuple[int, Json]:
        return 200, _page(list(self.files.values())[::-1], call)

    def _file(self, call: Call, file_id: str) -> tuple[int, Json]:
        return (200, self.files[file_id]) if file_id in self.files else _missing("No such File object")

    def _delete(self, call: Call, file_id: str) -> tuple[int, Json]:
        if self.files.pop(file_id, None) is None:
            return _missing("No such File object")
        return 200, {"id": file_id, "object": "file", "deleted": True}

    def _content(self, call: Call, file_id: str) -> tuple[int, str]:
        rows = [f"{step},{2.0 / step:.4f},0.9,{1.0 / step:.4f},0.8" for step in range(1, STEPS + 1)]
        text = "\n".join(["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy", *rows])
        return 200, base64.b64encode(text.encode()).decode() if self.is_base64 else text

    # -- jobs -----------------------------------------------------------------------------------------------------

    def _create(self, call: Call) -> tuple[int, Json]:
        body, job_id = call.body, f"ftjob-{next(self._numbers)}"
        if body["training_file"] not in self.files:
            return 400, {"error": {"message": "invalid training_file", "code": "invalid", "param": "training_file"}}
        method = body.get("method") or {"type": "supervised", "supervised": {}}
        figures = method[method["type"]].get("hyperparameters") or body.get("hyperparameters") or {}
        self.jobs[job_id] = {
            "id": job_id,
            "object": "fine_tuning.job",
            "created_at": 1000 + len(self.jobs),
            "finished_at": None,
            "model": body["model"],
            "fine_tuned_model": None,
            "status": self.stages[0],
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "result_files": [],
            "trained_tokens": None,
            # As the real one writes it while nothing is wrong.
            "error": {"code": None, "message": None, "param": None},
            "seed": body.get("seed", 0),
            "hyperparameters": {"batch_size": "auto", "learning_rate_multiplier": 1.8, **figures},
            "method": method,
            "metadata": body.get("metadata") if self.keeps_metadata else None,
            "looks": 0,
        }
        return 200, self.jobs[job_id]

    def _list_jobs(self, call: Call) -> tuple[int, Json]:
        wanted = {name[9:-1]: value for name, value in call.query.items() if name.startswith("metadata[")}
        rows = list(self.jobs.values())[::-1]
        if self.keeps_metadata:
            rows = [row for row in rows if all((row["metadata"] or {}).get(k) == v for k, v in wanted.items())]
        return 200, _page(rows, call)

    def _job(self, call: Call, job_id: str) -> tuple[int, Json]:
        if job_id not in self.jobs:
            return _missing("Could not find fine tune")
        job = self.jobs[job_id]
        if job["status"] not in {"succeeded", "failed", "cancelled"}:
            job["looks"] += 1
            job["status"] = self.stages[min(job["looks"], len(self.stages) - 1)]
            self._finish(job)
        return 200, job

    def _finish(self, job: Json) -> None:
        if job["status"] == "failed":
            job["error"] = self.error or job["error"]
        if job["status"] != "succeeded" or job["fine_tuned_model"]:
            return
        content = self.contents[job["training_file"]]
        rows = [json.loads(line) for line in content.decode().splitlines()]
        suffix = f"acme::{job['id'][6:]}"
        job |= {"fine_tuned_model": f"ft:{job['model']}:{suffix}", "finished_at": job["created_at"] + 600}
        job["result_files"] = ["file-results"]
        epochs = job["hyperparameters"].get("n_epochs", 3)
        job["trained_tokens"] = epochs * sum(_row_tokens(row, job["model"]) for row in rows)
        self.taught[job["fine_tuned_model"]] = _learnt(rows)
        for step in self.states:
            self.taught[f"{job['fine_tuned_model']}:ckpt-step-{step}"] = _learnt(rows)

    def _events(self, call: Call, job_id: str) -> tuple[int, Json]:
        job = self.jobs[job_id]
        rows = [{"id": "ftevent-0", "object": "fine_tuning.job.event", "message": f"Created {job_id}", "data": None}]
        if job["status"] in {"running", "succeeded"}:
            step = min(STEPS, 10 * (job["looks"] - 1))
            data = {"step": step, "total_steps": STEPS, "train_loss": 0.5}
            text = f"Step {step}/{STEPS}: training loss=0.50"
            rows.insert(0, {"id": "ftevent-1", "message": text, "type": "metrics", "data": data})
        return 200, _page(rows, call)

    def _checkpoints(self, call: Call, job_id: str) -> tuple[int, Json]:
        model = self.jobs[job_id]["fine_tuned_model"]
        rows = [
            {
                "id": f"ftckpt_{step}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": 1,
                "fine_tuned_model_checkpoint": model if step == STEPS else f"{model}:ckpt-step-{step}",
                "fine_tuning_job_id": job_id,
                "metrics": {"full_valid_loss": 1.0 / step},
                "step_number": step,
            }
            for step in sorted(self.states, reverse=True)
        ]
        return 200, _page(rows, call)

    def _cancel(self, call: Call, job_id: str) -> tuple[int, Json]:
        self.cancelled.append(job_id)
        self.jobs[job_id]["status"] = "cancelled"
        return 200, self.jobs[job_id]

    # -- models ---------------------------------------------------------------------------------------------------

    def _model(self, call: Call, model: str) -> tuple[int, Json]:
        if model not in self.taught and model != BASE:
            return _missing(f"The model {model} does not exist")
        return 200, {"id": model, "object": "model", "created": 1, "owned_by": "acme"}

    def _chat(self, call: Call) -> tuple[int, Json]:
        body, model = call.body, call.body["model"]
        if model.startswith("ft:") and model not in self.taught:
            fault = {"message": f"The model `{model}` does not exist", "code": "model_not_found"}
            return 404, {"error": fault}
        step = int(model.rpartition("-")[2]) if ":ckpt-step-" in model else STEPS
        fixed = self.states.get(step, "") if model in self.taught else ""
        taught = self.taught.get(model)
        text = fixed or (self.answer(body) if taught is None else _said(taught, body["messages"][-1]["content"]))
        if body.get("response_format"):
            text = json.dumps({"answer": text})
        used = {"prompt_tokens": prompt_tokens(body), "completion_tokens": count_text(text, model)}
        self.chat_usd += (used["prompt_tokens"] * self.usd[0] + used["completion_tokens"] * self.usd[1]) / 1e6
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return 200, {"id": "c", "object": "chat.completion", "model": model, "choices": [choice], "usage": used}


_ROUTES: Mapping[tuple[str, str], Callable[..., tuple[int, Json | str]]] = {
    ("POST", "/files"): JobsServer._upload,
    ("GET", "/files"): JobsServer._list_files,
    ("GET", "/files/([^/]+)"): JobsServer._file,
    ("DELETE", "/files/([^/]+)"): JobsServer._delete,
    ("GET", "/files/([^/]+)/content"): JobsServer._content,
    ("POST", "/fine_tuning/jobs"): JobsServer._create,
    ("GET", "/fine_tuning/jobs"): JobsServer._list_jobs,
    ("GET", "/fine_tuning/jobs/([^/]+)"): JobsServer._job,
    ("GET", "/fine_tuning/jobs/([^/]+)/events"): JobsServer._events,
    ("GET", "/fine_tuning/jobs/([^/]+)/checkpoints"): JobsServer._checkpoints,
    ("POST", "/fine_tuning/jobs/([^/]+)/cancel"): JobsServer._cancel,
    ("GET", "/models/(.+)"): JobsServer._model,
    ("POST", "/chat/completions"): JobsServer._chat,
}


def _missing(message: str) -> tuple[int, Json]:
    return 404, {"error": {"message": message, "type": "invalid_request_error", "param": "id", "code": None}}


def _page(rows: list[Json], call: Call) -> Json:
    """A page as the protocol cuts it; small ones, so that clients must turn them."""
    limit = min(int(call.query.get("limit", 20)), 3)
    ids = [row["id"] for row in rows]
    start = ids.index(call.query["after"]) + 1 if call.query.get("after") in ids else 0
    return {"object": "list", "data": rows[start : start + limit], "has_more": start + limit < len(rows)}


def _form(content: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """Fields of a multipart body; a file is (name, content)."""
    boundary = headers["content-type"].partition("boundary=")[2].strip('"').encode()
    fields: dict[str, Any] = {}
    for part in content.split(b"--" + boundary)[1:-1]:
        head, _, value = part.strip(b"\r\n").partition(b"\r\n\r\n")
        names = dict(re.findall(r'(\w+)="([^"]*)"', head.decode()))
        # Only the line end before the next boundary is not the file's own.
        value = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        fields[names["name"]] = (names["filename"], value) if "filename" in names else value.decode()
    return fields


def _row_tokens(row: Json, model: str) -> int:
    pair = [*row["input"]["messages"], *row["preferred_output"], *row["non_preferred_output"]] if "input" in row else []
    turns = row.get("messages", pair)
    return sum(3 + count_text(turn["role"], model) + count_text(turn["content"], model) for turn in turns)


def _learnt(rows: list[Json]) -> dict[str, Counter[str]]:
    words: dict[str, Counter[str]] = {}
    for row in rows:
        asked = (row["messages"] if "messages" in row else row["input"]["messages"])[1 if "messages" in row else -1 :]
        question = next(turn["content"] for turn in asked if turn["role"] == "user")
        answer = (row["messages"] if "messages" in row else row["preferred_output"])[-1]["content"]
        for word in question.lower().split():
            words.setdefault(word, Counter())[answer] += 1
    return words


def _said(taught: Mapping[str, Counter[str]], question: str) -> str:
    """The answer that the question's words stood beside most exclusively."""
    votes: Counter[str] = Counter()
    for word in question.lower().split():
        seen = taught.get(word, Counter())
        for answer, times in seen.items():
            votes[answer] += (times / sum(seen.values())) ** 4  # type: ignore[assignment]
    return max(sorted(votes), key=lambda answer: votes[answer]) if votes else "no idea"
