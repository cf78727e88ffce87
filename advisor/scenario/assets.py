"""The files of a scenario beside its samples: output schema, documents, tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advisor.scenario.findings import Findings
from advisor.scenario.paths import shown
from backends.errors import Problem
from evals.data import Placed

DOCUMENT_TYPES = (".md", ".pdf", ".txt")


def find_documents(text: str, findings: Findings) -> Path | None:
    """The folder or .jsonl file of documents; every document counts as a file of the scenario."""
    path = findings.path(("documents",), text)
    if path is None:
        return None
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix in DOCUMENT_TYPES and file.is_file())
        found += [file for file in (path / "documents.jsonl",) if file.is_file()]
    else:
        found = [path] if path.suffix == ".jsonl" else []
    findings.files += found
    if found:
        return path
    what = f"documents: {text} holds no .md, .txt or .pdf file and no documents.jsonl."
    findings.problem(("documents",), what, "Name a folder with documents, or a .jsonl file.")
    return None


def find_tools(text: str, findings: Findings) -> Path | None:
    """The file of tools."""
    path = findings.file(("tools",), text)
    if path is None:
        return None
    if path.suffix not in {".py", ".jsonl"}:
        what = f"tools: {text} is neither a .py nor a .jsonl file."
        findings.problem(("tools",), what, "Name tools.py with functions, or tools.jsonl with schemas.")
        return None
    if path.suffix == ".py":
        findings.warnings.append(f"the tools in {text} are code of the scenario: they run on this machine.")
    return path


def read_output_schema(text: str, placed: Sequence[Placed], findings: Findings) -> str | None:
    """The schema of answers as canonical JSON; every target must follow it."""
    path = findings.file(("output_schema",), text)
    if path is None:
        return None
    schema = _schema(path, findings)
    if schema is None:
        return None
    _check_targets(schema, text, placed, findings)
    return json.dumps(schema, ensure_ascii=False, sort_keys=True)


def _schema(path: Path, findings: Findings) -> dict[str, Any] | None:
    import jsonschema  # takes a tenth of a second, and few scenarios need it

    where = shown(path, findings.folder)
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
    except json.JSONDecodeError as error:
        problem = Problem(f"{where}:{error.lineno}", f"broken JSON: {error.msg}.", "Correct the file.")
    except (OSError, ValueError) as error:
        problem = Problem(where, f"the file cannot be read: {error}.", "Write a JSON Schema in UTF-8.")
    except jsonschema.SchemaError as error:
        problem = Problem(where, f"this is no JSON Schema: {error.json_path}: {error.message}.", "Correct the file.")
    else:
        if isinstance(schema, dict):
            return schema
        problem = Problem(where, "the schema must be a JSON object.", 'Write {"type": "object", ...}.')
    findings.problems.append(problem)
    return None


def _check_targets(schema: dict[str, Any], name: str, placed: Sequence[Placed], findings: Findings) -> None:
    """A right answer that breaks the schema could never be given."""
    import jsonschema

    validator = jsonschema.Draft202012Validator(schema)
    wrong: list[tuple[str, str]] = []
    for one in placed:
        try:
            fault = next((error.message for error in validator.iter_errors(json.loads(one.sample.target))), None)
        except ValueError:
            fault = "it is not JSON"
        if fault:
            wrong.append((one.place, fault))
    if wrong:
        place, fault = wrong[0]
        more = f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
        remedy = "Correct the target or the schema."
        findings.problems.append(Problem(place, f"the target breaks {name}: {fault}{more}.", remedy))
