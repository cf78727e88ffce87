"""Tools live in another process: described there, run there, and whatever they do stays there."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from advisor.tools import process
from advisor.tools.describe import read_docstring
from advisor.tools.process import Description, Result, ToolProcess, describe_file

TOOLS = '''
"""Tools of a test."""

from __future__ import annotations

import os
import sys
import time
from datetime import date
from os.path import join
from typing import Literal

from pydantic import BaseModel

N = 0


class Place(BaseModel):
    city: str
    country: str = "FR"


def add(a: float, b: float = 1.5) -> float:
    """Add two numbers.

    Args:
        a: The first,
            in full.
        b (float): The second.

    Returns:
        Their sum.
    """
    print("noise")
    os.system("echo more noise")
    return a + b


def count() -> int:
    global N
    N += 1
    return N


def weather(place: Place, day: date, unit: Literal["C", "F"] = "C") -> dict:
    """The weather."""
    return {"city": place.city, "year": day.year, "unit": unit}


async def later() -> str:
    return "later"


def secrets() -> list:
    return sorted(os.environ)


def boom(text: str) -> str:
    raise ValueError(f"bad {text}")


def hang() -> str:
    time.sleep(600)


def spin() -> str:
    while True:
        pass


def big() -> str:
    return "x" * 10_000_000


def greedy() -> int:
    return len(bytearray(8 * 2**30))


def leave() -> str:
    sys.exit(3)


def die() -> str:
    os._exit(3)


def child() -> int:
    import subprocess

    return subprocess.Popen(["sleep", "600"]).pid


def _private(x):
    pass
'''


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tools") / "tools.py"
    path.write_text(TOOLS, encoding="utf-8")
    return path


def described(text: str, folder: Path) -> Description:
    (folder / "tools.py").write_text(text, encoding="utf-8")
    return describe_file(folder / "tools.py", seconds=10)


def test_public_functions_of_the_file_are_tools_in_their_order(source: Path) -> None:
    found = describe_file(source)
    assert found.faults == ()
    assert [tool.name for tool in found.tools][:4] == ["add", "count", "weather", "later"]
    assert not {"join", "_private", "Place"} & {tool.name for tool in found.tools}
    assert found.lines[0] == TOOLS.splitlines().index("def add(a: float, b: float = 1.5) -> float:") + 1


def test_hints_and_docstring_become_description_and_schema(source: Path) -> None:
    add, _, weather, *_ = describe_file(source).tools
    assert add.description == "Add two numbers."
    schema = json.loads(add.parameters)
    assert schema == {
        "type": "object",
        "properties": {
            "a": {"type": "number", "description": "The first, in full."},
            "b": {"type": "number", "default": 1.5, "description": "The second."},
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    properties = json.loads(weather.parameters)["properties"]
    assert list(properties) == ["place", "day", "unit"], "the order of the signature"
    assert properties["unit"] == {"type": "string", "enum": ["C", "F"], "default": "C"}
    assert properties["place"] == {"$ref": "#/$defs/Place"}


def test_the_sections_of_a_docstring_are_told_apart() -> None:
    text = """One.

    Two lines
    of it.

    Args:
        a: First: with a colon.
        b (list of str): Second
            goes on.

    Returns:
        c: not an argument
    """
    assert read_docstring(text) == (
        "One. Two lines of it.",
        {"a": "First: with a colon.", "b": "Second goes on."},
    )
    assert read_docstring("") == ("", {})


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\n\ndef f(x, y: int): ...\n", 3, "f: no type hint for x."),
        ("def f(*words: str): ...\n", 1, "f: words cannot be given by name."),
        ("def f(x: int, /): ...\n", 1, "f: x cannot be given by name."),
        ("import threading\ndef f(x: threading.Thread): ...\n", 2, "f: its type hints cannot be written"),
        ("def f(x: 'Missing'): ...\n", 1, "f: its type hints cannot be written"),
        ("from typing import Callable\ndef f(x: Callable[[], int]): ...\n", 2, "f: its type hints cannot be written"),
        ("x = 1\ny = x / 0\n", 2, "the file cannot be imported: ZeroDivisionError"),
        ("x = 1\ndef f(:\n", 2, "the file cannot be imported: SyntaxError"),
        ("import sys\nsys.exit(0)\n", 2, "the file cannot be imported: SystemExit"),
        ("import os\nos._exit(0)\n", 1, "importing the file ends the process"),
        ("from math import sqrt\n_x = lambda: 0\n", 1, "the file defines no public function"),
    ],
)
def test_what_cannot_be_a_tool_is_named_with_its_line(text: str, line: int, said: str, tmp_path: Path) -> None:
    (fault,) = described(text, tmp_path).faults
    assert fault.line == line
    assert said in fault.what
    assert fault.remedy


def test_a_file_that_never_ends_importing_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    (fault,) = describe_file(path, seconds=0.5).faults
    assert "takes more than 0.5 seconds" in fault.what


def test_all_faults_of_a_file_are_told_and_nothing_is_left_in_its_folder(tmp_path: Path) -> None:
    found = described("def f(x): ...\ndef g(y: int): ...\ndef h(z): ...\n", tmp_path)
    assert [(fault.line, tool_name(fault.what)) for fault in found.faults] == [(1, "f"), (3, "h")]
    assert [tool.name for tool in found.tools] == ["g"]
    assert [path.name for path in tmp_path.iterdir()] == ["tools.py"]


def tool_name(what: str) -> str:
    return what.partition(":")[0]


async def call(source: Path, name: str, seconds: float = 20.0, **arguments: object) -> Result:
    async with ToolProcess(source, seconds) as tools:
        return await tools.call(name, arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("add", {"a": 1}, "2.5"),
        ("weather", {"place": {"city": "Nîmes"}, "day": "2026-01-02"}, '{"city":"Nîmes","year":2026,"unit":"C"}'),
        ("later", {}, "later"),
    ],
)
async def test_a_call_gives_its_result_and_what_is_printed_goes_nowhere(
    name: str, arguments: dict[str, object], text: str, source: Path
) -> None:
    result = await call(source, name, **arguments)
    assert (result.text, result.is_error) == (text, False)
    assert 0 < result.seconds < 20


async def test_keys_of_the_environment_stay_with_us(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("HF_TOKEN", "k")
    seen = json.loads((await call(source, "secrets")).text)
    assert "PATH" in seen
    assert not [name for name in seen if "KEY" in name or "TOKEN" in name]


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("boom", {"text": "é"}, "error: ValueError: bad é"),
        ("big", {}, "error: the result is too long (10000000 characters); it begins: xxx"),
        ("greedy", {}, "error: the tool needs more than 2 GiB of memory"),
        ("leave", {}, "error: SystemExit: 3"),
        ("die", {}, "error: die ended the process it ran in"),
    ],
)
async def test_whatever_a_tool_does_is_told_and_the_next_call_works(
    name: str, arguments: dict[str, object], said: str, source: Path
) -> None:
    async with ToolProcess(source, 20.0) as tools:
        result = await tools.call(name, arguments)
        assert result.is_error
        assert result.text.startswith(said)
        assert len(result.text) < 21_000
        assert (await tools.call("add", {"a": 1})).text == "2.5"


@pytest.mark.parametrize("name", ["hang", "spin"])
async def test_a_tool_that_hangs_is_stopped_and_the_next_call_works(name: str, source: Path) -> None:
    async with ToolProcess(source, 0.3) as tools:
        result = await tools.call(name, {})
        assert result.text == f"error: {name} gave no result within 0.3 seconds and was stopped"
        assert result.is_error
        assert result.seconds >= 0.3
    assert (await call(source, "add", a=1)).text == "2.5"


async def test_a_tool_remembers_within_one_block_and_starts_afresh_in_the_next(source: Path) -> None:
    async with ToolProcess(source, 20.0) as tools:
        assert [(await tools.call("count", {})).text for _ in range(3)] == ["1", "2", "3"]
    assert (await call(source, "count")).text == "1"


async def test_nothing_is_started_before_the_first_call_or_left_after_the_last(source: Path) -> None:
    async with ToolProcess(source, 20.0) as tools:
        assert tools._process is None
        grandchild = int((await tools.call("child", {})).text)
        running = tools._process
        assert running is not None
    assert running.returncode is not None
    for _ in range(100):
        if not is_alive(grandchild):
            break
        await asyncio.sleep(0.05)
    assert not is_alive(grandchild), "programs that a tool started end with it"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie, where nobody reaps orphans, is as dead.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text("utf-8").rpartition(")")[2].split()[0] != "Z"


async def test_a_cancelled_call_leaves_no_process(source: Path) -> None:
    started: list[asyncio.subprocess.Process] = []

    async def work() -> None:
        async with ToolProcess(source, 60.0) as tools:
            await tools.call("count", {})
            assert tools._process is not None
            started.append(tools._process)
            await tools.call("hang", {})

    task = asyncio.create_task(work())
    while not started:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert started[0].returncode is not None


async def test_more_samples_than_processes_wait_for_each_other(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PROCESSES", 2)
    results = await asyncio.gather(*(call(source, "count") for _ in range(5)))
    assert [result.text for result in results] == ["1"] * 5


async def test_tools_that_can_no_longer_be_imported_are_an_error_of_the_call(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("1 / 0\n", encoding="utf-8")
    assert "error: the file cannot be imported: ZeroDivisionError" in (await call(tmp_path / "tools.py", "f")).text
