"""Tools of a scenario: loaded whole, or every problem told at its file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from advisor.scenario.document import read_document
from advisor.scenario.findings import Findings
from advisor.scenario.toolbox import load_toolbox
from evals.task import Toolbox


def loaded(folder: Path, name: str, text: str | bytes | None) -> tuple[Toolbox | None, Findings]:
    (folder / "scenario.yaml").write_text(f"name: x\ntools: {name}\n", encoding="utf-8")
    if text is not None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    findings = Findings(read_document(folder / "scenario.yaml"), folder)
    return load_toolbox(name, findings), findings


FUNCTION = 'def add(a: int, b: int = 1) -> int:\n    """Add."""\n    return a + b\n'


def test_functions_become_tools_that_are_run(tmp_path: Path) -> None:
    toolbox, findings = loaded(tmp_path, "tools.py", FUNCTION)
    assert toolbox is not None
    assert toolbox.source == tmp_path / "tools.py"
    assert [(tool.name, tool.description) for tool in toolbox.tools] == [("add", "Add.")]
    assert findings.problems == []
    assert findings.warnings == ["the tools in tools.py are code of the scenario: they run on this machine."]
    assert findings.files == [tmp_path / "tools.py"]


def test_a_function_without_a_docstring_is_worth_a_word(tmp_path: Path) -> None:
    toolbox, findings = loaded(tmp_path, "tools.py", f"{FUNCTION}\n\ndef noon() -> str:\n    return '12'\n")
    assert toolbox is not None
    assert findings.warnings[1] == "tools.py:6: noon has no docstring; models know it by its name alone."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "def f(x, y: int):\n    ...\n",
            "tools.py:1: f: no type hint for x. Write def f(x: str, ...), or rename it to _f if it is no tool.",
        ),
        (f"{FUNCTION}\nraise OSError('disk')\n", "tools.py:5: the file cannot be imported: OSError: disk."),
        (f"def {'x' * 65}() -> int:\n    ...\n", "tools.py:1: xxx"),
        (b"\xff\xfe\x00", "tools.py:1: the file cannot be imported: SyntaxError"),
    ],
)
def test_a_file_of_functions_that_is_wrong_is_a_problem_at_its_line(
    text: str | bytes, said: str, tmp_path: Path
) -> None:
    toolbox, findings = loaded(tmp_path, "tools.py", text)
    assert toolbox is None
    (problem,) = findings.problems
    assert str(problem).startswith(said)


def test_declarations_become_tools_that_are_not_run(tmp_path: Path) -> None:
    rows = [
        {"name": "math.add", "description": "Add.", "parameters": {"properties": {"b": {}, "a": {}}}},
        {"name": "f"},
    ]
    toolbox, findings = loaded(tmp_path, "tools.jsonl", "\n".join(map(json.dumps, rows)))
    assert toolbox is not None
    assert (toolbox.source, findings.problems, findings.warnings) == (None, [], [])
    assert [tool.name for tool in toolbox.tools] == ["math.add", "f"]
    assert list(json.loads(toolbox.tools[0].parameters)["properties"]) == ["b", "a"], "in the order they are written"


def test_every_wrong_declaration_is_a_problem_at_its_line(tmp_path: Path) -> None:
    rows = ['{"name": "f"}', '{"name": "f"}', '{"name": "g h"}', "{", '{"name": "k", "parameters": {"type": 3}}']
    toolbox, findings = loaded(tmp_path, "tools.jsonl", "\n".join(rows))
    assert toolbox is None
    assert sorted(problem.where for problem in findings.problems) == [f"tools.jsonl:{line}" for line in (2, 3, 4, 5)]
    assert any("a second tool is called f." in problem.what for problem in findings.problems)


@pytest.mark.parametrize("text", ["", "3\n", '{"name": "f"}\n[1]\n'])
def test_what_to_do_about_a_file_of_tools_is_about_tools(text: str, tmp_path: Path) -> None:
    toolbox, findings = loaded(tmp_path, "tools.jsonl", text)
    assert toolbox is None
    (problem,) = findings.problems
    assert problem.remedy == 'Write one tool a line: {"name": ..., "description": ..., "parameters": {...}}.'


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/a.json", "file:///etc/hostname", "#/$defs/none", "b.json"])
def test_a_reference_that_leads_out_of_a_tool_or_nowhere_is_a_problem_at_its_line(
    reference: str, tmp_path: Path
) -> None:
    row = {"name": "f", "parameters": {"properties": {"a": {"items": {"$ref": reference}}}}}
    toolbox, findings = loaded(tmp_path, "tools.jsonl", f'{{"name": "g"}}\n{json.dumps(row)}\n')
    assert toolbox is None
    (problem,) = findings.problems
    assert problem.where == "tools.jsonl:2"
    assert f"the parameters of f: the reference '{reference}' leads" in problem.what


@pytest.mark.parametrize("begins", ["def", "async def"])
def test_a_function_that_yields_is_a_problem_at_its_line(begins: str, tmp_path: Path) -> None:
    toolbox, findings = loaded(tmp_path, "tools.py", f"{FUNCTION}\n\n{begins} each(n: int):\n    yield n\n")
    assert toolbox is None
    (problem,) = findings.problems
    assert problem.where == "tools.py:6"
    assert "each: it yields values one by one" in problem.what


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tools.txt", "x", "tools.txt is neither a .py nor a .jsonl file."),
        ("tools.py", None, "tools.py does not exist."),
        ("tools.jsonl", "", "the file holds no rows."),
    ],
)
def test_a_file_that_holds_no_tools_is_a_problem(name: str, text: str | None, said: str, tmp_path: Path) -> None:
    toolbox, findings = loaded(tmp_path, name, text)
    assert toolbox is None
    assert said in findings.problems[0].what
