"""Starts the process that tools run in, asks it, and ends it when a tool hangs. Nothing of the user's runs in ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import advisor
from backends.types import Tool

START_SECONDS = 20.0
"""Longest a file of tools may take to import."""
_PROCESSES = 16
"""Most processes at once: each holds some 30 MB, and every sample in flight wants one."""
_LINE_BYTES = 2**24
"""Longest line of the protocol: descriptions of all tools, or one result."""
_KEPT = ("PATH", "HOME", "LANG")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Number libraries reserve memory for every core, which the limit on address space would refuse on large machines."""
_START = "import sys; sys.path.append(sys.argv[1]); from advisor.tools.worker import main; main(sys.argv[2])"

_slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in a file of tools that has to be put right."""

    line: int
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Description:
    """What a file of tools offers, and what is wrong with it."""

    tools: tuple[Tool, ...] = ()
    lines: tuple[int, ...] = ()
    """Where each tool begins."""
    faults: tuple[Fault, ...] = ()

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Read the first line that the process writes."""
        said = json.loads(line)
        return cls(
            tuple(Tool(one["name"], one["description"], _json(one["parameters"])) for one in said["tools"]),
            tuple(one["line"] for one in said["tools"]),
            tuple(Fault(**fault) for fault in said["faults"]),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call."""

    text: str
    """For the model: the result, or the error in words."""
    is_error: bool
    seconds: float
    """How long the tool took, the start of its process not counted."""


def describe_file(source: Path, seconds: float = START_SECONDS) -> Description:
    """The tools of a Python file, found out by importing it in another process."""
    with subprocess.Popen(
        _command(source), stdin=PIPE, stdout=PIPE, stderr=subprocess.DEVNULL, **_surroundings(source)
    ) as process:
        assert process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _kill_session(process.pid)

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            # Not to its end: programs that the file started could hold it open.
            line = process.stdout.readline()
        finally:
            timer.cancel()
            timer.join()
            _kill_session(process.pid)
    if line.endswith(b"\n"):
        return Description.read(line)
    what = f"takes more than {seconds:g} seconds" if late.is_set() else "ends the process"
    return Description(faults=(_unreadable(what),))


def _kill_session(leader: int) -> None:
    """End a process that leads a session of its own, and the programs it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _unreadable(what: str) -> Fault:
    return Fault(1, f"importing the file {what}.", "Let it define functions and do nothing else.")


class ToolProcess:
    """A process with one file of tools. Use as `async with`; it starts at the first call and ends with the block.

    One sample has one, so that tools which remember things start afresh with each sample, and what a sample gets
    does not depend on the others in flight. A call that hangs or ends its process costs just that process; the next
    call starts a new one.
    """

    def __init__(self, source: Path, seconds: float) -> None:
        self._source = source
        self._seconds = seconds
        self._process: Process | None = None
        self._has_slot = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._end()
        finally:
            if self._has_slot:
                _slot().release()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        """Call a tool. Whatever goes wrong is told in the result."""
        try:
            process = await self._running()
        except _StartError as error:
            return Result(f"error: {error}", True, 0.0)
        begun = time.perf_counter()
        line = _json({"name": name, "arguments": _json(arguments), "seconds": self._seconds})
        try:
            async with asyncio.timeout(self._seconds):
                answer = await _ask(process, line)
        except TimeoutError:
            await self._end()
            what = f"error: {name} gave no result within {self._seconds:g} seconds and was stopped"
            return Result(what, True, time.perf_counter() - begun)
        if answer is None:
            await self._end()
            return Result(f"error: {name} ended the process it ran in", True, time.perf_counter() - begun)
        fault = answer["fault"]
        return Result(answer["text"] if fault is None else f"error: {fault}", fault is not None, answer["seconds"])

    async def _running(self) -> Process:
        if self._process is not None:
            return self._process
        if not self._has_slot:
            await _slot().acquire()
            self._has_slot = True
        self._process = await asyncio.create_subprocess_exec(
            *_command(self._source),
            stdin=PIPE,
            stdout=PIPE,
            stderr=subprocess.DEVNULL,
            limit=_LINE_BYTES,
            **_surroundings(self._source),
        )
        await self._greet(self._process)
        return self._process

    async def _greet(self, process: Process) -> None:
        """Wait until the tools are imported. Raises _StartError when they cannot be."""
        assert process.stdout is not None
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        if not line:
            await self._end()
            raise _StartError("the tools could not be imported")
        faults = Description.read(line).faults
        if faults:
            await self._end()
            raise _StartError(faults[0].what)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _kill_session(process.pid)
        await process.communicate()


class _StartError(Exception):
    """The process of the tools did not come up."""


async def _ask(process: Process, line: str) -> dict[str, Any] | None:
    """One call and its answer; None when the process is gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(line.encode() + b"\n")
        await process.stdin.drain()
    answer = await process.stdout.readline()
    return json.loads(answer) if answer.endswith(b"\n") else None


def _slot() -> asyncio.Semaphore:
    return _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_PROCESSES))


def _command(source: Path) -> list[str]:
    root = Path(str(advisor.__file__)).parent.parent
    # -P: the current folder is not searched for modules; ours come last, so that none hides one of the user's.
    return [sys.executable, "-P", "-c", _START, str(root), str(source.absolute())]


def _surroundings(source: Path) -> dict[str, Any]:
    """Folder and environment of the process: no keys, hashes in one order, a session of its own."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("PYTHON")}
    environment = {**kept, **_ONE_THREAD, "PYTHONHASHSEED": "0"}
    return {"cwd": source.absolute().parent, "env": environment, "start_new_session": True}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
