"""Reading files: every row keeps its place, and everything that is wrong is told with file and line."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.data import PROBLEMS_PER_FILE, Columns, Row, Table, as_text, to_samples
from evals.files import read_table
from evals.hub import HubReference, parse_reference, read_hub

GOOD = '{"input": "a", "target": "b"}'


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(table: Table) -> list[int]:
    return [row.line for row in table.rows]


def test_jsonl_rows_keep_their_lines_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "x.jsonl", f"{GOOD}\n\n{GOOD}\r\n   \n{GOOD}"))
    assert lines(table) == [1, 3, 5]
    assert table.rows[1].fields == {"input": "a", "target": "b"}
    assert table.problems == ()


def test_broken_json_on_line_57_is_named_by_its_line(tmp_path: Path) -> None:
    rows = [GOOD] * 60
    rows[56] = '{"input": "a", "target": }'
    table = read_table(write(tmp_path, "train.jsonl", "\n".join(rows)))
    (problem,) = table.problems
    assert problem.where == "train.jsonl:57"
    assert "broken JSON" in problem.what
    assert "column 26" in problem.what
    assert "JSON object" in problem.remedy
    assert len(table.rows) == 59


def test_every_broken_line_is_told_up_to_a_limit(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "x.jsonl", "{\n" * (PROBLEMS_PER_FILE + 5)))
    assert [problem.where for problem in table.problems[:-1]] == [f"x.jsonl:{n + 1}" for n in range(PROBLEMS_PER_FILE)]
    assert table.problems[-1].where == f"x.jsonl:{PROBLEMS_PER_FILE + 1}"
    assert "5 more problems" in table.problems[-1].what


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("x.jsonl", "", "x.jsonl", "no rows"),
        ("x.jsonl", "\n \n", "x.jsonl", "no rows"),
        ("x.jsonl", "[1]", "x.jsonl:1", "JSON array, not an object"),
        ("x.jsonl", "null", "x.jsonl:1", "JSON null, not an object"),
        ("x.jsonl", "3", "x.jsonl:1", "JSON number, not an object"),
        ("x.jsonl", '{"input": NaN}', "x.jsonl:1", "NaN is not a JSON value"),
        ("x.jsonl", r'{"input": "\ud800"}', "x.jsonl:1", "half a character"),
        ("x.jsonl", "[" * 100_000, "x.jsonl:1", "nested too deeply"),
        ("x.jsonl", b'{"input": "a"}\n{"input": "\xe9"}', "x.jsonl:2", "byte 0xe9 at position 12"),
        ("x.jsonl", GOOD.encode("utf-16"), "x.jsonl", "UTF-16"),
        ("x.csv", "", "x.csv", "no rows"),
        ("x.csv", "input,target\n", "x.csv", "no rows"),
        ("x.csv", "input,target\na,b\na\n", "x.csv:3", "1 fields, but the header has 2"),
        ("x.csv", "input,target\na,b,c\n", "x.csv:2", "3 fields, but the header has 2"),
        ("x.csv", "input,input\na,b\n", "x.csv:1", "'input' more than once"),
        ("x.csv", "input,\na,b\n", "x.csv:1", "empty name"),
        ("x.csv", 'input,target\na,b\n"a,b\nc,d\n', "x.csv:3", "broken CSV"),
        ("x.csv", b"input,target\na,b\n\xff\xff,b\n", "x.csv:3", "not UTF-8"),
        ("x.csv", "input,target\na,b\n".encode("utf-16"), "x.csv", "UTF-16"),
        ("x.txt", "a", "x.txt", "cannot read files of type '.txt'"),
        ("x.parquet", "a", "x.parquet", "no readable Parquet"),
    ],
)
def test_what_cannot_be_read_is_a_problem_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, where: str, what: str
) -> None:
    table = read_table(write(tmp_path, name, content))
    assert [problem.where for problem in table.problems] == [where]
    assert what in table.problems[0].what
    assert table.problems[0].remedy


def test_a_missing_file_and_a_folder_are_problems(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    assert "no such file" in read_table(tmp_path / "x.csv").problems[0].what
    assert "folder" in read_table(tmp_path / "d.csv").problems[0].what


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("input,target\na,b\n", [(2, {"input": "a", "target": "b"})]),
        ("\ufeffinput,target\r\na,b\r\n", [(2, {"input": "a", "target": "b"})]),
        ("input;target\na,x;b\n", [(2, {"input": "a,x", "target": "b"})]),
        ("input\ttarget\na\tb\n", [(2, {"input": "a", "target": "b"})]),
        ('input,target\n"two\nlines",b\n\n"say ""hi""",d\n', [(2, "two\nlines"), (5, 'say "hi"')]),
    ],
)
def test_csv_as_spreadsheets_write_it(tmp_path: Path, content: str, expected: list[tuple[int, Any]]) -> None:
    table = read_table(write(tmp_path, "x.csv", content))
    assert table.problems == ()
    assert lines(table) == [line for line, _ in expected]
    for row, (_, fields) in zip(table.rows, expected, strict=True):
        assert row.fields == fields if isinstance(fields, dict) else row.fields["input"] == fields


def test_a_csv_field_may_be_longer_than_the_csv_modules_default_limit(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "x.csv", f"input,target\n{'a' * 200_000},b\n"))
    assert len(table.rows[0].fields["input"]) == 200_000


def test_parquet_rows_are_numbered_and_typed(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"input": ["a", "b"], "target": [1, None]}), tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    assert table.rows == (Row(1, {"input": "a", "target": 1}), Row(2, {"input": "b", "target": None}))
    assert read_table(write(tmp_path, "y.parquet", "x")).problems


