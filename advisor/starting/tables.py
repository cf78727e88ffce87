"""A draft from a table: CSV, TSV, JSONL, JSON or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advisor.starting.columns import SPLIT_NAMES, Roles, Wishes, choose, composed
from advisor.starting.draft import Draft, Example, Guess, Measure, refuse
from backends.errors import InputError, Problem
from backends.wording import counted
from evals.data import Row, Table, as_text
from evals.files import read_table
from evals.task import Split

SPLITS: Mapping[str, Split] = {"train": "train", "dev": "dev", "test": "test"}


def read_rows(path: Path) -> Sequence[Row]:
    """The rows of a file. Raises InputError with the first thing that is wrong with it, and how often it is."""
    table = _tsv(path) if path.suffix.lower() == ".tsv" else read_table(path)
    if table.problems:
        first = table.problems[0]
        more = f" ({len(table.problems)} such lines or more)" if len(table.problems) > 1 else ""
        raise InputError(Problem(first.where, f"{first.what}{more}", first.remedy))
    if not table.rows:
        raise refuse(path.name, "the file holds no rows.", "Give a file with one row per example.")
    return table.rows


def _tsv(path: Path) -> Table:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        what = f"byte 0x{error.object[error.start]:02x} is not UTF-8."
        raise refuse(f"{path.name}:{line}", what, "Save the file as UTF-8.") from None
    except OSError as error:
        raise refuse(path.name, f"cannot be read: {error.strerror}.", "Check the name and its permissions.") from None
    reader = csv.DictReader(lines, delimiter="\t")
    rows: list[Row] = []
    start = 2
    for record in reader:
        if None in record or None in record.values():
            what = f"the row has not as many fields as the header ({len(reader.fieldnames or ())})."
            raise refuse(f"{path.name}:{start}", what, "Put fields that hold tabs or line breaks in quotes.")
        rows.append(Row(start, record))
        start = reader.line_num + 1
    return Table(path.name, tuple(rows))


def from_rows(parts: Mapping[Path, Sequence[Row]], kind: str, wishes: Wishes) -> Draft:
    """A draft from the rows of one file, or of several that are named after the splits."""
    where = ", ".join(path.name for path in parts)
    rows = [row for part in parts.values() for row in part]
    roles, guesses = choose(rows, where, wishes)
    many = _many_answers(rows, roles.target)
    examples: list[Example] = []
    left_out: list[str] = []
    for path, part in parts.items():
        for row in part:
            place = f"{path.name}:{row.line}"
            example = _example(row, roles, place, _split_of(row, roles, path if len(parts) > 1 else None), many)
            examples.extend([example] if example else [])
            left_out.extend([] if example else [place])
    if not examples:
        raise refuse(
            where, "no row has both an input and a target.", "Name the columns: --input-column, --target-column."
        )
    lost = [f"{counted(len(left_out), 'row')} without input or target, the first at {left_out[0]}."] if left_out else []
    measure = None
    if many:
        measure = Measure({"name": "token_f1", "references": roles.target})
        why = "every row lists several right answers; the nearest one counts"
        guesses.append(Guess("scorer", "token_f1", why, "Must the answer be exact? Then write exact in its place."))
    return Draft(kind, tuple(examples), measure=measure, guesses=tuple(guesses), lost=tuple(lost))


def _split_of(row: Row, roles: Roles, file: Path | None) -> Split | None:
    if roles.split is not None:
        return SPLITS[SPLIT_NAMES[str(row.fields[roles.split]).strip().lower()]]
    return None if file is None else SPLITS[SPLIT_NAMES[file.stem.lower()]]


def _many_answers(rows: Sequence[Row], target: str) -> bool:
    """Whether the target is a list of alternative texts in every row, and of more than one in some."""
    values = [row.fields.get(target) for row in rows]
    lists = all(isinstance(value, list) and value and all(isinstance(one, str) for one in value) for value in values)
    return lists and any(len(value) > 1 for value in values if isinstance(value, list))


def _example(row: Row, roles: Roles, place: str, split: Split | None, many: bool) -> Example | None:
    asked = composed(row.fields, roles.input)
    said = row.fields.get(roles.target)
    target = (as_text(said[0] if many and isinstance(said, list) else said) or "").strip()
    if not asked.strip() or not target:
        return None
    kept = roles.used - {roles.target} if many else roles.used
    own = {name: value for name, value in row.fields.items() if name not in kept and name not in ("input", "target")}
    identity = (as_text(row.fields.get(roles.id)) or "").strip() if roles.id else ""
    group = (as_text(row.fields.get(roles.group)) or "").strip() if roles.group else ""
    return Example(asked, target, place, identity or None, group or None, split, _plain(own))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields without those of our own names, which would play another part."""
    return {name: value for name, value in fields.items() if name not in ("id", "group") and value is not None}


def rows_of_json(path: Path, content: Any) -> Sequence[Row]:
    """The rows of a JSON array of objects. Raises InputError when it is none."""
    if not isinstance(content, list) or not content or not all(isinstance(one, dict) for one in content):
        what = "this is no JSON array of objects, no OpenAI Evals export and no promptfoo configuration."
        raise refuse(path.name, what, "Give CSV, TSV, JSONL, Parquet, or one of these.")
    return [Row(number, one) for number, one in enumerate(content, start=1)]


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises InputError."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise refuse(path.name, "the text is not UTF-8.", "Save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise refuse(f"{path.name}:{error.lineno}", f"broken JSON: {error.msg}.", "Correct the file.") from None
    except (OSError, RecursionError) as error:
        raise refuse(path.name, f"cannot be read: {error}.", "Check the file.") from None
