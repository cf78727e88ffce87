"""junit.xml: the run as a test report, which CI systems show: one suite a run, one case a candidate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from backends.wording import counted

Result = Literal["passed", "failure", "skipped"]

_RESULTS: Mapping[str, Result] = {
    "certified": "passed",
    "eliminated": "failure",
    "hopeless": "failure",
    "failed": "failure",
    "unresolved": "skipped",
    "not_needed": "skipped",
    "skipped": "skipped",
}
"""What a status means to a CI: what is neither proved nor ruled out neither passes nor fails."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped (w3.org/TR/xml, 2.2)."""


def junit(report: Mapping[str, Any]) -> str:
    """The report as JUnit XML, after the schema of Ant and Jenkins."""
    candidates = report["candidates"]
    results = Counter(_RESULTS[candidate["status"]] for candidate in candidates)
    counts = {
        "tests": len(candidates),
        "failures": results["failure"],
        "errors": 0,
        "skipped": results["skipped"],
        "time": f"{report['spent']['seconds']:.3f}",
    }
    whole = _element("testsuites", name=f"advisor {report['kind']}", **counts)
    suite = _element("testsuite", whole, name=report["scenario"]["name"], **counts)
    # The schema wants the second, without a zone; the report's times are UTC.
    suite.set("timestamp", datetime.fromisoformat(report["created"]).strftime("%Y-%m-%dT%H:%M:%S"))
    suite.set("hostname", "localhost")
    properties = _element("properties", suite)
    for name, value in _facts(report).items():
        _element("property", properties, name=name, value=value)
    for candidate in candidates:
        _case(suite, report, candidate)
    _element("system-out", suite).text = _clean("\n".join(report["because"]))
    _element("system-err", suite)
    indent(whole)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(whole, encoding="unicode") + "\n"


def _facts(report: Mapping[str, Any]) -> dict[str, Any]:
    goal = report["goal"]
    return {
        "run": report["run_id"],
        "scenario_hash": report["scenario"]["hash"],
        "seed": report["seed"],
        "target": goal["target"],
        "margin": goal["margin"],
        "confidence": goal["confidence"],
        "verdict": report["verdict"],
        "pick": report["pick"] or "",
    }


def _case(suite: Element, report: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
    seconds = f"{candidate['evaluation']['seconds']:.3f}"
    case = _element("testcase", suite, classname=report["scenario"]["name"], name=candidate["id"], time=seconds)
    result = _RESULTS[candidate["status"]]
    if result == "skipped":
        _element("skipped", case, message=_message(candidate))
    elif result == "failure":
        failure = _element("failure", case, type=candidate["status"], message=_message(candidate))
        failure.text = _clean(_evidence(report, candidate))


def _message(candidate: Mapping[str, Any]) -> str:
    return f"{candidate['status'].replace('_', ' ')}: {candidate['reason']}"


def _evidence(report: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    """The figures behind a failure."""
    lines = [
        candidate["reason"],
        f"target {report['goal']['target']}, n={candidate['n']}, errors {candidate['errors']}",
    ]
    if candidate["mean_score"] is not None:
        lines.append(f"mean score {candidate['mean_score']:.3f}")
    if candidate["score"] is not None:
        lines.append(f"interval {candidate['score']['low']:.3f} to {candidate['score']['high']:.3f}")
    lines += [f"{cause['cause']}: {cause['evidence']}" for cause in candidate["diagnosis"]]
    lines += [f"error ({counted(one['count'], 'time')}): {one['error']}" for one in candidate["error_texts"]]
    return "\n".join(lines)


def _element(tag: str, parent: Element | None = None, /, **attributes: Any) -> Element:
    clean = {name: _clean(str(value)) for name, value in attributes.items()}
    return Element(tag, clean) if parent is None else SubElement(parent, tag, clean)


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
