"""Reads .jsonl, .csv and .parquet files into tables."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.errors import Problem
from evals.data import Row, Table, capped, plain_fields

_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_table(path: Path, where: str | None = None) -> Table:
    """The rows of a file. What is wrong with it is in the table's problems; nothing is raised for it.

    `where` is what problems call the file; without it, its name.
    """
    where = where or path.name
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        return _failed(where, f"cannot read files of type {path.suffix!r}.", "Use .jsonl, .csv or .parquet.")
    if not path.is_file():
        return _failed(where, *_not_a_file(path))
    try:
        table = reader(path, where)
    except OSError as problem:
        return _failed(where, f"cannot be read: {problem.strerror}.", "Check the file and its permissions.")
    if not table.rows and not table.problems:
        return _failed(where, "the file holds no rows.", "Add samples to it.")
    return Table(where, table.rows, tuple(capped(table.problems)))


def _failed(where: str, what: str, remedy: str) -> Table:
    return Table(where, (), (Problem(where, what, remedy),))


def _not_a_file(path: Path) -> tuple[str, str]:
    if path.is_dir():
        return "this is a folder, not a file.", "Name the file in it."
    return f"there is no such file ({path}).", "Check the name; paths are relative to the scenario's folder."


def _lines(content: bytes, where: str, problems: list[Problem]) -> Iterator[tuple[int, str]]:
    """Decoded lines with their numbers; a line that is not UTF-8 is a problem and an empty line."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as problem:
            byte = line[problem.start]
            what = f"byte 0x{byte:02x} at position {problem.start + 1} of the line is not UTF-8."
            problems.append(Problem(f"{where}:{number}", what, "Save the file as UTF-8."))
            text = ""
        yield number, text.removesuffix("\r")


def _wrong_encoding(content: bytes, where: str) -> Table | None:
    name = _BOMS.get(content[:2])
    return _failed(where, f"the file is {name}, not UTF-8.", "Save it as UTF-8.") if name else None


def _read_jsonl(path: Path, where: str) -> Table:
    content = path.read_bytes()
    if refused := _wrong_encoding(content, where):
        return refused
    rows: list[Row] = []
    problems: list[Problem] = []
    for number, line in _lines(content, where, problems):
        if not line.strip():
            continue
        try:
            value = _json_line(line)
        except (ValueError, RecursionError) as problem:
            what = f"broken JSON: {_json_fault(problem)}."
            problems.append(Problem(f"{where}:{number}", what, "Each line must be one complete JSON object."))
            continue
        if isinstance(value, dict):
            rows.append(Row(number, value))
        else:
            what = f"the line is a JSON {_json_type(value)}, not an object."
            problems.append(Problem(f"{where}:{number}", what, 'Write {"input": ..., "target": ...}.'))
    return Table(where, tuple(rows), tuple(problems))


def _json_line(line: str) -> Any:
    value = json.loads(line, parse_constant=_refuse_constant)
    if "\\ud" in line.lower():
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could be neither stored nor sent
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _json_fault(problem: Exception) -> str:
    if isinstance(problem, UnicodeEncodeError):
        return "an escape \\ud8.. to \\udf.. is only half a character"
    if isinstance(problem, json.JSONDecodeError):
        return f"{problem.msg} at column {problem.colno}"
    return "nested too deeply" if isinstance(problem, RecursionError) else str(problem)


def _json_type(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _read_csv(path: Path, where: str) -> Table:
    content = path.read_bytes()
    if refused := _wrong_encoding(content, where):
        return refused
    problems: list[Problem] = []
    lines = [line + "\n" for _, line in _lines(content, where, problems)]
    if problems:
        return Table(where, (), tuple(problems))
    csv.field_size_limit(sys.maxsize)  # the default, 128 KiB, is shorter than a long document
    records = _records(lines, where, problems)
    header = next(records, None)
    if header is None:
        return Table(where, (), tuple(problems))
    line, names = header
    problems.extend(_header_problems(names, f"{where}:{line}"))
    rows: list[Row] = []
    for line, values in records:
        if len(values) == len(names):
            rows.append(Row(line, dict(zip(names, values, strict=True))))
        else:
            what = f"the row has {len(values)} fields, but the header has {len(names)}."
            problems.append(Problem(f"{where}:{line}", what, "Put fields that hold commas or line breaks in quotes."))
    return Table(where, tuple(rows), tuple(problems))


def _records(lines: list[str], where: str, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """Non-empty records with the line they start on; ends at the first one whose quotes do not close."""
    reader = csv.reader(lines, delimiter=_delimiter(lines), strict=True)
    start = 1
    try:
        for record in reader:
            if any(value.strip() for value in record):
                yield start, record
            start = reader.line_num + 1
    except csv.Error as problem:
        what = f"broken CSV: {problem}."
        problems.append(Problem(f"{where}:{start}", what, "Check the quotes of the record that starts here."))


def _delimiter(lines: list[str]) -> str:
    """Comma, unless the header has none and is cut by semicolons or tabs, as spreadsheets of some countries do."""
    header = next((line for line in lines if line.strip()), "")
    return next((mark for mark in ";\t" if mark in header and "," not in header), ",")


def _header_problems(names: list[str], place: str) -> Iterator[Problem]:
    if any(not name.strip() for name in names):
        yield Problem(place, f"the header has an empty name: {names!r}.", "Name every column.")
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(place, f"the header has {name!r} more than once.", "Give every column its own name.")


def _read_parquet(path: Path, where: str) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        install = "Run: pip install 'cheapest-llm-advisor[parquet]'."
        return _failed(where, "reading Parquet needs the package pyarrow, which is not installed.", install)
    try:
        values: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (ArrowException, ValueError) as problem:
        return _failed(where, f"this is no readable Parquet file: {problem}.", "Write it again.")
    return Table(where, tuple(Row(number, plain_fields(value)) for number, value in enumerate(values, start=1)))
