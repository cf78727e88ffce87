"""report.md: the report for people, readable as plain text and on any code host."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from advisor.report import measured, mistakes, money, teaching, tuned
from advisor.report.foreseen import HEAD as FORESEEN_HEAD
from advisor.report.foreseen import foreseen_rows, foreseen_sentence
from backends.wording import counted

_VERDICTS = {
    "pick": "Use {pick}",
    "escalate": "No candidate meets the target",
    "inconclusive": "Undecided: nothing could be shown to meet the target",
}

_SEEN = {"errors": "the error is", "format": "read without its form, it says", "label_noise": "what was found:"}
"""What an example of a cause shows, where that is no answer to a further request."""


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report, from the report object alone."""
    scenario, spent = report["scenario"], report["spent"]
    parts = [
        _escaped(f"# {scenario['name']}: {_VERDICTS[report['verdict']].format(pick=report['pick'])}"),
        _paragraph(report["because"]),
        "## Candidates, cheapest first",
        _table(
            ("candidate", "status", "n", "score", "interval", "$ per 1,000", "p50 s", "tokens in + out", "errors"),
            [candidate_cells(candidate) for candidate in report["candidates"]],
        ),
        *_steps(report["candidates"]),
        *_retrieval(report["candidates"]),
        *_diagnosis(report["candidates"]),
        *_examples(report["candidates"]),
        "## What finding out cost",
        _table(
            ("candidate", "fitting $", "fitting s", "evaluation $", "evaluation s", "requests"),
            [_costs(candidate) for candidate in report["candidates"]],
        ),
        *_foreseen(report),
        *_escalation(report["escalation"]),
        *_trainings(report),
        *_mistakes(report),
        *_list("## Tried", [f"{one['technique']}: {one['reason']}" for one in report["chosen"]]),
        *_list("## Left out", [f"{one['technique']}: {one['reason']}" for one in report["left_out"]]),
        *_money(report),
        *_list("## What would change this advice", report.get("would_change", ())),
        *_list("## Risks", [risk["text"] for risk in report["risks"]]),
        *_list("## Next steps", report["next_steps"]),
        "## How this was measured",
        (
            f"Target {report['goal']['target']}, confidence {report['goal']['confidence']}, margin "
            f"{report['goal']['margin']}; {scenario['n_train']} train, {scenario['n_dev']} dev, "
            f"{counted(scenario['n_test'], 'test sample')}; seed {report['seed']}. "
            f"{counted(spent['requests'], 'request')}, {spent['cached_requests']} more from "
            f"the cache, {_number(spent['usd'], '${:.4f}')}, {spent['seconds']:.0f} s. Run {report['run_id']}."
        ),
        *measured.notes(report),
    ]
    return "\n\n".join(parts) + "\n"


def candidate_cells(candidate: Mapping[str, Any]) -> tuple[str, ...]:
    """One candidate as table cells."""
    score, tokens = candidate["score"], candidate["tokens_per_request"]
    return (
        candidate["id"],
        candidate["status"].replace("_", " "),
        str(candidate["n"]),
        _number(candidate["mean_score"], "{:.3f}") if candidate["n"] else "-",
        "-" if score is None else f"{score['low']:.2f}-{score['high']:.2f}",
        _number(candidate["usd_per_1k_requests"], "{:.4f}") if tokens["input"] is not None else "-",
        "-" if candidate["seconds"]["p50"] is None else f"{candidate['seconds']['p50']:.2f}",
        "-" if tokens["input"] is None else f"{tokens['input']:.0f}+{tokens['output']:.0f}",
        str(candidate["errors"]),
    )


def _steps(candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            candidate["id"],
            step["name"],
            f"{100 * step['share']:.0f} %",
            f"{step['input_tokens']:.0f}+{step['output_tokens']:.0f}",
            _number(step["usd_per_1k_requests"], "{:.4f}"),
            f"{step['seconds']:.2f}",
        )
        for candidate in candidates
        for step in candidate["steps"]
    ]
    head = ("candidate", "step", "of requests", "tokens in + out", "$ per 1,000", "seconds")
    return ["## Steps of one request", _table(head, rows)] if rows else []


