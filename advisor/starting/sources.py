"""Finds out what a source is and has it read: a table, a chat file, an Evals export, a promptfoo file, or a folder."""

from __future__ import annotations

from pathlib import Path

from advisor.starting.assertions import read_yaml
from advisor.starting.chat_file import from_chat, is_chat
from advisor.starting.columns import SPLIT_NAMES, Wishes
from advisor.starting.draft import Draft, refuse
from advisor.starting.openai_evals import is_evals, is_evals_folder, is_items, read_export
from advisor.starting.promptfoo import csv_tests, from_promptfoo, is_promptfoo
from advisor.starting.tables import from_rows, read_json, read_rows, rows_of_json
from evals.data import Row

_TABLES = {".csv": "a CSV file", ".tsv": "a TSV file", ".jsonl": "a JSONL file", ".parquet": "a Parquet file"}
_KINDS = "Give CSV, TSV, JSONL, JSON, Parquet, a promptfoo YAML, or an export of OpenAI Evals (a file or a folder)."


def read_source(path: Path, wishes: Wishes) -> Draft:
    """The draft of whatever lies there. Raises InputError with one problem and its remedy."""
    if not path.exists():
        raise refuse(str(path), "there is no such file.", "Check the name.")
    if path.is_dir():
        return _folder(path, wishes)
    if path.stat().st_size == 0:
        raise refuse(path.name, "the file is empty.", "Give a file with one row per example.")
    kind = path.suffix.lower()
    if kind in (".yaml", ".yml"):
        return _yaml(path)
    if kind == ".json":
        return _json(path, wishes)
    if kind in _TABLES:
        return _table(path, wishes)
    raise refuse(path.name, f"files of type {path.suffix!r} cannot be read.", _KINDS)


def _yaml(path: Path) -> Draft:
    content = read_yaml(path)
    if not is_promptfoo(content):
        what = "this is no promptfoo configuration: it has no tests."
        raise refuse(path.name, what, "If it is a scenario already, go on with: advisor check.")
    return from_promptfoo(content, path)


def _json(path: Path, wishes: Wishes) -> Draft:
    content = read_json(path)
    if is_evals(content):
        return read_export(path)
    if is_promptfoo(content):
        return from_promptfoo(content, path)
    return _rows(path, list(rows_of_json(path, content)), "a JSON file", wishes)


def _table(path: Path, wishes: Wishes) -> Draft:
    rows = list(read_rows(path))
    if path.suffix.lower() == ".csv" and any(name.startswith("__expected") for name in rows[0].fields):
        tests = list(csv_tests(path.read_text(encoding="utf-8-sig")))
        return from_promptfoo({"prompts": [], "tests": tests}, path)
    return _rows(path, rows, _TABLES[path.suffix.lower()], wishes)


def _rows(path: Path, rows: list[Row], kind: str, wishes: Wishes) -> Draft:
    if is_chat(rows):
        return from_chat(rows, path.name)
    if all("vars" in row.fields and "assert" in row.fields for row in rows):
        return from_promptfoo({"prompts": [], "tests": [dict(row.fields) for row in rows]}, path)
    if is_items(rows):
        rows = [Row(row.line, row.fields["item"]) for row in rows]
        kind = "a data file of OpenAI Evals"
    return from_rows({path: rows}, kind, wishes)


def _folder(path: Path, wishes: Wishes) -> Draft:
    """An export of Evals, a promptfoo project, or files named after the splits."""
    if is_evals_folder(path):
        return read_export(path)
    for name in ("promptfooconfig.yaml", "promptfooconfig.yml"):
        if (path / name).is_file():
            return _yaml(path / name)
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in _TABLES]
    named = [file for file in files if file.stem.lower() in SPLIT_NAMES]
    if not named:
        what = "the folder holds no export of OpenAI Evals, no promptfooconfig.yaml and no train or test file."
        raise refuse(str(path), what, "Name the file itself.")
    return from_rows({file: list(read_rows(file)) for file in named}, "a folder of splits", wishes)
