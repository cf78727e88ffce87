"""The schema of answers: read, held against the targets, and never left for a reference."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from advisor.scenario.assets import read_output_schema
from advisor.scenario.document import read_document
from advisor.scenario.findings import Findings
from evals.data import Placed
from evals.task import Sample

NAMED = {"$defs": {"name": {"type": "string"}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/name"}}}


def read(folder: Path, schema: Any, *targets: str) -> tuple[str | None, Findings]:
    (folder / "scenario.yaml").write_text("name: x\noutput_schema: schema.json\n", encoding="utf-8")
    text = schema if isinstance(schema, str) else json.dumps(schema)
    (folder / "schema.json").write_text(text, encoding="utf-8")
    findings = Findings(read_document(folder / "scenario.yaml"), folder)
    placed = [
        Placed(Sample(str(line), "x", target), f"train.jsonl:{line}") for line, target in enumerate(targets, start=1)
    ]
    return read_output_schema("schema.json", placed, findings), findings


def test_a_schema_that_every_target_follows_is_canonical_json(tmp_path: Path) -> None:
    found, findings = read(tmp_path, NAMED, '{"a": "x"}')
    assert found == json.dumps(NAMED, sort_keys=True)
    assert findings.problems == []
    assert findings.files == [tmp_path / "schema.json"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"tree": {"items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"},
        {"$defs": {"a": {"$anchor": "here", "type": "array"}}, "$ref": "#here"},
        {"shared": {"a b": {"type": "array"}}, "$ref": "#/shared/a%20b"},
        {"properties": {"$ref": {"type": "string"}}, "enum": [{"$ref": "http://no.invalid"}, []]},
    ],
    ids=["recursive", "anchor", "unknown keyword", "no reference"],
)
def test_references_within_the_schema_are_followed(schema: dict[str, Any], tmp_path: Path) -> None:
    found, findings = read(tmp_path, schema, "[]")
    assert (found is not None, findings.problems) == (True, [])


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("http://127.0.0.1:9/a.json", "leads out of the schema, and nothing is fetched."),
        ("file:///etc/hostname", "leads out of the schema, and nothing is fetched."),
        ("other.json#/a", "leads out of the schema, and nothing is fetched."),
        ("#/$defs/none", "leads nowhere in the schema."),
        ("#none", "leads nowhere in the schema."),
        ("#/title", "leads to what is no JSON Schema: 'T' is not of type 'object', 'boolean'."),
        ("#/shared/wrong", "leads to what is no JSON Schema: 3 is not valid under any of the given schemas."),
    ],
)
def test_a_reference_that_cannot_be_followed_is_one_problem(reference: str, said: str, tmp_path: Path) -> None:
    shared = {"wrong": {"type": 3}}
    schema = {"title": "T", "shared": shared, "properties": {"a": {"anyOf": [{"type": "null"}, {"$ref": reference}]}}}
    found, findings = read(tmp_path, schema, '{"a": null}', '{"a": 1}')
    assert found is None
    (problem,) = findings.problems
    assert (problem.where, problem.what) == ("schema.json", f"the reference {reference!r} {said}")
    assert "#/$defs/NAME" in problem.remedy


def test_a_reference_behind_a_reference_is_seen(tmp_path: Path) -> None:
    schema = {"shared": {"a": {"items": {"$ref": "http://127.0.0.1:9/b"}}}, "$ref": "#/shared/a"}
    found, findings = read(tmp_path, schema)
    assert found is None
    assert "http://127.0.0.1:9/b" in findings.problems[0].what


def test_nothing_is_fetched(tmp_path: Path) -> None:
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.json"
        read(tmp_path, {"$ref": address}, "{}")
        server.shutdown()
    assert asked == []


def test_references_in_a_circle_are_a_problem_and_no_crash(tmp_path: Path) -> None:
    found, findings = read(tmp_path, {"$ref": "#"}, "{}")
    (problem,) = findings.problems
    assert problem.where == "train.jsonl:1"
    assert "references of the schema lead in a circle" in problem.what
    assert found is not None


@pytest.mark.parametrize(
    ("schema", "where", "said"),
    [
        ("{\n!", "schema.json:2", "broken JSON"),
        ("[]", "schema.json", "this is no JSON Schema"),
        ("true", "schema.json", "the schema must be a JSON object."),
        ({"properties": {"a": {"type": 3}}}, "schema.json", "$.properties.a.type"),
        ("[" * 100_000, "schema.json", "the schema is nested too deeply."),
    ],
)
def test_what_is_no_schema_is_one_problem(schema: Any, where: str, said: str, tmp_path: Path) -> None:
    found, findings = read(tmp_path, schema, "{}")
    assert found is None
    (problem,) = findings.problems
    assert problem.where == where
    assert said in problem.what


def test_targets_that_break_the_schema_are_counted(tmp_path: Path) -> None:
    _, findings = read(tmp_path, NAMED, '{"a": "x"}', '{"a": 1}', "x")
    (problem,) = findings.problems
    assert problem.where == "train.jsonl:2"
    assert problem.what == "the target breaks schema.json: 1 is not of type 'string' (2 such rows)."
