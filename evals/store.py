"""The workspace's memory: one SQLite file (WAL) with runs, trials, fits, answers and embeddings.

Every row is committed before the call that wrote it returns, so a process may die at any point and nothing that was
paid for is lost. A trial is written once: its primary key refuses a second evaluation.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np

from backends.errors import WorkspaceError
from backends.meter import Step
from backends.types import ChatResponse, FinishReason, FloatArray, ToolCall, Usage
from evals.naming import Last, find_run
from evals.tables import CHANGES, VERSION
from evals.task import Split
from evals.trial import Score, Trial

RunKind = Literal["run", "compare", "tune", "gate", "probe"]
RunStatus = Literal["running", "done", "interrupted", "failed"]

_TRAINING = "training: "
"""Beginning of the key under which a training is kept beside the fits."""

_REMEDIES = {
    "full": "Free some disk space, then go on with --resume; nothing that was paid for is lost.",
    "readonly": "Make the folder writable or choose another one with --workspace.",
    "unable to open": "Make the folder writable or choose another one with --workspace.",
    "locked": "Another process uses this workspace; wait for it or choose another one with --workspace.",
    "malformed": "The file is damaged; move it away to start afresh.",
    "not a database": "The file is damaged; move it away to start afresh.",
}


@dataclass(frozen=True, slots=True)
class RunRow:
    """One execution as the store remembers it."""

    id: str
    created: str
    """UTC, ISO 8601."""
    kind: RunKind
    scenario: str
    scenario_file: str
    scenario_hash: str
    options: Mapping[str, Any]
    """What the command line asked for; a resumed run takes them from here."""
    status: RunStatus = "running"
    verdict: str | None = None
    pick: str | None = None
    seconds: float = 0.0
    """Wall-clock seconds over all sittings."""


@dataclass(frozen=True, slots=True)
class StoredEmbedding:
    """A vector with what it took when it was computed."""

    vector: FloatArray
    usage: Usage
    seconds: float


@dataclass
class Store:
    """Open with `Store.open`; use from one thread. Raises WorkspaceError when the file cannot be read or written."""

    path: Path
    _connection: sqlite3.Connection = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create the store."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        except (OSError, sqlite3.Error) as error:
            raise _workspace_error(path, error) from error
        store = cls(path, connection)
        try:
            store._prepare()
        except WorkspaceError:
            connection.close()
            raise
        return store

    def _prepare(self) -> None:
        self._execute("PRAGMA journal_mode = WAL")
        # NORMAL survives a killed process; only a power cut can lose the last commits.
        self._execute("PRAGMA synchronous = NORMAL")
        (version,) = self._execute("PRAGMA user_version").fetchone()
        changes = CHANGES.get(version)
        if changes:
            self._execute("BEGIN IMMEDIATE")
            for statement in changes.split(";"):
                self._execute(statement)
            self._execute(f"PRAGMA user_version = {VERSION}")
            self._execute("COMMIT")
        elif changes is None:
            raise WorkspaceError(
                f"{self.path}: written by another version of advisor (format {version}, this one reads {VERSION}). "
                "Choose another folder with --workspace."
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _execute(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, tuple(parameters))
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise _workspace_error(self.path, error) from error

    # -- runs ---------------------------------------------------------------------------------------------------

    def add_run(self, run: RunRow) -> None:
        """Begin a run."""
        row = asdict(run) | {"options": json.dumps(dict(run.options), sort_keys=True)}
        self._execute(f"INSERT INTO runs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", row.values())

    def runs(self) -> list[RunRow]:
        """All runs, oldest first."""
        columns = "id, created, kind, scenario, scenario_file, scenario_hash, options, status, verdict, pick, seconds"
        rows = self._execute(f"SELECT {columns} FROM runs ORDER BY created, id").fetchall()
        return [_run(row) for row in rows]

    def run(self, name: str, last: Last | None = None) -> RunRow:
        """One run, by its id, an unambiguous beginning of it, or `last` where that means something; else InputError."""
        return find_run(self.runs(), name, str(self.path), last)

    def spend_seconds(self, run_id: str, seconds: float) -> None:
        """Set the wall-clock seconds of all sittings so far; what a killed process had noted is kept."""
        self._execute("UPDATE runs SET seconds = ? WHERE id = ?", (seconds, run_id))

    def finish_run(self, run_id: str, status: RunStatus, verdict: str | None, pick: str | None) -> None:
        """Set how the run stands."""
        self._execute("UPDATE runs SET status = ?, verdict = ?, pick = ? WHERE id = ?", (status, verdict, pick, run_id))

    # -- trials and fits ----------------------------------------------------------------------------------------

    def add_trial(self, run_id: str, trial: Trial) -> None:
        """Record a finished trial. Raises sqlite3.IntegrityError when it was already evaluated."""
        score = trial.score
        self._execute(
            "INSERT INTO trials (run_id, candidate, variant, split, sample_id, output, score, reason, error, usage,"
            " seconds, cached_requests, response_keys, steps, scoring, first_token_seconds)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run_id,
                trial.candidate,
                trial.variant,
                trial.split,
                trial.sample_id,
                trial.output,
                score.value if score else None,
                score.reason if score else None,
                trial.error,
                _pack_usage(trial.usage),
                trial.seconds,
                trial.cached_requests,
                json.dumps(trial.response_keys),
                _pack_steps(trial.steps),
                None if trial.scoring == Usage() else _pack_usage(trial.scoring),
                trial.first_token_seconds,
            ),
        )

    def trials(
        self, run_id: str, candidate: str | None = None, split: Split | None = None, variant: str | None = None
    ) -> list[Trial]:
        """Trials of a run, narrowed by what is given, in the order of candidate, split and sample id."""
        wanted = {"candidate": candidate, "split": split, "variant": variant}
        narrowed = {column: value for column, value in wanted.items() if value is not None}
        where = "".join(f" AND {column} = ?" for column in narrowed)
        rows = self._execute(
            "SELECT candidate, split, sample_id, output, score, reason, error, usage, seconds, cached_requests,"
            " response_keys, variant, steps, scoring, first_token_seconds FROM trials"
            f" WHERE run_id = ?{where} ORDER BY candidate, split, sample_id",
            (run_id, *narrowed.values()),
        )
        return [_trial(row) for row in rows]

    def add_fit(self, run_id: str, candidate: str, record: Mapping[str, Any]) -> None:
        """Record what fitting a candidate gave, as a JSON object; a fit whose files were lost is recorded again."""
        self._execute(
            "INSERT OR REPLACE INTO fits VALUES (?, ?, ?)", (run_id, candidate, json.dumps(record, sort_keys=True))
        )

    def add_training(self, run_id: str, model: str, cost_usd: float | None, billed_usd: float = 0.0) -> None:
        """Record that a run trained a model, and what left the house for it; one that was found trained is not."""
        self.add_fit(run_id, f"{_TRAINING}{model}", {"cost_usd": cost_usd, "billed_usd": billed_usd})

    def add_failed_training(self, run_id: str, model: str, usage: Usage, billed_usd: float) -> None:
        """Record what a training that failed cost; several of one model are kept apart."""
        failed = sum(name.startswith(f"{model} failed") for name in self._trainings(run_id))
        self.add_training(run_id, f"{model} failed {failed + 1}", usage.cost_usd, billed_usd)

    def trained_usd(self, run_id: str) -> float | None:
        """What all trainings of a run cost; None when one of them is unknown."""
        costs = (Usage(cost_usd=record["cost_usd"]) for record in self._trainings(run_id).values())
        return sum(costs, Usage()).cost_usd

    def trained_billed_usd(self, run_id: str) -> float:
        """Dollars that left the house for trainings of this run."""
        # Trainings that were recorded by earlier versions were all on this machine.
        return float(sum(record.get("billed_usd", 0.0) for record in self._trainings(run_id).values()))

    def _trainings(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Name -> record of every training of a run."""
        rows = self._execute(
            "SELECT candidate, record FROM fits WHERE run_id = ? AND substr(candidate, 1, ?) = ? ORDER BY candidate",
            (run_id, len(_TRAINING), _TRAINING),
        )
        return {name.removeprefix(_TRAINING): json.loads(record) for name, record in rows}

    def fit(self, run_id: str, candidate: str) -> dict[str, Any] | None:
        """What fitting this candidate gave, or None when it was not fitted yet."""
        row = self._execute(
            "SELECT record FROM fits WHERE run_id = ? AND candidate = ?", (run_id, candidate)
        ).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    # -- answers ------------------------------------------------------------------------------------------------

    def add_response(
        self, run_id: str, key: str, model: str, request: str, response: ChatResponse, billed_usd: float
    ) -> None:
        """Remember an answer; `billed_usd` is what left the house for it."""
        self._execute(
            "INSERT OR IGNORE INTO responses (key, model, request, text, finish_reason, usage, seconds, billed_usd,"
            " run_id, tool_calls, logprob, first_token_seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                model,
                request,
                response.text,
                response.finish_reason,
                _pack_usage(response.usage),
                response.seconds,
                billed_usd,
                run_id,
                json.dumps([[c.name, c.arguments, c.id] for c in response.tool_calls]) if response.tool_calls else None,
                response.logprob,
                response.first_token_seconds,
            ),
        )

    def response(self, key: str) -> ChatResponse | None:
        """A remembered answer, marked as cached, or None."""
        row = self._execute(
            "SELECT text, usage, seconds, finish_reason, tool_calls, logprob, first_token_seconds FROM responses"
            " WHERE key = ?",
            (key,),
        ).fetchone()
        if row is None:
            return None
        text, usage, seconds, finish, calls, logprob, first = row
        assert finish in get_args(FinishReason)
        made = tuple(ToolCall(*call) for call in json.loads(calls or "[]"))
        return ChatResponse(text, _unpack_usage(usage), seconds, finish, made, logprob, first, cached=True)

    def request(self, key: str) -> str | None:
        """The request behind a remembered answer, as canonical JSON."""
        row = self._execute("SELECT request FROM responses WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def asked(self, run_id: str) -> Usage:
        """What answers and embeddings first asked in this run took together, as billed or as priced when asked."""
        rows = self._execute(
            "SELECT usage, billed_usd FROM (SELECT key, usage, billed_usd FROM responses WHERE run_id = ?1 UNION ALL"
            " SELECT key, usage, billed_usd FROM embeddings WHERE run_id = ?1 UNION ALL"
            " SELECT model, usage, billed_usd FROM losses WHERE run_id = ?1) ORDER BY key, usage",
            (run_id,),
        )
        return sum((_as_billed(_unpack_usage(usage), billed_usd) for usage, billed_usd in rows), Usage())

    def billed_usd(self, run_id: str) -> float:
        """Dollars that left the house in this run: for what was first asked, for nothing, and for trainings."""
        rows = self._execute(
            "SELECT coalesce(sum(billed_usd), 0) FROM responses WHERE run_id = ?1 UNION ALL"
            " SELECT coalesce(sum(billed_usd), 0) FROM embeddings WHERE run_id = ?1 UNION ALL"
            " SELECT coalesce(sum(billed_usd), 0) FROM losses WHERE run_id = ?1",
            (run_id,),
        )
        return float(sum(total for (total,) in rows)) + self.trained_billed_usd(run_id)

    def add_loss(self, run_id: str, model: str, usage: Usage, billed_usd: float) -> None:
        """Remember dollars that left the house, or may have, for a call that gave no answer."""
        self._execute(
            "INSERT INTO losses (run_id, model, usage, billed_usd) VALUES (?, ?, ?, ?)",
            (run_id, model, _pack_usage(usage), billed_usd),
        )

    def unsettled(self, run_id: str) -> dict[str, float]:
        """Dollars that calls of a run may have cost without anybody knowing, by what `set_unsettled` called them."""
        return dict(self._execute("SELECT call, usd FROM unsettled WHERE run_id = ? ORDER BY call", (run_id,)))

    def set_unsettled(self, run_id: str, call: str, usd: float) -> None:
        """Remember such dollars under a name of theirs; 0 forgets them."""
        if usd:
            self._execute("INSERT OR REPLACE INTO unsettled VALUES (?, ?, ?)", (run_id, call, usd))
        else:
            self._execute("DELETE FROM unsettled WHERE run_id = ? AND call = ?", (run_id, call))

    def forfeit(self, run_id: str, call: str, into: str) -> None:
        """Add what is remembered under one name to another, and forget the first."""
        moved = self.unsettled(run_id).get(call)
        if moved is not None:
            self._execute("BEGIN IMMEDIATE")
            self.set_unsettled(run_id, into, moved + self.unsettled(run_id).get(into, 0.0))
            self.set_unsettled(run_id, call, 0.0)
            self._execute("COMMIT")

    def add_embedding(self, run_id: str, key: str, embedding: StoredEmbedding, billed_usd: float = 0.0) -> None:
        """Remember a vector; `billed_usd` is what left the house for it."""
        vector = embedding.vector.astype("<f4").tobytes()
        self._execute(
            "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?, ?, ?, ?)",
            (key, vector, _pack_usage(embedding.usage), embedding.seconds, run_id, billed_usd),
        )

    def embedding(self, key: str) -> StoredEmbedding | None:
        """A remembered vector, or None."""
        row = self._execute("SELECT vector, usage, seconds FROM embeddings WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        return StoredEmbedding(np.frombuffer(row[0], dtype="<f4").astype(np.float32), _unpack_usage(row[1]), row[2])


def _workspace_error(path: Path, error: Exception) -> WorkspaceError:
    text = str(error)
    remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in text), None)
    return WorkspaceError(f"{path}: {text}. {remedy or 'Choose another folder with --workspace.'}")


