"""Tools live in another process: described there, run there, and whatever they do stays there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from advisor.tools import process
from advisor.tools.calls import Call
from advisor.tools.describe import read_docstring
from advisor.tools.loop import Toolset
from advisor.tools.process import Description, Result, ToolProcess, describe_file
from backends.meter import Meter
from backends.scripted import ScriptedChat
from backends.types import Tool

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


def half_boom() -> str:
    raise ValueError("\\udc80 bad")


def echo(text: str) -> str:
    return text


def half() -> str:
    return "\\udc80 good"


def fill(size: int) -> int:
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.truncate(size)
    return size


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


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("subprocess.Popen(['sleep', '600']).pid", ""),
        ("os.fork() or time.sleep(600)", ""),
        ("os.fork() or time.sleep(600); note(pid); os._exit(0)", "takes more than"),
        ("subprocess.Popen(['sleep', '600']).pid; note(pid); time.sleep(600)", "takes more than"),
    ],
    ids=["program", "fork that holds our pipes", "fork of a file that ends", "file that hangs"],
)
def test_what_a_file_starts_when_imported_ends_with_its_description(
    start: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = tmp_path / "pid"

    class WhenNoted(threading.Timer):
        def run(self) -> None:
            while not self.finished.wait(0.02):
                if noted.exists() and noted.read_text("utf-8"):
                    return self.function()

    if said:
        monkeypatch.setattr(threading, "Timer", WhenNoted)
    text = f"import os, subprocess, time\n\ndef note(n: int): open({str(noted)!r}, 'w').write(str(n))\n"
    path = tmp_path / "tools.py"
    path.write_text(f"{text}pid = {start}\nnote(pid)\n", encoding="utf-8")
    found = describe_file(path)
    assert [said in fault.what for fault in found.faults] == ([True] if said else [])
    assert_dies(int(noted.read_text("utf-8")))


PARENT = """
import asyncio, pathlib, sys
from advisor.tools.process import ToolProcess, describe_file

async def work(source):
    async with ToolProcess(source, 600.0) as tools:
        await tools.call("begin", {"folder": sys.argv[2]})

source = pathlib.Path(sys.argv[1])
if sys.argv[3] == "import":
    describe_file(source, seconds=600.0)
else:
    asyncio.run(work(source))
"""
ENDLESS = """
import os, pathlib, subprocess, time

def begin(folder: str) -> str:
    child = subprocess.Popen(["sleep", "600"])
    part = pathlib.Path(folder, "part")
    part.write_text(f"{os.getpid()} {child.pid}")
    part.rename(pathlib.Path(folder, "pids"))
    time.sleep(600)
"""


@pytest.mark.parametrize("doing", ["import", "call"])
def test_when_we_are_ended_the_process_of_the_tools_and_what_it_started_end_too(doing: str, tmp_path: Path) -> None:
    source, pids = tmp_path / "tools.py", tmp_path / "pids"
    source.write_text(ENDLESS + (f"begin({str(tmp_path)!r})\n" if doing == "import" else ""), encoding="utf-8")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(source), str(tmp_path), doing])
    while not pids.exists():
        assert parent.poll() is None
        time.sleep(0.02)
    parent.terminate()
    parent.wait()
    for pid in map(int, pids.read_text("utf-8").split()):
        assert_dies(pid)


def assert_dies(pid: int) -> None:
    for _ in range(200):
        if not is_alive(pid):
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail(f"process {pid} is left behind")


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


@pytest.mark.parametrize(("name", "text"), [("half_boom", "error: ValueError: ? bad"), ("half", "? good")])
async def test_half_a_character_in_a_result_or_an_error_is_replaced(name: str, text: str, source: Path) -> None:
    assert (await call(source, name)).text == text


def test_half_a_character_in_a_description_or_a_fault_is_replaced(tmp_path: Path) -> None:
    (tool,) = described('def f() -> int:\n    "\\udc80 it"\n', tmp_path).tools
    assert tool.description == "? it"
    (fault,) = described('raise ValueError("\\udc80 bad")\n', tmp_path).faults
    assert fault.what == "the file cannot be imported: ValueError: ? bad."


async def test_files_up_to_the_limit_can_be_written(source: Path) -> None:
    assert (await call(source, "fill", size=50_000_000)).text == "50000000"


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
        ("fill", {"size": 50_000_001}, "error: OSError: [Errno 27] File too large"),
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
    assert_dies(grandchild)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie, where nobody reaps orphans, is as dead.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text("utf-8").rpartition(")")[2].split()[0] != "Z"


async def test_a_long_result_is_told_whole_and_kept_short_in_its_step(source: Path) -> None:
    said = "x" * 19_000
    echo = Tool("echo", "", '{"type": "object", "properties": {"text": {"type": "string"}}}')
    meter = Meter(ScriptedChat("m", {}))
    async with ToolProcess(source, 20.0) as tools:
        assert await Toolset([echo], tools, 1).result(Call("echo", {"text": said}), meter) == said
    (step,) = meter.steps
    assert step.output == "x" * 1_999 + "…"


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