def _retrieval(candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [(candidate["id"], candidate["retrieval"]) for candidate in candidates if candidate["retrieval"]]
    rows = [(name, *(_figure(value) for value in quality.values())) for name, quality in found]
    heads = ("candidate", *(key.replace("_", " ") for key in found[0][1])) if found else ()
    return ["## Retrieval, against gold documents", _table(heads, rows)] if rows else []


def _diagnosis(candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            candidate["id"],
            cause["cause"].replace("_", " "),
            f"{100 * cause['share']:.0f} % ({100 * cause['low']:.0f}-{100 * cause['high']:.0f})",
            ", ".join(cause["points_to"]) or "-",
            cause["evidence"],
        )
        for candidate in candidates
        for cause in candidate["diagnosis"]
    ]
    head = ("candidate", "cause", "of failures", "points to", "evidence")
    return ["## Why candidates fell short", _table(head, rows)] if rows else []


def _examples(candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        f"{candidate['id']}, {cause['cause'].replace('_', ' ')}, {example['sample_id']}: {_short(example['input'])} "
        f"answered {_short(example['answer'])}, right is {_short(example['target'])}"
        f"{_seen(cause['cause'], example['gave'])}"
        for candidate in candidates
        for cause in candidate["diagnosis"]
        for example in cause["examples"]
    ]
    return _list("## Failures to look at", lines)


def _seen(cause: str, gave: str) -> str:
    """What the look into a failure saw; nothing where it saw nothing."""
    if not gave:
        return ""
    return f"; {_SEEN.get(cause, 'asked another way, it answered')} {_short(gave)}"


def _costs(candidate: Mapping[str, Any]) -> tuple[str, ...]:
    fit, evaluation = candidate["fit"], candidate["evaluation"]
    return (
        candidate["id"],
        _number(fit["usd"], "{:.4f}"),
        f"{fit['seconds']:.0f}",
        _number(evaluation["usd"], "{:.4f}"),
        f"{evaluation['seconds']:.0f}",
        str(fit["requests"] + evaluation["requests"]),
    )


def _foreseen(report: Mapping[str, Any]) -> list[str]:
    sentence, rows = foreseen_sentence(report), foreseen_rows(report)
    return [*([_escaped(sentence)] if sentence else []), *([_table(FORESEEN_HEAD, rows)] if rows else [])]


def _short(text: str | None) -> str:
    """A text in quotes and in one line, cut where a list would become unreadable."""
    line = " ".join((text or "nothing").split())
    return f"“{line if len(line) <= 100 else line[:99] + '…'}”"


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)


def _escalation(escalation: Mapping[str, Any] | None) -> list[str]:
    if escalation is None:
        return []
    lines = [f"{escalation['decision'].replace('_', ' ').capitalize()}. {escalation['reason']}"]
    lines += teaching.told(escalation.get("teaching"))
    return ["## Fine-tuning", "\n".join(_escaped(line) for line in lines)]


def _money(report: Mapping[str, Any]) -> list[str]:
    bills, assumed = money.bill_rows(report), money.assumption_rows(report)
    parts = []
    if bills:
        parts += [f"## {money.BILLS_TITLE}", money.bills_note(report), _table(money.BILLS_HEAD, bills)]
    if assumed:
        parts += [f"## {money.ASSUMPTIONS_TITLE}", _table(money.ASSUMPTIONS_HEAD, assumed)]
    return parts


def _trainings(report: Mapping[str, Any]) -> list[str]:
    rows = tuned.rows(report)
    return [f"### {tuned.TITLE}", _table(tuned.head(report), rows), tuned.NOTE] if rows else []


def _mistakes(report: Mapping[str, Any]) -> list[str]:
    errors = mistakes.errors_of(report)
    if errors is None:
        return []
    tables = (
        (mistakes.CLUSTER_HEAD, mistakes.cluster_rows(errors)),
        (mistakes.CLASS_HEAD, mistakes.class_rows(errors)),
        (mistakes.PAIR_HEAD, mistakes.pair_rows(errors)),
    )
    return [
        *_list(f"### {mistakes.TITLE}", mistakes.sentences(errors)),
        *(_table(head, rows) for head, rows in tables if rows),
    ]


def _paragraph(sentences: Sequence[str]) -> str:
    return "\n".join([f"**{_escaped(sentences[0])}**", "", *(f"- {_escaped(sentence)}" for sentence in sentences[1:])])


def _list(title: str, entries: Sequence[str]) -> list[str]:
    return [title, "\n".join(f"- {_escaped(entry)}" for entry in entries)] if entries else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Text from users and models must not become markup."""
    quoted = re.sub(r"([\\|`*_\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
    return " ".join(quoted.split())


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)
