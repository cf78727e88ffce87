"""The model card of a tuned model, written beside its adapter: what it is, what it was made from, what it reached.

Sections follow Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993), as far as a run knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from advisor.report.teaching import learnt_from, told
from advisor.report.tuned import trainings
from advisor.workspace import Workspace
from backends.wording import counted

FILE = "README.md"


def write_card(workspace: Workspace, report: Mapping[str, Any]) -> None:
    """Write a card into the adapter's folder of every model that the run tuned. Raises WorkspaceError."""
    for training in trainings(report):
        if training["tuned"] is not None:
            folder = workspace.adapters / training["tuned"]["adapter"]
            if folder.is_dir():
                workspace.write(folder / FILE, card(report, training))


def card(report: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """The card of one tuned model of a report, as Markdown with the metadata that model hubs read."""
    scenario, tuned, taught = report["scenario"], training["tuned"], training.get("teaching")
    row = next(candidate for candidate in report["candidates"] if candidate["id"] == tuned["candidate"])
    is_hosted = bool(tuned.get("hosted"))
    library = {} if is_hosted else {"library_name": "peft"}
    head = {"base_model": tuned["base"], **library, "tags": ["advisor"] if is_hosted else ["lora", "advisor"]}
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
            f"# {tuned['model']}",
            "",
            f"{'A model tuned at its provider from' if is_hosted else 'A LoRA adapter of'} `{tuned['base']}` for the "
            f"task `{scenario['name']}`, made by advisor in run {report['run_id']}. Its licence follows from that of "
            "the base model and of the training data; neither is known to advisor.",
            "",
            "## Training",
            "",
            f"{counted(learnt_from(scenario, taught), 'sample')} ({tuned['trained_tokens']:,} tokens over all epochs), "
            f"{tuned['seconds']:.0f} s, seed {report['seed']}. Scenario hash `{scenario['hash']}`. Recipe:",
            "",
            *(f"- {name}: {value}" for name, value in tuned["recipe"].items()),
            "",
            *((f"The training went on from `{tuned['start']}`.", "") if tuned.get("start") else ()),
            *(line for note in tuned.get("notes", ()) for line in (note, "")),
            *(line for sentence in told(taught) for line in (sentence, "")),
            "## Results",
            "",
            *(f"- {line}" for line in _results(row, training)),
            "",
            "Scores are of this task only; the report of the run has the intervals, the samples and their answers.",
            "",
        ]
    )


def _results(row: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    tuned, parity = training["tuned"], training["parity"]
    lines = [f"{row['status']} on {counted(row['n'], 'test sample')}, mean {_shown(row['mean_score'])}"]
    if row["score"] is not None:
        lines[0] += f" (interval {row['score']['low']:.3f} to {row['score']['high']:.3f})"
    lines.append(f"dev: {_shown(tuned['dev_score'])}; best without training: {_shown(tuned['best_dev_score_before'])}")
    lines += [
        f"{counted(probe['n'], 'question')} ({probe['probe']}): "
        f"{probe['before']:.3f} before, {probe['after']:.3f} after"
        for probe in training["probes"]
    ]
    if parity is not None:
        lines.append(
            f"{', '.join(parity['forms'])}: {parity['differing']} of {parity['prompts']} answers differ, logits by "
            f"{parity['largest_logit_difference']:.2g} at most"
        )
    return lines


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
