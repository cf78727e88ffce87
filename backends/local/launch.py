"""Training in several processes, which accelerate starts: one for each GPU, or some on a CPU.

The job is handed over as a file in the job's folder. The first process tells its progress on its standard output, the
result and the first error come back as files. All processes live as long as this one holds their standard input open:
closing it ends a cancelled training, and the system closes it when this process is killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from backends.errors import BackendUnavailable, InputError, Problem
from backends.local.files import read_json, write_text
from backends.local.recipe import Recipe
from backends.types import TuneObserver, TuneProgress

if TYPE_CHECKING:
    from backends.local.fitting import Fitted
    from backends.local.tune import Work

HANDED = ".processes"
"""Folder within the job's folder, for as long as the processes run."""
JOB, RESULT, ERROR = "job.json", "result.json", "error.json"
_CONFIG, _LOG = "accelerate.yaml", "log.txt"
_WORKER = "backends.local.worker"

_LOOK_SECONDS = 0.1
"""How long a cancellation waits to be seen."""
_END_SECONDS = 15.0
_SAID = 400
"""Characters of the log that an error shows."""


def in_processes(recipe: Recipe, examples: int, device: str) -> Recipe:
    """The recipe with the number of processes decided; raises InputError for more than can have work to do."""
    return shared_out(recipe, examples, _gpus() if device == "cuda" else None)


def shared_out(recipe: Recipe, examples: int, gpus: int | None) -> Recipe:
    """The same on a machine with so many GPUs, None for training on the CPU."""
    batch = recipe.filled(examples=examples, hidden=1, dtype="").batch_size or 1
    if recipe.processes is None:
        return dataclasses.replace(recipe, processes=min(gpus or 1, batch))
    where = "fine_tune recipe.processes"
    if gpus is not None and recipe.processes > gpus:
        what = f"{recipe.processes} need a GPU each, and this machine has {gpus}."
        raise InputError(Problem(where, what, f"Take {gpus}, or leave it out."))
    if recipe.processes > batch:
        what = f"{recipe.processes} cannot share batches of {batch}."
        raise InputError(Problem(where, what, f"Take at most {batch}, or a larger batch_size."))
    return recipe


def fit_in_processes(work: Work, device: str, observe: TuneObserver | None, stop: threading.Event) -> Fitted:
    """What `fitting.fit` does, by as many processes as the recipe says.

    Raises what a process raised first, or BackendUnavailable when they broke off without a word.
    """
    count = work.recipe.processes or 1
    handed = work.job.folder / HANDED
    shutil.rmtree(handed, ignore_errors=True)
    handed.mkdir(parents=True)
    try:
        write_text(handed / JOB, json.dumps(_as_json(work, device)))
        write_text(handed / _CONFIG, yaml.safe_dump(accelerate_config(count, device)))
        with _started(handed, count) as process:
            _follow(process, observe, stop)
        return _result(handed, process.returncode, count)
    finally:
        shutil.rmtree(handed, ignore_errors=True)


def accelerate_config(processes: int, device: str) -> dict[str, Any]:
    """What `accelerate config` would write for this machine.

    Accelerate starts processes on a CPU as it does on GPUs; under its own name for them it wants MPI. Its mixed
    precision is off, because the training chooses its own.
    """
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "use_cpu": device == "cpu",
        "num_machines": 1,
        "machine_rank": 0,
        "num_processes": processes,
        "main_process_port": 0,
        "mixed_precision": "no",
        "rdzv_backend": "static",
        "same_network": True,
        "debug": False,
    }


def _as_json(work: Work, device: str) -> dict[str, Any]:
    job = {field.name: getattr(work.job, field.name) for field in dataclasses.fields(work.job)}
    for split in ("train", "dev"):
        job[split] = [[asdict(message) for message in conversation] for conversation in job[split]]
    paths = {name: str(value) for name, value in job.items() if isinstance(value, Path)}
    job |= paths | {"recipe": dict(work.job.recipe)}
    told = {"processes": work.recipe.processes, "key": work.key, "base_content": work.base_content}
    return told | {"device": device, "job": job, "paths": sorted(paths)}


def _gpus() -> int:
    import torch

    # What an earlier model of this process has freed is of no use to another process before it is given back.
    torch.cuda.empty_cache()
    return torch.cuda.device_count()


@contextlib.contextmanager
def _started(handed: Path, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher, apart from the terminal's Ctrl-C, which is ours to pass on; inside, its processes run."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(handed / _CONFIG)]
    # Without a place of its own, torch's launcher leaves a folder behind among the temporary ones.
    command += ["--log_dir", str(handed / "torch")]
    command += ["--num_cpu_threads_per_process", str(_threads(count)), "--module", _WORKER, str(handed)]
    pipe = subprocess.PIPE
    with (handed / _LOG).open("wb") as log:
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=log, start_new_session=True, env=_environment()
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    except BaseException:
        # It ends the processes, and starts none if it has not come so far.
        process.terminate()
        raise
    finally:
        process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _environment() -> dict[str, str]:
    """Ours, with gloo kept to this machine; accelerate takes no other orders than those of its file."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    return {"GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"} | mine


def _threads(count: int) -> int:
    """Of this process, shared out: as many in all as one process would use."""
    import torch

    return max(1, torch.get_num_threads() // count)


def _follow(process: subprocess.Popen[bytes], observe: TuneObserver | None, stop: threading.Event) -> None:
    """Pass the progress on until the processes end; raises Stopped when they should."""
    for line in _lines(process, stop):
        if observe is not None:
            observe(TuneProgress(**json.loads(line)))


def _lines(process: subprocess.Popen[bytes], stop: threading.Event) -> Iterator[bytes]:
    assert process.stdout is not None
    read = process.stdout.fileno()
    rest = b""
    while True:
        if stop.is_set():
            from backends.local.training import Stopped

            raise Stopped
        ready, _, _ = select.select([read], [], [], _LOOK_SECONDS)
        if not ready and process.poll() is not None:
            return
        if not ready:
            continue
        found = os.read(read, 1 << 16)
        if not found:
            return
        *lines, rest = (rest + found).split(b"\n")
        yield from lines


def _result(handed: Path, code: int, count: int) -> Fitted:
    """What the first process gave, or the first error of any."""
    found = read_json(handed / RESULT)
    if code == 0 and found is not None:
        from backends.local.checkpoint import Standing
        from backends.local.fitting import Fitted

        recipe = found["recipe"] | {"targets": _tuples(found["recipe"]["targets"])}
        return Fitted(Standing.of(found["standing"]), Recipe(**recipe), found["trained_tokens"])
    error = read_json(handed / ERROR) or {}
    if "problems" in error:
        raise InputError(Problem(*each) for each in error["problems"])
    if "message" in error:
        raise BackendUnavailable(error["message"])
    if "traceback" in error:
        raise RuntimeError(f"a training process failed:\n{error['traceback']}")
    said = (handed / _LOG).read_text(encoding="utf-8", errors="replace").strip()
    raise BackendUnavailable(
        f"{count} training processes broke off: {_why(said, code)}. Finished epochs are kept; run it again, with fewer "
        "processes."
    )


def _why(said: str, code: int) -> str:
    """What torch's launcher says of the first process that ended, else the last that was heard."""
    found = re.search(r"Root Cause.*?\((SIG\w+)\)", said, re.DOTALL)
    if found is None:
        return f"exit code {code}, after {said[-_SAID:]!r}"
    reason = ", perhaps by the system because memory ran out" if found[1] == "SIGKILL" else ""
    return f"one was ended by {found[1]}{reason}"


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
