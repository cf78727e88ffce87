"""The program in which a scenario's tools live: reads calls, one JSON line each, and writes results.

`process` starts it. It imports the user's file, which our own process never does, under limits: memory (address space),
size of files it writes (50 MB each), processor time and, should we be gone, wall-clock time of each call. It ends, with
the programs its tools started, when the process that started it is gone. All this is there for mistakes; it is no cage
for hostile code. What tools print goes nowhere, so that it cannot be taken for a result.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import json
import math
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from pydantic_core import to_json

from advisor.tools.describe import DescriptionError, adapter, describe, functions, line_of

MEMORY_BYTES = 2 * 2**30
"""Most address space of the process; where the system has no such limit (macOS), none holds."""
FILE_BYTES = 50_000_000
"""Largest file that a tool, or a program it starts, may write; more is an OSError."""
RESULT_CHARACTERS = 20_000
"""A longer result is an error that shows its beginning: it would crowd everything else out of a prompt."""
_MODULE = "scenario_tools"


def main(source: str) -> None:
    """Describe the tools in one line, then answer calls until the other side hangs up."""
    sys.dont_write_bytecode = True
    calls, results = _private_pipes()
    threading.Thread(target=_end_with_parent, args=(calls.fileno(),), daemon=True).start()
    for limit, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_FSIZE, FILE_BYTES)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))
    found, faults = _load(Path(source))
    _write(results, _description(found, faults))
    for line in calls:
        call = json.loads(line)
        _write(results, _run(found[call["name"]], call["arguments"], call["seconds"]))
    # A tool may have left threads that would keep the process alive.
    os._exit(0)


def _private_pipes() -> tuple[TextIO, TextIO]:
    """Our ends of the pipes, out of reach of print() and of programs that a tool starts."""
    pipes = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return pipes


def _end_with_parent(calls: int) -> None:
    """Wait until nobody can call any more, then end our whole session, whatever a tool is doing."""
    poll = select.poll()
    # Of no interest are calls; that the other side hung up is told anyway.
    poll.register(calls, 0)
    poll.poll()
    os.killpg(os.getpid(), signal.SIGKILL)


def _write(results: TextIO, value: Any) -> None:
    """One line. Lone surrogates, which user's code may put anywhere, could not go on to a terminal or a prompt."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    results.write(text + "\n")
    results.flush()


def _load(source: Path) -> tuple[dict[str, Callable[..., Any]], list[dict[str, Any]]]:
    """The functions of the user's file, and what is wrong with it."""
    sys.path.insert(0, str(source.parent))
    spec = importlib.util.spec_from_file_location(_MODULE, source)
    if spec is None or spec.loader is None:
        raise AssertionError("a .py file has a loader")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # the user's code may raise anything, SystemExit included
        what = f"the file cannot be imported: {type(error).__name__}: {error}."
        return {}, [_fault(_line_in(source, error), what, "Correct the file.")]
    return _tools_of(module)


def _tools_of(module: ModuleType) -> tuple[dict[str, Callable[..., Any]], list[dict[str, Any]]]:
    found = functions(module)
    if found:
        return found, []
    return {}, [_fault(1, "the file defines no public function.", "Write functions with type hints and docstrings.")]


def _line_in(source: Path, error: BaseException) -> int:
    if isinstance(error, SyntaxError) and error.filename == str(source):
        return error.lineno or 1
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(source)]
    return frames[-1] or 1 if frames else 1


def _fault(line: int, what: str, remedy: str) -> dict[str, Any]:
    return {"line": line, "what": what, "remedy": remedy}


def _description(found: dict[str, Callable[..., Any]], faults: list[dict[str, Any]]) -> dict[str, Any]:
    tools = []
    for name, function in found.items():
        try:
            tools.append({"name": name, "line": line_of(function), **describe(function)})
        except DescriptionError as error:
            faults.append(_fault(line_of(function), error.what, error.remedy))
    return {"tools": tools, "faults": faults}


def _run(function: Callable[..., Any], arguments: str, seconds: float) -> dict[str, Any]:
    """Call a function with arguments that are JSON text; whatever it does, there is a result."""
    _limit_time(seconds)
    begun = time.perf_counter()
    try:
        value = adapter(function).validate_json(arguments)
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
        text, fault = _result(value)
    except MemoryError:
        text, fault = "", f"the tool needs more than {MEMORY_BYTES // 2**30} GiB of memory"
    except BaseException as error:  # a tool may raise anything, SystemExit included; the model is told
        text, fault = "", f"{type(error).__name__}: {error}"[:RESULT_CHARACTERS]
    signal.alarm(0)
    return {"text": text, "fault": fault, "seconds": time.perf_counter() - begun}


def _limit_time(seconds: float) -> None:
    """The other side ends a call that takes too long; these hold when it was killed before it could."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    signal.alarm(math.ceil(seconds) + 2)


def _result(value: Any) -> tuple[str, str | None]:
    """A result as text, text as it is and everything else as JSON; or why it cannot be given whole."""
    text = value if isinstance(value, str) else to_json(value, fallback=str).decode()
    if len(text) <= RESULT_CHARACTERS:
        return text, None
    return "", f"the result is too long ({len(text)} characters); it begins: {text[:RESULT_CHARACTERS]}"
