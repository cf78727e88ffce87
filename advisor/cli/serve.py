"""`advisor serve`: opens the winner of a run, or a model, and answers until it is stopped."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from advisor.workspace import Workspace
from backends import registry as backends
from backends.errors import InputError, Problem
from backends.extras import require
from evals.cache import store_path
from evals.naming import Last
from evals.store import Store

if TYPE_CHECKING:
    from advisor.serve.served import Served

KEY_VARIABLE = "ADVISOR_SERVE_KEY"


def serve(console: Console, what: str, workspace: Path, host: str, port: int) -> None:
    """Serve until interrupted. Raises InputError for what cannot be served or may not be reached from elsewhere."""
    uvicorn = require("uvicorn", "serve")
    endpoint = require("advisor.serve.endpoint", "serve")
    key = os.environ.get(KEY_VARIABLE) or None
    local = endpoint.is_loopback(host)
    if not local and key is None:
        remedy = f"Set a key in the environment: {KEY_VARIABLE}=..., or leave --host out."
        raise InputError(Problem("--host", f"{host} can be reached from other machines.", remedy))
    served = _served(what, workspace)
    with _listening(host, port) as listening:
        application = endpoint.Endpoint([served], key).application(local_only=local)
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/v1"
        console.print(Text(f"{served.name} at {url} (OpenAI chat protocol). Ctrl-C stops it."), soft_wrap=True)
        console.print(Text(_example(url, served.name, key), style="dim"), soft_wrap=True)
        uvicorn.Server(uvicorn.Config(application, log_level="warning")).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = "Choose another with --port, or 0 for any that is free."
        raise InputError(Problem(f"{host}:{port}", f"cannot be listened on: {error.strerror}.", remedy)) from error


def _served(what: str, workspace: Path) -> Served:
    from advisor.serve.served import BareModel, FittedCandidate
    from advisor.serve.winner import read_winner

    if "/" in what:
        return BareModel(backends.open_chat(what, backends.Settings()))
    path = store_path(workspace)
    if not path.is_file():
        remedy = "Name another with --workspace, or a model: local/smollm2-135m"
        raise InputError(Problem(str(workspace), "there is no workspace here.", remedy))
    with Store.open(path) as store:
        row = store.run(what, Last("run with a pick", fits=lambda run: run.pick is not None))
    return FittedCandidate(*read_winner(Workspace(workspace), row.id))


def _example(url: str, name: str, key: str | None) -> str:
    header = "" if key is None else f" -H 'Authorization: Bearer ${KEY_VARIABLE}'"
    body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "..."}}]}}'
    return f"Try: curl {url}/chat/completions{header} -H 'Content-Type: application/json' -d '{body}'"
