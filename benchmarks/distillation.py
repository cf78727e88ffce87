"""A teacher and its student on groups of ten intents of Banking77: nearest neighbours label, a LoRA fine-tune learns.

Ten intents have 80 train, 30 dev and 40 test messages in the data at hand, too few for a narrow interval; so every
group of ten is a task of its own, and figures are pooled. Each has 20 labelled messages and 60 unlabelled ones, whose
labels only this script reads, afterwards, to say how right the lessons were.

    python -m benchmarks.distillation [--workspace DIR] [--groups 0,1,2] [--answers N] [--gold]

`--gold` also tunes on the gold labels of all 80 messages: what the student could have become with a perfect teacher.
Data come from ADVISOR_DATA (default `../shared/data`).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from advisor import engine
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides
from evals.cache import store_path
from evals.statistics.display import score_interval
from evals.statistics.paired import compare_pair
from evals.store import Store

HERE = Path(__file__).parent
SCENARIO = HERE / "scenarios" / "banking77_distil" / "scenario.yaml"
_GROUP = 10
_SEED = 1


@dataclass(frozen=True, slots=True)
class Group:
    """Ten intents, and how they are taught."""

    number: int
    names: Sequence[str]
    workspace: Path
    answers: int


@dataclass(frozen=True, slots=True)
class Found:
    """What one group gave. Scores have shape (test samples,)."""

    group: int
    report: Mapping[str, Any]
    teacher: list[float]
    student: list[float]
    lessons: list[tuple[bool, int]]
    """Of each input: whether the teacher's first answer was right, and how many answers agreed before one did not."""
    gold: float | None


def main() -> None:
    """Print a row for each group and the pooled figures."""
    options = _options()
    data = Path(os.environ.setdefault("ADVISOR_DATA", str((HERE / "../../shared/data").resolve()))) / "banking77"
    labels = json.loads((data / "labels.json").read_text("utf-8"))
    truth = {row["input"]: row["target"] for row in _rows(data / "train.jsonl")}
    found = []
    for group in options.groups:
        names = labels[group * _GROUP : (group + 1) * _GROUP]
        found.append(_run(Group(group, names, options.workspace, options.answers), truth, options.gold))
        _print(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path(".advisor/distillation"))
    parser.add_argument("--groups", type=lambda text: [int(part) for part in text.split(",")], default=[*range(7)])
    parser.add_argument("--answers", type=int, default=3, help="fine_tune.teacher.answers; 1 filters nothing")
    parser.add_argument("--gold", action="store_true")
    return parser.parse_args()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _run(group: Group, truth: Mapping[str, str], with_gold: bool) -> Found:
    overrides = Overrides(seed=_SEED, diagnose=False)
    runs = group.workspace / "runs"
    report = engine.compare(_scenario(group), runs, overrides).report
    taught = report["escalation"]["teaching"]
    student = report["escalation"]["candidate"]
    with Store.open(store_path(runs)) as store:
        scores = {
            name: {one.sample_id: one.score.value for one in store.trials(report["run_id"], name, "test") if one.score}
            for name in (taught["teacher"], student)
        }
        lessons = _lessons(store, report["run_id"], student, _inputs(group), truth)
    both = sorted(scores[student].keys() & scores[taught["teacher"]].keys())
    gold = _gold(group, overrides) if with_gold else None
    teacher = [scores[taught["teacher"]][one] for one in both]
    return Found(group.number, report, teacher, [scores[student][one] for one in both], lessons, gold)


def _scenario(group: Group, *, taught: bool = True) -> Path:
    """The checked-in scenario with other intents; without a teacher every train message keeps its label."""
    said = yaml.safe_load(SCENARIO.read_text("utf-8"))
    said["data"]["where"] = {"target": list(group.names)}
    said["labels"] = list(group.names)
    head = said["instructions"].partition("The intents are:")[0].strip()
    said["instructions"] = f"{head} The intents are: {', '.join(group.names)}."
    for section, key in ((said["data"], "train"), (said["data"], "dev"), (said["data"], "test")):
        section[key] = f"${{ADVISOR_DATA}}/banking77/{key}.jsonl"
    said["fine_tune"]["teacher"] |= {"inputs": said["data"]["train"], "answers": group.answers}
    said["fine_tune"]["probe"] = {"file": "${ADVISOR_DATA}/boolq_probe/test.jsonl", "limit": 2}  # not looked at here
    said["techniques"] = ["knn_few_shot", "fine_tune"]
    if not taught:
        del said["data"]["limit"], said["fine_tune"]["teacher"]
        said["techniques"] = ["fine_tune"]
    folder = group.workspace / f"group{group.number}{'' if taught else '-gold'}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scenario.yaml").write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    return folder


