"""Reading documents: what is understood, and one clear problem for everything that is not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from advisor.scenario.document import read_document
from advisor.scenario.documents import check_gold_documents, load_documents
from advisor.scenario.findings import Findings
from evals import documents as module
from evals.data import Placed
from evals.documents import document_files, read_documents
from evals.task import Document, Sample


def pdf(*pages: str, password: str = "") -> bytes:
    """A PDF with a line of text on every page; an empty line leaves the page empty."""
    writer = pypdf.PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for line in pages:
        page = writer.add_blank_page(300, 300)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F"): font})}
        )
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F 12 Tf 20 200 Td ({line}) Tj ET".encode() if line else b"")
        page[NameObject("/Contents")] = writer._add_object(stream)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def rows(folder: Path, *lines: object, name: str = "documents.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def test_a_folder_is_read_by_kinds_with_paths_as_ids(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.TXT").write_text("Plain.\r\nLines.", "utf-8")
    (tmp_path / "a.md").write_text("\ufeff# Head", "utf-8")
    (tmp_path / "c.pdf").write_bytes(pdf("First page", "Second page"))
    (tmp_path / ".hidden.md").write_text("no", "utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    rows(tmp_path, {"id": "row", "title": " T ", "text": "Row."}, {"id": 7, "text": "Number."})
    found, problems = read_documents(tmp_path)
    assert problems == []
    assert found == (
        Document("a.md", "# Head", "a", "markdown"),
        Document("c.pdf", "First page\n\nSecond page", "c"),
        Document("row", "Row.", "T"),
        Document("7", "Number."),
        Document("sub/b.TXT", "Plain.\nLines.", "b"),
    )
    assert [file.name for file in document_files(tmp_path)] == ["a.md", "c.pdf", "documents.jsonl", "b.TXT"]


def test_a_single_file_of_rows_is_enough(tmp_path: Path) -> None:
    path = rows(tmp_path, {"id": "a", "text": "A."}, name="other.jsonl")
    assert read_documents(path) == ((Document("a", "A."),), [])
    assert document_files(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    ("name", "content", "where", "said"),
    [
        ("empty.md", b" \n", "empty.md", "is empty"),
        ("binary.txt", b"text\0more", "binary.txt", "binary"),
        ("wide.txt", "text".encode("utf-16"), "wide.txt", "UTF-16"),
        ("latin.txt", b"one\ntwo \xe4", "latin.txt:2", "0xe4"),
        ("locked.pdf", pdf("secret", password="key"), "locked.pdf", "encrypted"),
        ("scan.pdf", pdf("", ""), "scan.pdf", "only images"),
        ("broken.pdf", b"%PDF-1.4 and then nothing", "broken.pdf", "damaged"),
        ("documents.jsonl", b'{"id": "a", "text": "A"}\n{"id": "b"}\n', "documents.jsonl:2", "no field 'text'"),
        ("documents.jsonl", b'{"id": "a", "text": " "}\n', "documents.jsonl:1", "the text of the document is empty"),
        ("documents.jsonl", b'{"text": "A"}\n', "documents.jsonl:1", "no field 'id'"),
        ("documents.jsonl", b'{"id": "a", "text": ["A"]}\n', "documents.jsonl:1", "not text"),
        ("documents.jsonl", b'{"id": "a", "title": 3, "text": "A"}\n', "documents.jsonl:1", "not text"),
        ("documents.jsonl", b'{"id": \n', "documents.jsonl:1", "broken JSON"),
    ],
)
def test_what_cannot_be_read_is_one_problem_with_a_remedy(
    name: str, content: bytes, where: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.md").write_text("Good.", "utf-8")
    found, (problem,) = read_documents(tmp_path)
    assert "good.md" in [document.id for document in found], "the others are still read"
    assert problem.where == where
    assert said in problem.what
    assert problem.remedy


@pytest.mark.parametrize("text", ["", "3\n", '{"id": "a", "text": "A"}\n"b"\n', '{"id": "a"}\n'])
def test_what_to_do_about_rows_is_about_documents(text: str, tmp_path: Path) -> None:
    (tmp_path / "documents.jsonl").write_text(text, "utf-8")
    _, (problem,) = read_documents(tmp_path)
    assert problem.remedy == 'Write one document a line: {"id": ..., "title": ..., "text": ...}.'


def test_a_password_that_is_empty_is_none(tmp_path: Path) -> None:
    writer = pypdf.PdfWriter(io.BytesIO(pdf("Open to all")))
    writer.encrypt("", owner_password="owner", algorithm="RC4-128")
    writer.write(tmp_path / "open.pdf")
    ((document,), problems) = read_documents(tmp_path)
    assert (document.text, problems) == ("Open to all", [])


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1_000_000)
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(3_000_000)
    _, (problem,) = read_documents(tmp_path)
    assert problem.what == "the document has 3 MB, and the limit is 1 MB a file."
    assert "Split it" in problem.remedy


def test_all_problems_are_told_at_once_and_ids_must_differ(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("A.", "utf-8")
    (tmp_path / "b.md").write_text("", "utf-8")
    rows(tmp_path, {"id": "a.md", "text": "again"}, {"id": "x"}, {"id": "x", "text": "X"}, {"id": "x", "text": "X"})
    _, problems = read_documents(tmp_path, lambda file: f"docs/{file.name}")
    assert [problem.where for problem in problems] == [
        "docs/b.md", "docs/documents.jsonl:2", "docs/documents.jsonl:1", "docs/documents.jsonl:4",
    ]  # fmt: skip
    assert "already that of docs/a.md" in problems[2].what


def findings(folder: Path) -> Findings:
    file = folder / "scenario.yaml"
    file.write_text("name: x\ndocuments: docs\n", "utf-8")
    return Findings(read_document(file), folder)


def test_documents_of_a_scenario_count_among_its_files(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("A.", "utf-8")
    (tmp_path / "docs" / "b.md").write_text("", "utf-8")
    at = findings(tmp_path)
    assert load_documents("docs", at) == (Document("a.md", "A.", "a", "markdown"),)
    assert at.files == [tmp_path / "docs" / "a.md", tmp_path / "docs" / "b.md"]
    assert [problem.where for problem in at.problems] == ["docs/b.md"]


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda folder: None, "does not exist"), (lambda folder: (folder / "docs").mkdir(), "holds no .md")],
)
def test_documents_that_are_not_there_are_a_problem(make: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    make(tmp_path)
    at = findings(tmp_path)
    assert load_documents("docs", at) == ()
    assert said in at.problems[0].what


def test_gold_documents_that_do_not_exist_are_warned_of(tmp_path: Path) -> None:
    at = findings(tmp_path)
    placed = [
        Placed(Sample(str(number), "q", "a", {"supporting_doc_ids": ["a", f"gone-{number}"]}), f"test.jsonl:{number}")
        for number in range(1, 6)
    ]
    check_gold_documents(placed, [Document("a", "A.")], at)
    (warning,) = at.warnings
    assert "'gone-1' (test.jsonl:1)" in warning
    assert "and 2 more" in warning
    check_gold_documents(placed, (), at)
    check_gold_documents(placed, [Document(name, "x") for name in ("a", *(f"gone-{n}" for n in range(6)))], at)
    assert len(at.warnings) == 1
