"""`endpoints:` of a scenario: servers that speak the OpenAI protocol, described as in advisor.toml and checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advisor.scenario.findings import Findings
from backends import registry as backends
from backends.openai.endpoints import TAKEN, USUAL, address_problem
from backends.openai.settings import wrong_settings

_DOLLARS = {"type": "number", "minimum": 0}
_PRICES = {
    "type": "object",
    "properties": {"input": _DOLLARS, "output": _DOLLARS, "cached": _DOLLARS, "training": _DOLLARS},
    "required": ["input"],
    "additionalProperties": False,
}
_ENDPOINT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "base_url": {"type": "string", "description": "Address that paths are added to; most end in /v1."},
        "key_env": {"type": "string", "description": "Environment variable that holds the key; never the key itself."},
        "allow_http": {"type": "boolean", "description": "Allow plain http to other machines than this one."},
        "extra_body": {"type": "object", "description": "Fields that go into every request."},
        "provider": {"type": "string", "description": "The provider's id in genai-prices."},
        "prices": {
            "type": "object",
            "additionalProperties": _PRICES,
            "description": "By model, ft:BASE or * for all: input, output, cached, training in USD per million tokens.",
        },
        "tools": {"type": "boolean", "description": "Whether its models take tools. Default: is found out."},
        "reasoning_tokens": {"type": "integer", "minimum": 0, "description": "Tokens an answer may reason besides."},
        "timeout_seconds": {"type": "number", "exclusiveMinimum": 0, "description": "Seconds to wait for an answer."},
        "max_concurrency": {"type": "integer", "minimum": 1, "description": "Most requests under way at once."},
        "stream": {"type": "boolean", "description": "Stream answers, which tells the seconds to the first token."},
        "batches": {"type": "boolean", "description": "Whether --batch sends its requests in batches."},
    },
    "additionalProperties": False,
}
ENDPOINTS_SCHEMA: dict[str, Any] = {"type": "object", "additionalProperties": _ENDPOINT}
"""JSON Schema of the key; what is allowed is said in `backends.openai.settings`."""


def declare_endpoints(said: Mapping[str, Mapping[str, Any]], findings: Findings) -> None:
    """Check the scenario's endpoints and make them known, so that models can be named by them."""
    for name, section in said.items():
        _check(name, section, findings)
    backends.declare_endpoints(said, findings.document.where)


def _check(name: str, section: Mapping[str, Any], findings: Findings) -> None:
    path = ("endpoints", name)
    if name in TAKEN or "/" in name:
        what = f"the endpoint name {name!r} " + ("holds a slash." if "/" in name else "is taken.")
        findings.problem(path, what, "Choose another one.")
    wrong = wrong_settings(section)
    for key, what, remedy in wrong:
        findings.problem((*path, key), f"endpoints.{name}: {what}", remedy)
    url = section.get("base_url")
    if any(key in {"base_url", "allow_http"} for key, _, _ in wrong) or (url is None and name in USUAL):
        return
    place = findings.document.place((*path, "base_url"))
    problem = address_problem(place, f"endpoints.{name}.base_url", url, section.get("allow_http", False))
    findings.problems += [] if problem is None else [problem]
