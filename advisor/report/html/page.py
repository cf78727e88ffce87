"""The page: everything in one file that asks nothing of the network and runs one script, its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from advisor.report import measured
from advisor.report.foreseen import foreseen_sentence
from advisor.report.html import amounts
from advisor.report.html.appendix import appendix
from advisor.report.html.evidence import Evidence
from advisor.report.html.explorer import Exploration, explore, script_json
from advisor.report.html.figures.all import figures
from advisor.report.html.markup import Markup, element, joined
from advisor.report.html.names import named
from advisor.report.html.pictures import Picture, pictures
from advisor.report.html.sections import candidates_table, decided, headline, reasons, trainings, verdict
from backends.wording import counted

_PARTS = {
    "recommendation": "Recommendation",
    "candidates": "Candidates",
    "pictures": "Pictures",
    "decided": "How it was decided",
    "samples": "Samples",
}


def page(report: Mapping[str, Any], evidence: Evidence) -> str:
    """report.html, complete."""
    candidates = named(report)
    exploration = explore(report, evidence)
    style, script = asset("page.css"), asset("explorer.js")
    return Template(asset("template.html")).substitute(
        policy=_policy(style, script),
        title=element("span", f"{report['scenario']['name']}: {headline(report)}")[len("<span>") : -len("</span>")],
        style=style,
        masthead=_masthead(report),
        main=joined(
            [
                verdict(report, candidates),
                reasons(report),
                candidates_table(report, candidates),
                trainings(report, candidates),
                _pictures(pictures(figures(report, evidence))),
                decided(report, appendix(report, candidates)),
                _samples(exploration),
            ]
        ),
        footer=_footer(report),
        data=script_json(exploration.data),
        script=script,
    )


@cache
def asset(name: str) -> str:
    """A file that ships beside this module."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing is loaded, and no script or style counts but ours, known by their hashes (w3.org/TR/CSP3)."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(code: str) -> str:
    # Everything between the tags counts, the line break of the template before the code included.
    digest = hashlib.sha256(f"\n{code}".encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _masthead(report: Mapping[str, Any]) -> Markup:
    links = [element("a", title, href=f"#{name}") for name, title in _PARTS.items()]
    name = element("p", report["scenario"]["name"], class_="name")
    made = element("p", f"advisor {report['kind']}, {report['created'][:10]}", class_="muted small")
    return element(
        "header",
        element("div", name, made, element("nav", *links, aria_label="Page"), class_="wrap"),
        class_="masthead",
    )


def _pictures(drawn: Sequence[Picture]) -> Markup | None:
    if not drawn:
        return None
    missing = next((picture.missing for picture in drawn if picture.missing), None)
    note = None if missing is None else element("p", f"Tables only, without pictures: {missing}", class_="muted")
    grid = element("div", *(picture.markup for picture in drawn), class_="pictures")
    return element("section", element("h2", "Pictures"), note, grid, id="pictures")


def _samples(exploration: Exploration) -> Markup:
    notes = []
    if exploration.without_prompts:
        notes.append(
            f"To keep this file small, the prompts of {counted(exploration.without_prompts, 'trial', ',')} are left "
            "out, those with right answers first; the workspace has them."
        )
    if exploration.unlisted:
        notes.append(f"Not listed: {counted(exploration.unlisted, 'trial', ',')}, those with right answers first.")
    return element(
        "section",
        element("h2", "Samples"),
        *(element("p", note, class_="muted") for note in notes),
        element(
            "noscript", element("p", "Looking through single samples needs JavaScript; all else on this page does not.")
        ),
        _explorer(),
        id="samples",
        class_="samples",
    )


def _explorer() -> Markup:
    filters = (
        _select("candidate", "Candidate", (("", "all"),)),
        _select("beside", "Beside", (("", "nothing"),)),
        _select(
            "outcome",
            "Result",
            (
                ("", "all"),
                ("right", "right"),
                ("wrong", "wrong"),
                ("error", "error"),
                ("differs", "differs from beside"),
            ),
        ),
        _select("cause", "Cause", (("", "all"),)),
        _select("kind", "Trials", (("", "all"),)),
        element("label", "Text", element("input", type="search", id="explorer-search"), class_="grow"),
    )
    rows = element("div", id="explorer-rows", role="presentation")
    listed = element("div", rows, id="explorer-list", role="listbox", tabindex=0, aria_label="Trials")
    detail = element("div", id="explorer-detail", class_="card", role="region", aria_label="Trial", tabindex=0)
    return element(
        "div",
        element("div", *filters, class_="filters", role="search", aria_label="Filter trials"),
        element("p", id="explorer-count", role="status", class_="muted small"),
        element("div", listed, detail, class_="panes"),
        id="explorer",
        hidden=True,
    )


def _select(name: str, title: str, entries: Sequence[tuple[str, str]]) -> Markup:
    options = [element("option", label, value=value) for value, label in entries]
    return element("label", title, element("select", *options, id=f"explorer-{name}"))


def _footer(report: Mapping[str, Any]) -> Markup:
    spent = report["spent"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    machine = ", ".join(f"{amounts.words(key)} {value}" for key, value in report["hardware"].items() if value)
    lines = (
        f"Run {report['run_id']}, {report['created']}, seed {report['seed']}. This run took "
        f"{amounts.dollars(spent['usd'])}, {amounts.seconds(spent['seconds'])} and "
        f"{counted(spent['requests'], 'request', ',')}; "
        f"{counted(spent['cached_requests'], 'more answer', ',')} came from the cache.",
        *measured.notes(report),
        *filter(None, [foreseen_sentence(report)]),
        f"Scenario {report['scenario']['hash'][:16]}. {versions}. {machine}.",
    )
    return element("footer", element("div", *(element("p", line) for line in lines), class_="wrap"))
