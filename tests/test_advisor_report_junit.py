"""junit.xml: what a CI system is told about each candidate, in the form that such systems read."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from advisor import engine
from advisor.report.junit import junit
from tests import toys

# The elements and attributes of windyroad's JUnit-Schema, which Ant, Jenkins, GitLab and others share:
# tag -> (required attributes, optional attributes, children in order, the last of which may repeat).
SCHEMA: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": (set(), {"name", "tests", "failures", "errors", "skipped", "time"}, ["testsuite"]),
    "testsuite": (
        {"name", "timestamp", "hostname", "tests", "failures", "errors", "time"},
        {"skipped"},
        ["properties", "testcase", "system-out", "system-err"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": ({"name", "classname", "time"}, set(), ["skipped", "error", "failure"]),
    "failure": ({"type"}, {"message"}, []),
    "skipped": (set(), {"message"}, []),
    "system-out": (set(), set(), []),
    "system-err": (set(), set(), []),
}


def check(node: ElementTree.Element) -> None:
    required, optional, children = SCHEMA[node.tag]
    assert required <= set(node.attrib) <= required | optional, (node.tag, node.attrib)
    places = [children.index(child.tag) for child in node]
    assert places == sorted(places), f"children of {node.tag} are out of order"
    for child in node:
        check(child)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("junit")
    model = toys.script(folder, "model", toys.rules(0.95, needs="worked example"))
    path = toys.scenario(folder, model, techniques=["zero_shot", "few_shot", "knn_few_shot"])
    finished = engine.run(path, folder / "w")
    assert (finished.folder / "junit.xml").read_text("utf-8") == junit(finished.report)
    return dict(finished.report)


def suite_of(report: dict[str, Any]) -> ElementTree.Element:
    whole = ElementTree.fromstring(junit(report).encode())
    check(whole)
    (suite,) = whole
    return suite


def test_certified_passes_eliminated_fails_and_the_rest_is_skipped(report: dict[str, Any]) -> None:
    suite = suite_of(report)
    results = {case.get("name", "").partition("@")[0]: [child.tag for child in case] for case in suite.iter("testcase")}
    assert results == {"zero_shot": ["failure"], "few_shot": [], "knn_few_shot": ["skipped"], "fine_tune": ["skipped"]}
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "0", "skipped": "2"}


def test_a_failure_says_why_with_the_figures(report: dict[str, Any]) -> None:
    (failure,) = suite_of(report).iter("failure")
    zero = report["candidates"][0]
    assert failure.get("type") == "eliminated"
    assert zero["reason"] in str(failure.get("message"))
    assert f"n={zero['n']}" in str(failure.text)
    assert "skill" in str(failure.text), "the diagnosis belongs to the evidence"


def test_the_timestamp_has_no_zone_and_the_run_can_be_found_again(report: dict[str, Any]) -> None:
    suite = suite_of(report)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", str(suite.get("timestamp")))
    facts = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert facts["run"] == report["run_id"]
    assert facts["pick"] == report["pick"]


def test_markup_and_characters_that_xml_cannot_hold_do_no_harm(report: dict[str, Any]) -> None:
    bad = dict(report["candidates"][0]) | {"id": "<a b='\"&>\x00", "reason": "]]> \x1b[31m \ufffe <script>"}
    suite = suite_of(report | {"candidates": [bad]})
    (case,) = suite.iter("testcase")
    assert case.get("name") == "<a b='\"&>\ufffd"
    assert "<script>" in str(case[0].get("message"))


def test_the_schema_check_can_fail(report: dict[str, Any]) -> None:
    suite = suite_of(report)
    del suite.attrib["hostname"]
    with pytest.raises(AssertionError):
        check(suite)