def _inputs(group: Group) -> dict[str, str]:
    """Inputs of the lessons by id."""
    teacher = load_scenario(_scenario(group)).fine_tune.teacher
    assert teacher is not None
    return {sample.id: sample.input for sample in teacher.inputs.samples}


def _lessons(
    store: Store, run_id: str, student: str, inputs: Mapping[str, str], truth: Mapping[str, str]
) -> list[tuple[bool, int]]:
    """Of each input, whether its first answer was right, and how many answers agreed before one did not."""
    heard = {
        variant: {one.sample_id: one for one in store.trials(run_id, student, "train", f"fit: {variant}")}
        for variant in ("teach", "teach again 1", "teach again 2")
    }
    found = []
    for name, first in heard["teach"].items():
        again = [heard[variant].get(name) for variant in ("teach again 1", "teach again 2")]
        agreed = [one is not None and one.score is not None and one.score.value == 1 for one in again]
        found.append((first.output == truth[inputs[name]], 1 + agreed[0] + (agreed[0] and agreed[1])))
    return found


def _gold(group: Group, overrides: Overrides) -> float | None:
    report = engine.compare(_scenario(group, taught=False), group.workspace / "runs", overrides).report
    score: float | None = next(one["mean_score"] for one in report["candidates"] if one["technique"] == "fine_tune")
    return score


def _print(found: Sequence[Found]) -> None:
    heads = (
        "ten intents",
        "teacher",
        "student",
        "student - teacher",
        "tokens",
        "taught",
        "of them right",
        "gold student",
    )
    rows = [_row(one) for one in found]
    if len(found) > 1:
        rows.append(_pooled(found))
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))
    every = [lesson for one in found for lesson in one.lessons]
    for answers in (1, 2, 3):
        kept = [right for right, agreed in every if agreed >= answers]
        share = sum(kept) / len(kept) if kept else float("nan")
        print(
            f"kept where {answers} of {answers} answers agree: {len(kept)} of {len(every)} lessons, {share:.3f} right"
        )
    print(flush=True)


def _row(one: Found) -> tuple[str, ...]:
    taught = one.report["escalation"]["teaching"]
    right = [right for right, agreed in one.lessons if agreed >= taught["answers"]]
    return (
        f"group {one.group}",
        _interval(one.teacher),
        _interval(one.student),
        _difference(one.student, one.teacher),
        f"{taught['tokens_share']:.3f}",
        f"{taught['n_taught']} of {taught['n_asked']}",
        f"{sum(right)}",
        "-" if one.gold is None else f"{one.gold:.3f}",
    )


def _pooled(found: Sequence[Found]) -> tuple[str, ...]:
    teacher, student = ([score for one in found for score in getattr(one, who)] for who in ("teacher", "student"))
    taught = [one.report["escalation"]["teaching"] for one in found]
    gold = [one.gold for one in found if one.gold is not None]
    return (
        "all",
        _interval(teacher),
        _interval(student),
        _difference(student, teacher),
        f"{np.mean([one['tokens_share'] for one in taught]):.3f}",
        f"{sum(one['n_taught'] for one in taught)} of {sum(one['n_asked'] for one in taught)}",
        f"{sum(right and agreed >= taught[0]['answers'] for one in found for right, agreed in one.lessons)}",
        f"{np.mean(gold):.3f} (n={len(gold)} groups)" if gold else "-",
    )


def _interval(scores: Sequence[float]) -> str:
    found = score_interval(np.array(scores), 0.95, seed=_SEED, groups=[None] * len(scores))
    assert found is not None
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}), n={len(scores)}"


def _difference(student: Sequence[float], teacher: Sequence[float]) -> str:
    pair = compare_pair(np.array(student), np.array(teacher), seed=_SEED)
    return f"{pair.difference:+.3f} ({pair.low:+.3f} to {pair.high:+.3f})"


if __name__ == "__main__":
    main()