def _pack_usage(usage: Usage) -> str:
    return json.dumps([usage.requests, usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.cost_usd])


def _as_billed(usage: Usage, billed_usd: float) -> Usage:
    """The usage at what left the house for it, which is less than its price in batches; other models are priced."""
    return replace(usage, cost_usd=billed_usd) if billed_usd and usage.cost_usd is not None else usage


def _unpack_usage(text: str) -> Usage:
    return Usage(*json.loads(text))


def _pack_steps(steps: Sequence[Step]) -> str | None:
    if not steps:
        return None
    return json.dumps([[step.name, step.output, _pack_usage(step.usage), step.seconds] for step in steps])


def _unpack_steps(text: str | None) -> tuple[Step, ...]:
    return tuple(Step(name, output, _unpack_usage(used), took) for name, output, used, took in json.loads(text or "[]"))


def _run(row: tuple[Any, ...]) -> RunRow:
    run = RunRow(*row)
    return replace(run, options=json.loads(row[6]))


def _trial(row: tuple[Any, ...]) -> Trial:
    candidate, split, sample_id, output, score, reason, error, usage, seconds, cached, keys, variant, *rest = row
    steps, scoring, first_token_seconds = rest
    assert split in get_args(Split)
    return Trial(
        candidate=candidate,
        split=split,
        sample_id=sample_id,
        output=output,
        score=None if score is None else Score(score, reason),
        error=error,
        usage=_unpack_usage(usage),
        seconds=seconds,
        cached_requests=cached,
        response_keys=tuple(json.loads(keys)),
        variant=variant,
        steps=_unpack_steps(steps),
        scoring=Usage() if scoring is None else _unpack_usage(scoring),
        first_token_seconds=first_token_seconds,
    )
