"""The documents of a scenario, read and checked, and whether its samples name documents that exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from advisor.scenario.findings import Findings
from advisor.scenario.paths import shown
from evals.data import Placed
from evals.documents import document_files, read_documents
from evals.task import Document

_NAMED = 3
"""How many missing documents a warning names."""


def load_documents(text: str, findings: Findings) -> tuple[Document, ...]:
    """All documents under `documents:`; every file counts as one of the scenario. Problems go to the findings."""
    path = findings.path(("documents",), text)
    if path is None:
        return ()
    files = document_files(path)
    if not files:
        what = f"documents: {text} holds no .md, .txt or .pdf file and no documents.jsonl."
        findings.problem(("documents",), what, "Name a folder with documents, or a .jsonl file.")
        return ()
    findings.files += files
    documents, problems = read_documents(path, lambda file: shown(file, findings.folder))
    findings.problems += problems
    return documents


def check_gold_documents(placed: Iterable[Placed], documents: Sequence[Document], findings: Findings) -> None:
    """Warn when samples name supporting documents that are not among the scenario's."""
    known = {document.id for document in documents}
    missing = {
        name: one.place for one in placed for name in one.sample.gold_documents if documents and name not in known
    }
    if not missing:
        return
    named = ", ".join(f"{name!r} ({place})" for name, place in list(missing.items())[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    findings.warnings.append(
        f"supporting_doc_ids name documents that do not exist: {named}{more}; "
        "no retrieval can find them, so its recall will look worse than it is."
    )