def test_parquet_values_become_plain(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = {
        "a": [datetime(2026, 11, 23)],
        "b": [Decimal("1.50")],
        "c": [b"\x01\xff"],
        "d": [float("nan")],
        "e": [[1]],
    }
    parquet.write_table(arrow.table(values), tmp_path / "x.parquet")
    (row,) = read_table(tmp_path / "x.parquet").rows
    assert row.fields == {"a": "2026-11-23T00:00:00", "b": "1.50", "c": "01ff", "d": None, "e": [1]}


def test_parquet_without_pyarrow_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (problem,) = read_table(write(tmp_path, "x.parquet", "x")).problems
    assert problem.where == "x.parquet"
    assert "pip install 'cheapest-llm-advisor[parquet]'" in problem.remedy


def table(*rows: dict[str, Any]) -> Table:
    return Table("x.jsonl", tuple(Row(number, row) for number, row in enumerate(rows, start=1)))


def test_columns_are_mapped_and_the_rest_is_metadata() -> None:
    named = Columns({"input": "text", "target": "label", "group": "doc"})
    rows = table({"id": 7, "text": "a", "label": True, "doc": 3, "input": "kept", "more": [1]})
    ((placed,), problems) = to_samples(rows, named, "train")
    assert problems == []
    assert placed.place == "x.jsonl:1"
    sample = placed.sample
    assert (sample.id, sample.input, sample.target, sample.group) == ("7", "a", "true", "3")
    assert sample.metadata == {"input": "kept", "more": [1]}


def test_rows_without_an_id_get_one_from_split_and_line() -> None:
    placed, _ = to_samples(
        table({"input": "a", "target": "b"}, {"id": " ", "input": "c", "target": "d"}), Columns(), "dev"
    )
    assert [one.sample.id for one in placed] == ["dev-1", "dev-2"]
    assert placed[0].sample.group is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (3, "3"),
        (0.5, "0.5"),
        (False, "false"),
        ([], "[]"),
        ({"b": 1, "a": ["é"]}, '{"a": ["é"], "b": 1}'),
        (None, None),
    ],
)
def test_values_become_text_as_json_writes_them(value: Any, text: str | None) -> None:
    assert as_text(value) == text


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_text_of_a_value_reads_back_as_the_value(value: Any) -> None:
    text = as_text(value)
    assert text == value if value is None or isinstance(value, str) else json.loads(text or "") == value


@pytest.mark.parametrize("row", [{"input": "a"}, {"input": "a", "target": None}, {"input": "a", "target": " "}])
def test_an_empty_target_is_a_problem_of_its_row(row: dict[str, Any]) -> None:
    placed, (problem,) = to_samples(table({"input": "x", "target": "y"}, row), Columns(), "test")
    assert len(placed) == 1
    assert problem.where == "x.jsonl:2"
    assert "the target is missing or empty" in problem.what


def test_a_column_that_no_row_has_is_told_once_with_the_nearest_name() -> None:
    placed, problems = to_samples(table(*[{"text": "a", "targt": "b"}] * 50), Columns(), "test")
    assert placed == []
    assert [problem.where for problem in problems] == ["x.jsonl", "x.jsonl"]
    assert "no row has a field 'input'" in problems[0].what
    assert "'text', 'targt'" in problems[0].what
    assert "columns: {target: targt}" in problems[1].remedy


@pytest.mark.parametrize(("named", "field"), [({}, "text"), ({}, "input"), ({"input": "targets"}, "targets")])
def test_a_field_that_is_another_ones_is_not_offered(named: dict[str, str], field: str) -> None:
    _, problems = to_samples(table({field: "a", "other": "b"}), Columns(named), "test")
    assert "columns: {target: NAME}" in problems[-1].remedy


def test_an_id_column_that_was_named_must_be_there() -> None:
    _, (problem,) = to_samples(table({"input": "a", "target": "b"}), Columns({"id": "key"}), "test")
    assert "no row has a field 'key' for the id" in problem.what


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:squad@main", HubReference("squad", None, "main")),
        ("hf:owner/name@1a2b", HubReference("owner/name", None, "1a2b")),
        ("hf:owner/name/config@v1", HubReference("owner/name", "config", "v1")),
        ("hf:owner/name", None),
        ("hf:@main", None),
        ("hf:a/b/c/d@main", None),
    ],
)
def test_hub_references_name_a_revision(text: str, expected: HubReference | None) -> None:
    assert parse_reference(text) == expected


def fake_datasets(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    module = ModuleType("datasets")
    vars(module)["load_dataset"] = load
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_hub_rows_have_class_names_for_class_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Data(list[dict[str, Any]]):
        features: ClassVar = {"text": SimpleNamespace(), "label": SimpleNamespace(names=["no", "yes"])}

    def load(*args: Any, **options: Any) -> Data:
        asked.append((args, options))
        return Data([{"text": "a", "label": 1}, {"text": "b", "label": -1}])

    fake_datasets(monkeypatch, load)
    found = read_hub("hf:owner/name/config@v1", "dev")
    assert found.rows == (Row(1, {"text": "a", "label": "yes"}), Row(2, {"text": "b", "label": None}))
    assert asked == [(("owner/name", "config"), {"split": "validation", "revision": "v1"})]


def test_hub_problems_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **options: Any) -> Any:
        raise ValueError("Unknown split\n'validation'")

    fake_datasets(monkeypatch, load)
    (failed,) = read_hub("hf:a/b@main", "dev").problems
    assert "Unknown split 'validation'" in failed.what
    monkeypatch.setitem(sys.modules, "datasets", None)
    (missing,) = read_hub("hf:a/b@main", "dev").problems
    assert "pip install datasets" in missing.remedy
    (unpinned,) = read_hub("hf:a/b", "dev").problems
    assert "@" in unpinned.remedy
