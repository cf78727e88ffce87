"""The JSON Schema of answers: read, and held against the targets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advisor.scenario.findings import Findings
from advisor.scenario.paths import shown
from advisor.tools.references import REMEDY, reference_fault, validator
from backends.errors import Problem
from evals.data import Placed


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
    except RecursionError:
        problem = Problem(where, "the schema is nested too deeply.", "Write a flatter one.")
    else:
        return _usable(schema, where, findings)
    findings.problems.append(problem)
    return None


def _usable(schema: Any, where: str, findings: Findings) -> dict[str, Any] | None:
    if not isinstance(schema, dict):
        problem = Problem(where, "the schema must be a JSON object.", 'Write {"type": "object", ...}.')
    elif fault := reference_fault(schema):
        problem = Problem(where, f"{fault}.", REMEDY)
    else:
        return schema
    findings.problems.append(problem)
    return None


def _check_targets(schema: dict[str, Any], name: str, placed: Sequence[Placed], findings: Findings) -> None:
    """A right answer that breaks the schema could never be given."""
    held = validator(schema)
    wrong: list[tuple[str, str]] = []
    for one in placed:
        try:
            fault = next((error.message for error in held.iter_errors(json.loads(one.sample.target))), None)
        except ValueError:
            fault = "it is not JSON"
        except RecursionError:
            fault = "it is nested too deeply, or references of the schema lead in a circle"
        if fault:
            wrong.append((one.place, fault))
    if wrong:
        place, fault = wrong[0]
        more = f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
        remedy = "Correct the target or the schema."
        findings.problems.append(Problem(place, f"the target breaks {name}: {fault}{more}.", remedy))
