"""report.md: the report for people, readable as plain text and on any code host."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_VERDICTS = {
    "pick": "Use {pick}",
    "escalate": "No candidate meets the target",
    "inconclusive": "Undecided: nothing could be shown to meet the target",
}


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
        *_escalation(report["escalation"]),
        *_list("## Left out", [f"{one['technique']}: {one['reason']}" for one in report["left_out"]]),
        *_list("## Risks", [risk["text"] for risk in report["risks"]]),
        *_list("## Next steps", report["next_steps"]),
        "## How this was measured",
        (
            f"Target {report['goal']['target']}, confidence {report['goal']['confidence']}, margin "
            f"{report['goal']['margin']}; {scenario['n_train']} train, {scenario['n_dev']} dev, {scenario['n_test']} "
            f"test samples; seed {report['seed']}. {spent['requests']} requests, {spent['cached_requests']} more from "
            f"the cache, {_number(spent['usd'], '${:.4f}')}, {spent['seconds']:.0f} s. Run {report['run_id']}."
        ),
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
        "-" if score is None else f"{score['low']:.3f}-{score['high']:.3f}",
        _number(candidate["usd_per_1k_requests"], "{:.4f}") if tokens["input"] is not None else "-",
        "-" if candidate["seconds"]["p50"] is None else f"{candidate['seconds']['p50']:.2f}",
        "-" if tokens["input"] is None else f"{tokens['input']:.0f}+{tokens['output']:.0f}",
        str(candidate["errors"]),
    )


def _escalation(escalation: Mapping[str, Any] | None) -> list[str]:
    if escalation is None:
        return []
    lines = [f"{escalation['decision'].replace('_', ' ').capitalize()}. {escalation['reason']}"]
    tuned = escalation["tuned"]
    if tuned is not None:
        lines.append(
            f"{tuned['model']}: {tuned['trained_tokens']:,} tokens in {tuned['seconds']:.0f} s, "
            f"{_number(tuned['cost_usd'], '${:.4f}')}."
        )
    return ["## Fine-tuning", "\n".join(_escaped(line) for line in lines)]


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
