"""Reads the documents that may be retrieved: a folder of .md, .txt and .pdf files, or rows of a .jsonl file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from backends.errors import InputError, Problem
from backends.extras import require
from evals.data import Row, as_text, capped
from evals.files import read_table
from evals.task import Document

ROWS_FILE = "documents.jsonl"
FILE_TYPES = (".md", ".pdf", ".txt")
MOST_BYTES = 50_000_000
"""Of one file; a book of a thousand pages has about two million."""

_ROW = 'Write one document a line: {"id": ..., "title": ..., "text": ...}.'

Place = Callable[[Path], str]
"""How problems name a file."""


def document_files(path: Path) -> list[Path]:
    """The files that `read_documents` reads, in a fixed order; empty when there are none. Hidden files are none."""
    if not path.is_dir():
        return [path] if path.suffix.lower() == ".jsonl" else []
    found = [
        file
        for file in path.rglob("*")
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
        and (file.suffix.lower() in FILE_TYPES or file.relative_to(path).as_posix() == ROWS_FILE)
        and file.is_file()
    ]
    return sorted(found, key=lambda file: file.relative_to(path).as_posix())


def read_documents(path: Path, place: Place | None = None) -> tuple[tuple[Document, ...], list[Problem]]:
    """All documents of a folder or a .jsonl file, and everything that is wrong with the others.

    A file's id is its path from the folder; rows of a .jsonl file name theirs. Nothing is raised for bad content.
    """
    name = place or (lambda file: file.name)
    documents: list[tuple[Document, str]] = []
    problems: list[Problem] = []
    for file in document_files(path):
        where = name(file)
        try:
            _check_size(file, where)
            if file.suffix.lower() == ".jsonl":
                found, wrong = _rows(file, where)
                documents += found
                problems += wrong
            else:
                documents.append((_document(file, file.relative_to(path).as_posix(), where), where))
        except InputError as error:
            problems += error.problems
    return tuple(document for document, _ in documents), problems + _repeated(documents)


def _check_size(file: Path, where: str) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise _error(where, f"cannot be read: {error.strerror}.", "Check the file and its permissions.") from error
    if size > MOST_BYTES:
        what = f"the document has {size / 1e6:.0f} MB, and the limit is {MOST_BYTES / 1e6:.0f} MB a file."
        raise _error(where, what, "Split it into several files, or leave out what nobody asks about.")


def _error(where: str, what: str, remedy: str) -> InputError:
    return InputError(Problem(where, what, remedy))


def _document(file: Path, id_: str, where: str) -> Document:
    kind = file.suffix.lower()
    text = _pdf(file, where) if kind == ".pdf" else _plain(file, where)
    if not text.strip():
        raise _error(where, "the document is empty.", "Add text to it, or remove it.")
    return Document(id_, text, file.stem, "markdown" if kind == ".md" else "text")


def _pdf(file: Path, where: str) -> str:
    leaf: Any = require("evals.pdf", "rag")
    try:
        text: str = leaf.pdf_text(file)
    except leaf.UnreadablePdf as error:
        raise _error(where, f"{error}.", error.remedy) from error
    return text


def _plain(file: Path, where: str) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _error(where, f"cannot be read: {error.strerror}.", "Check the file and its permissions.") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _error(where, "the document is UTF-16, not UTF-8.", "Save it as UTF-8.")
    if b"\0" in content:
        raise _error(where, "the document is binary, not text.", "Convert it to text, or remove it.")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{content[error.start]:02x} is not UTF-8."
        raise _error(f"{where}:{line}", what, "Save the file as UTF-8.") from error


def _rows(file: Path, where: str) -> tuple[list[tuple[Document, str]], list[Problem]]:
    """Documents of a .jsonl file, each with the line it comes from."""
    table = read_table(file, where)
    documents: list[tuple[Document, str]] = []
    problems = [_of_documents(problem) for problem in table.problems]
    wrong: list[Problem] = []
    for row in table.rows:
        at = f"{where}:{row.line}"
        fault = _fault(row)
        if fault:
            wrong.append(Problem(at, fault, _ROW))
            continue
        fields = {name: as_text(row.fields.get(name)) or "" for name in ("id", "title", "text")}
        documents.append((Document(fields["id"].strip(), fields["text"], fields["title"].strip()), at))
    return documents, problems + capped(wrong)


def _of_documents(problem: Problem) -> Problem:
    """Tables are read as if of samples; what is said to do about them must be about documents."""
    is_of_samples = "samples" in problem.remedy or '"input"' in problem.remedy
    return dataclasses.replace(problem, remedy=_ROW) if is_of_samples else problem


def _fault(row: Row) -> str | None:
    """What keeps a row from being a document."""
    for name in ("id", "text"):
        if name not in row.fields:
            return f"the document has no field {name!r}."
        if not (as_text(row.fields[name]) or "").strip():
            return f"the {name} of the document is empty."
    for name in ("text", "title"):
        value = row.fields.get(name)
        if value is not None and not isinstance(value, str):
            return f"the {name} of the document is {value!r}, not text."
    return None


def _repeated(documents: Iterable[tuple[Document, str]]) -> list[Problem]:
    """Ids that occur twice: an answer could not say which of them it rests on."""
    first: dict[str, str] = {}
    problems = []
    for document, place in documents:
        if document.id in first:
            what = f"the document id {document.id!r} is already that of {first[document.id]}."
            problems.append(Problem(place, what, "Give every document an id of its own."))
        first.setdefault(document.id, place)
    return capped(problems)
