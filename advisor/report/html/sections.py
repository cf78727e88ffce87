"""The parts of the page that are text: verdict, reasons, next steps, candidates, and how it was decided."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from advisor.report import tuned
from advisor.report.html import amounts
from advisor.report.html.markup import Markup, bullets, element, folded, joined, table
from advisor.report.html.names import MARKS, Named, best
from advisor.resolution import Resolution
from backends.wording import counted

_REASONS = 6
"""Reasons shown before the reader asks for more."""
_COMMAND = re.compile(r"^(?P<text>.*?)(?::\s+|`)(?P<command>advisor [^`]+?)`?$", re.DOTALL)


def headline(report: Mapping[str, Any]) -> str:
    """The verdict in a few words."""
    if report["verdict"] == "pick":
        picked = next(one for one in report["candidates"] if one["id"] == report["pick"])
        return f"Use {picked['id'].removesuffix('@' + picked['model'])} on {picked['model']}"
    if report["stopped"] is not None:
        return "Stopped before a verdict"
    if report["verdict"] == "escalate":
        return "No candidate meets the target"
    return "Undecided: nothing could be shown to meet the target"


def verdict(report: Mapping[str, Any], candidates: Sequence[Named]) -> Markup:
    """What to do, and the figures that matter."""
    sign = {"pick": "✓ Pick", "escalate": "↑ Escalate", "inconclusive": "? Undecided"}[report["verdict"]]
    return element(
        "section",
        element("p", sign, class_=f"badge {report['verdict']}"),
        element("h1", headline(report)),
        element("p", report["because"][0], class_="lead"),
        _key_figures(report, best(candidates)),
        class_="verdict",
        id="recommendation",
        tabindex=-1,
    )


def _key_figures(report: Mapping[str, Any], leader: Named | None) -> Markup | None:
    if leader is None:
        return None
    found, goal = leader.found, report["goal"]
    monthly = report["economics"]["monthly_usd"].get(leader.id)
    volume = report["economics"]["requests_per_month"]
    at = "" if volume is None else f"at {counted(volume, 'request', ',.0f')}"
    a_month = [("A month", amounts.dollars(monthly), at)] if at else []
    took = found["tokens_per_request"]
    figures = [
        (
            "Score" if leader.picked else f"Best score: {leader.short}",
            amounts.score(found["mean_score"]),
            f"{amounts.interval(found['score'])}, target {goal['target']:g}, n={found['n']:,}",
        ),
        ("Per 1,000 requests", amounts.dollars(found["usd_per_1k_requests"]), "serving, as measured"),
        *a_month,
        ("Median answer", amounts.seconds(found["seconds"]["p50"]), _waits(found["seconds"])),
        ("Tokens a request", amounts.tokens(took["input"]), f"in, {amounts.tokens(took['output'])} out"),
    ]
    return element("dl", *(_key_figure(*figure) for figure in figures), class_="figures")


def _waits(seconds: Mapping[str, Any]) -> str:
    first = seconds.get("first_token_p50")
    begins = "" if first is None else f", begins after {amounts.seconds(first)}"
    return f"p95 {amounts.seconds(seconds['p95'])}{begins}"


def _key_figure(name: str, value: str, aside: str) -> Markup:
    shown = element("dd", element("span", value, class_="value"), element("span", aside, class_="aside"))
    return element("div", element("dt", name), shown)


def reasons(report: Mapping[str, Any]) -> Markup:
    """Why, what would change it, what next, and what could make the advice wrong."""
    because = report["because"][1:]
    first, more = because[:_REASONS], because[_REASONS:]
    folds = folded(f"{len(more)} more", bullets(more)) if more else None
    why = element("section", element("h2", "Why"), bullets(first), folds, class_="card", aria_label="Why")
    steps = [_step(step) for step in report["next_steps"]]
    risks = [_risk(risk) for risk in report["risks"]]
    others = report.get("would_change", ())
    reading = element(
        "div",
        why if because else None,
        _card("What would change this", bullets(others), "changes") if others else None,
        class_="stack",
    )
    beside = element(
        "div",
        _card("Next steps", bullets(steps, "ol"), "steps") if steps else None,
        _card("Risks", bullets(risks), "risks") if risks else None,
        class_="stack",
    )
    left = reading if because or others else None
    return element("section", element("div", left, beside, class_="columns"), aria_label="Reasons")


def _card(title: str, content: Markup, kind: str) -> Markup:
    return element("section", element("h2", title), content, class_=f"card {kind}", aria_label=title)


def _step(step: str) -> Markup:
    """A next step; the command in it is set apart, to be copied."""
    found = _COMMAND.match(step)
    if found is None:
        return joined([step])
    command = element("code", found["command"].strip(), class_="command")
    return joined([f"{found['text'].strip()}: ", element("br"), command])


def _risk(risk: Mapping[str, Any]) -> Markup:
    date = risk.get("date")
    before, found, after = risk["text"].partition(date) if date else (risk["text"], "", "")
    return joined([before, element("strong", found) if found else None, after])


def candidates_table(report: Mapping[str, Any], candidates: Sequence[Named]) -> Markup:
    """Every candidate with what it measured, cheapest first."""
    head = ("candidate", "status", "score", "n", "$ per 1,000", "p50", "p95", "tokens in + out", "errors")
    made = table(
        f"Cheapest first; target {report['goal']['target']:g}, confidence "
        f"{amounts.percent(report['goal']['confidence'])}. Intervals hold for all candidates together.",
        head,
        [_candidate(one) for one in candidates],
        numbers_from=2,
        name="candidates",
    )
    return element("section", element("h2", "Candidates"), element("div", made, class_="card"), id="candidates")


def trainings(report: Mapping[str, Any], candidates: Sequence[Named]) -> Markup | None:
    """What each training won and what it made the model forget; None where none was tried."""
    found = tuned.rows(report)
    if not found:
        return None
    labels = {one.id: one.label for one in candidates}
    rows = [(labels.get(row[0], row[0]), *row[1:]) for row in found]
    made = table(tuned.NOTE, tuned.head(report), rows, name="candidates trainings")
    return element("section", element("h2", tuned.TITLE), element("div", made, class_="card"), id="trainings")


def _candidate(one: Named) -> list[Markup | str]:
    found, took = one.found, one.found["tokens_per_request"]
    return [
        joined([one.label, element("span", found["model"], class_="sub")]),
        joined(
            [
                _badge(one),
                element("span", _sentence(found["reason"]), class_="sub"),
            ]
        ),
        joined([amounts.score(found["mean_score"]), element("span", _sureness(one), class_="sub")]),
        f"{found['n']:,}",
        amounts.dollars(found["usd_per_1k_requests"]) if took["input"] is not None else amounts.NONE,
        amounts.seconds(found["seconds"]["p50"]),
        amounts.seconds(found["seconds"]["p95"]),
        f"{amounts.tokens(took['input'])} + {amounts.tokens(took['output'])}" if took["input"] else amounts.NONE,
        f"{found['errors']:,}",
    ]


def _badge(one: Named) -> Markup:
    text = f"{MARKS[one.found['status']]} {one.status}"
    kind = f"badge {one.found['status']}"
    return (
        element("span", f"{text} · pick", class_=f"{kind} picked") if one.picked else element("span", text, class_=kind)
    )


def _sureness(one: Named) -> str:
    if one.tested:
        return amounts.interval(one.found["score"])
    return f"dev {amounts.score(one.found['dev_score'])}" if one.found["dev_score"] is not None else ""


def _sentence(text: str) -> str:
    """With a capital, unless it begins with a name."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def decided(report: Mapping[str, Any], tables: Sequence[Markup]) -> Markup:
    """The goal, how the error probability was shared out, and what was tried and left out."""
    goal = report["goal"]
    risk = amounts.percent(round(1 - goal["confidence"], 12))
    scenario = report["scenario"]
    limits = [
        f"at most ${goal['max_usd_per_1k_requests']:g} per 1,000 requests"
        if goal.get("max_usd_per_1k_requests")
        else "",
        f"at most {goal['max_p95_seconds']:g} s at the 95th percentile" if goal.get("max_p95_seconds") else "",
    ]
    asked = ", ".join([f"a mean score of at least {amounts.percent(goal['target'])}", *filter(None, limits)])
    paragraphs = [
        f"The goal: {asked}. Whatever the candidates are worth, a pick that misses the target happens in at most "
        f"{risk} of such runs, over all candidates and all looks together.",
        f"Techniques learnt from {counted(scenario['n_train'], 'train sample', ',')} and chose their settings on "
        f"{counted(scenario['n_dev'], 'dev sample', ',')}; the verdict rests on the "
        f"{counted(scenario['n_test'], 'test sample', ',')} alone, which every candidate saw in the same "
        "random order. A failed request is an error with its cost, never a wrong "
        "answer.",
        f"{Resolution(**report['resolution'])}",
        "How it works, in plain words: docs/how-it-decides.md.",
    ]
    return element(
        "section",
        element("h2", "How it was decided"),
        element("div", *(element("p", one) for one in paragraphs), _ledger(report), *tables, class_="card"),
        id="decided",
    )


def _ledger(report: Mapping[str, Any]) -> Markup | None:
    rows = [
        (entry["test"], amounts.percent(round(entry["alpha"], 6)), "used" if entry["spent"] else "not used")
        for entry in report["alpha_ledger"]
    ]
    if not rows:
        return None
    allowed = amounts.percent(round(1 - report["goal"]["confidence"], 12))
    text = f"How the {allowed} chance of a wrong pick was shared out before the run"
    return folded(text, table("Each test may be wrong with this probability", ("test", "share", "test begun"), rows))
