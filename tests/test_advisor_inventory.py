"""`advisor models`: what is listed, what an endpoint adds when it is named, and how it looks in 80 columns."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from advisor.cli.models import show_models
from advisor.inventory import Inventory, inventory
from backends.errors import InputError
from backends.openai import listing
from tests.openai_server import WRONG_KEY, Fault, Json, Server

DAY = date(2026, 11, 23)


class Listing(Server):
    """Lists models, or does what it is told instead."""

    body: Json | None = None
    instead: Fault | None = None

    async def other(self, method: str, path: str, headers: Mapping[str, str], raw: bytes) -> Fault | None:
        if path != "/v1/models":
            return None
        self.request_headers.append(dict(headers))
        return self.instead or Fault(200, self.body or {"object": "list", "data": []})


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No advisor.toml and no cache but the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listing]:
    monkeypatch.setattr(listing, "_POLICY", listing.Policy(attempts=1))
    async with Listing() as found:
        toml = f'[endpoints.mine]\nbase_url = "{found.url}"\nkey_env = "MINE_KEY"\nprovider = "openai"\n'
        (tmp_path / "advisor.toml").write_text(toml, encoding="utf-8")
        monkeypatch.setenv("MINE_KEY", "sk-secret-1234567890")
        yield found


async def ask(workspace: Path, pattern: str | None = None) -> Inventory:
    return await asyncio.to_thread(inventory, pattern, "mine", workspace, DAY)


def test_without_a_pattern_models_that_stop_and_their_successors_are_listed(tmp_path: Path) -> None:
    found = inventory(None, None, tmp_path, DAY)
    mini = next(one for one in found.remote if one.name == "openai/gpt-4.1-mini")
    assert found.days_left(mini) == 52
    assert (mini.lifecycle.shutdown, mini.lifecycle.training_ends) == (date(2027, 1, 14), date(2027, 1, 6))
    assert (mini.usd, mini.training_usd, mini.is_tunable) == ((0.4, 0.1, 1.6), 5.0, True)
    names = {one.name for one in found.remote}
    assert mini.lifecycle.replacement is not None
    assert f"openai/{mini.lifecycle.replacement}" in names
    assert len(names) < 30


def test_a_pattern_looks_through_everything_that_is_known(tmp_path: Path) -> None:
    assert {one.name for one in inventory("GPT-4.1-m", None, tmp_path, DAY).remote} == {"openai/gpt-4.1-mini"}
    assert all("embedding" in one.name for one in inventory("*embedding*", None, tmp_path, DAY).remote)
    tuned = "openai/ft:gpt-4.1-mini-2025-04-14:acme::x"
    (found,) = inventory(tuned, None, tmp_path, DAY).remote
    assert (found.usd, found.lifecycle.shutdown) == ((0.8, 0.2, 3.2), date(2027, 1, 14))


@pytest.mark.parametrize(
    ("pattern", "endpoint"), [("no-such-model", None), ("openai/no-such-model", None), (None, "x")]
)
def test_what_is_not_known_is_said(tmp_path: Path, pattern: str | None, endpoint: str | None) -> None:
    with pytest.raises(InputError, match=r"matches no model|is no endpoint"):
        inventory(pattern, endpoint, tmp_path, DAY)


async def test_an_endpoint_that_is_named_tells_its_models_and_when_they_stop(tmp_path: Path, server: Listing) -> None:
    server.body = {
        "data": [
            {"id": "gpt-4.1-mini", "shutdown_date": "2027-03-01"},
            {"id": "own-model", "shutdown_date": None, "max_model_len": 2048},
            {"id": "odd", "shutdown_date": "soon"},
            "no row",
        ]
    }
    found = {one.name: one for one in (await ask(tmp_path)).remote}
    assert set(found) == {"mine/gpt-4.1-mini", "mine/own-model", "mine/odd"}
    assert found["mine/gpt-4.1-mini"].lifecycle.shutdown == date(2027, 3, 1)
    assert found["mine/gpt-4.1-mini"].lifecycle.replacement == "gpt-6-luna"
    assert (found["mine/own-model"].context, found["mine/own-model"].usd) == (2048, None)
    assert found["mine/odd"].lifecycle.shutdown is None
    assert [headers["authorization"] for headers in server.request_headers] == ["Bearer sk-secret-1234567890"]
    assert [one.name for one in (await ask(tmp_path, "own")).remote] == ["mine/own-model"]


async def test_an_endpoint_that_does_not_tell_is_named_and_the_tables_are_shown(
    tmp_path: Path, server: Listing
) -> None:
    server.instead = WRONG_KEY
    found = await ask(tmp_path)
    assert "mine did not list its models" in found.notes[0]
    assert "sk-secret" not in json.dumps(found.as_json())
    assert "mine/gpt-4.1-mini" in {one.name for one in found.remote}


async def test_without_a_key_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(listing, "listed", never)
    found = inventory("gpt-4.1", "openai", tmp_path, DAY)
    assert "OPENAI_API_KEY is not set" in found.notes[0]
    assert "openai/gpt-4.1" in {one.name for one in found.remote}
    inventory(None, None, tmp_path, DAY)


def test_listing_what_is_known_imports_neither_the_sdk_nor_a_model_library(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['advisor', 'models']\n"
        "from advisor.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    heavy = {'openai', 'torch', 'transformers', 'tiktoken', 'scipy'}\n"
        "    print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout


def test_tuned_models_of_the_workspace_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "w" / "adapters" / "0123"
    folder.mkdir(parents=True)
    (folder / "tuned.json").write_text(json.dumps({"name": "local/base+lora-12345678"}), encoding="utf-8")
    found = inventory("+lora-", None, tmp_path / "w", DAY)
    assert [one.name for one in found.local] == ["local/base+lora-12345678"]
    assert found.remote == ()


def test_names_are_told_in_one_piece(tmp_path: Path) -> None:
    folder = tmp_path / "w" / "adapters" / "0123"
    folder.mkdir(parents=True)
    name = "local/a-model-with-a-name-of-its-own-that-is-long+lora-12345678"
    (folder / "tuned.json").write_text(json.dumps({"name": name}), encoding="utf-8")
    output = io.StringIO()
    show_models(Console(file=output, width=80), "+lora-", None, tmp_path / "w")
    (line,) = (line for line in output.getvalue().splitlines() if "a-model" in line)
    assert line.split() == [name, "tuned", "-", "-", "0", "MB", "-"]


def test_what_keeps_a_local_model_from_use_is_told_below_the_table(tmp_path: Path) -> None:
    (tmp_path / "hub" / "models--org--broken").mkdir(parents=True)
    output = io.StringIO()
    show_models(Console(file=output, width=80), "broken", None, tmp_path / "w")
    assert "local/org/broken is not on this machine." in output.getvalue()


@pytest.mark.parametrize("pattern", [None, "mini", "openai/ft:gpt-4.1-mini-2025-04-14:acme:with-a-long-name:x"])
def test_the_tables_fit_80_columns_and_the_json_says_the_same(tmp_path: Path, pattern: str | None) -> None:
    output = io.StringIO()
    told = show_models(Console(file=output, width=80), pattern, None, tmp_path)
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "2027-01-14" in output.getvalue()
    assert json.loads(json.dumps(told)) == told
    row = next(one for one in told["remote"] if "gpt-4.1-mini" in one["name"])
    assert row["shutdown"] == "2027-01-14"
    assert row["prices_date"] is not None
    assert row["lifecycle_read"] == "2026-11-22"
