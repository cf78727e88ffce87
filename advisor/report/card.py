"""The model card of a tuned model, written beside its adapter: what it is, what it was made from, what it reached.

Sections follow Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993), as far as a run knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from advisor.workspace import Workspace

FILE = "README.md"


def write_card(workspace: Workspace, report: Mapping[str, Any]) -> None:
    """Write the card into the adapter's folder when the run tuned a model. Raises WorkspaceError."""
    escalation = report["escalation"]
    if escalation is None or escalation["tuned"] is None:
        return
    folder = workspace.adapters / escalation["tuned"]["adapter"]
    if folder.is_dir():
        workspace.write(folder / FILE, card(report))


def card(report: Mapping[str, Any]) -> str:
    """The card of the tuned model of a report, as Markdown with the metadata that model hubs read."""
    escalation, scenario = report["escalation"], report["scenario"]
    tuned = escalation["tuned"]
    row = next(candidate for candidate in report["candidates"] if candidate["id"] == tuned["candidate"])
    head = {"base_model": tuned["base"], "library_name": "peft", "tags": ["lora", "advisor"]}
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
            f"# {tuned['model']}",
            "",
            f"A LoRA adapter of `{tuned['base']}` for the task `{scenario['name']}`, made by advisor in run "
            f"{report['run_id']}. Its licence follows from that of the base model and of the training data; neither is "
            "known to advisor.",
            "",
            "## Training",
            "",
            f"{scenario['n_train']} samples ({tuned['trained_tokens']:,} tokens over all epochs), "
            f"{tuned['seconds']:.0f} s, seed {report['seed']}. Scenario hash `{scenario['hash']}`. Recipe:",
            "",
            *(f"- {name}: {value}" for name, value in tuned["recipe"].items()),
            "",
            "## Results",
            "",
            *(f"- {line}" for line in _results(row, escalation)),
            "",
            "Scores are of this task only; the report of the run has the intervals, the samples and their answers.",
            "",
        ]
    )


def _results(row: Mapping[str, Any], escalation: Mapping[str, Any]) -> list[str]:
    tuned, probe, parity = escalation["tuned"], escalation["forgetting"], escalation["parity"]
    lines = [f"{row['status']} on {row['n']} test samples, mean {_shown(row['mean_score'])}"]
    if row["score"] is not None:
        lines[0] += f" (interval {row['score']['low']:.3f} to {row['score']['high']:.3f})"
    lines.append(f"dev: {_shown(tuned['dev_score'])}; best without training: {_shown(tuned['best_dev_score_before'])}")
    if probe is not None:
        lines.append(f"{probe['n']} general questions: {probe['before']:.3f} before, {probe['after']:.3f} after")
    if parity is not None:
        lines.append(
            f"{', '.join(parity['forms'])}: {parity['differing']} of {parity['prompts']} answers differ, logits by "
            f"{parity['largest_logit_difference']:.2g} at most"
        )
    return lines


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
