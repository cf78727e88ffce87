"""Fine-tunes of the default model on public data: what is won, what is forgotten, and what was forecast.

Each scenario is run by `compare`, as a user would run it: zero-shot, prompts with examples, a fine-tune of all layers
and one of the upper third. A scenario whose run is finished in the workspace is read from there, one that was
interrupted goes on.

    python -m benchmarks.fine_tunes [--workspace DIR] [--limit N] [SCENARIO...]

SCENARIO is a name below `benchmarks/scenarios`; without any, all of SCENARIOS. `--limit N` tries the whole way in
small: at most N test and dev samples and questions of a probe, and 4 N train samples (pilots need 200 and 30 on dev).
Data come from ADVISOR_DATA (default `../shared/data`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from advisor import engine
from advisor.events import Event, Fitting, Piloting, Stands
from advisor.report import tuned
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides, Scenario
from advisor.workspace import Workspace
from evals.cache import store_path
from evals.scorers.base import ModelScorer
from evals.store import RunRow, Store

HERE = Path(__file__).parent
SCENARIOS = ("banking77_tuned", "snips_slots", "wikisql_short", "disflqa_rewrite")
_OVERRIDES = Overrides(seed=1, diagnose=False)
_NONE = "-"


def main() -> None:
    """Print one table a scenario as it is done, and all of them as one at the end."""
    options = _options()
    # Scenarios in small lie elsewhere, from where the relative default leads nowhere.
    os.environ.setdefault("ADVISOR_DATA", str((HERE / "../../shared/data").resolve()))
    rows: list[tuple[str, ...]] = []
    for name in options.scenarios or SCENARIOS:
        path = HERE / "scenarios" / name
        path = (
            path if options.limit is None else _small(path, options.workspace / f"small-{options.limit}", options.limit)
        )
        report = _report(path, options.workspace)
        found = _rows(name, report)
        _table(_head(report), found)
        _copying(load_scenario(path, _OVERRIDES))
        rows += found
    print("## All\n")
    _table(_head(report), rows)
    print(f"Score: on test, with an interval that holds for all candidates of a scenario together. {tuned.NOTE}")


def _report(path: Path, workspace: Path) -> Mapping[str, Any]:
    """The report of a finished run of the scenario, one that goes on from where it was interrupted, or a new one."""
    former = _former(load_scenario(path, _OVERRIDES), workspace)
    if former is None or former.status != "done":
        resume = None if former is None else former.id
        return engine.compare(path, workspace, _OVERRIDES, _Progress(), resume).report
    report: Mapping[str, Any] = json.loads(
        (Workspace(workspace).run_folder(former.id) / "report.json").read_text("utf-8")
    )
    return report


def _former(scenario: Scenario, workspace: Path) -> RunRow | None:
    """The newest comparison of this very scenario in the workspace."""
    if not store_path(workspace).is_file():
        return None
    with Store.open(store_path(workspace)) as store:
        same = [run for run in store.runs() if (run.kind, run.scenario_hash) == ("compare", scenario.hash)]
    return same[-1] if same else None


def _small(path: Path, folder: Path, limit: int) -> Path:
    """The scenario on a few samples, written anew."""
    said = yaml.safe_load((path / "scenario.yaml").read_text("utf-8"))
    said["data"]["limit"] = {"train": 4 * limit, "dev": limit, "test": limit}
    for probe in said["fine_tune"]["probe"]:
        probe["limit"] = limit
    small = folder / path.name / "scenario.yaml"
    small.parent.mkdir(parents=True, exist_ok=True)
    small.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    return small


def _head(report: Mapping[str, Any]) -> tuple[str, ...]:
    return ("scenario", "candidate", "score", "tokens in + out", *tuned.head(report)[2:])


def _rows(name: str, report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Zero-shot, the prompt with examples that was best on dev, and every fine-tune."""
    trained = {row[0]: row[2:] for row in tuned.rows(report)}
    nothing = (_NONE,) * (len(tuned.head(report)) - 2)
    prompts = [one for one in report["candidates"] if one["id"] not in trained]
    plain = [one for one in prompts if one["technique"] == "zero_shot"]
    shown = [one for one in prompts if one["technique"] != "zero_shot"]
    best = max(shown, key=lambda one: one["dev_score"] or 0.0, default=None)
    tunings = sorted((one for one in report["candidates"] if one["id"] in trained), key=lambda one: str(one["id"]))
    chosen = [*plain, *([best] if best else []), *tunings]
    return [(name, *_measured(one), *trained.get(one["id"], nothing)) for one in chosen]


def _measured(candidate: Mapping[str, Any]) -> tuple[str, str, str]:
    tokens, score = candidate["tokens_per_request"], candidate["score"]
    interval = "" if score is None else f" ({score['low']:.3f} to {score['high']:.3f})"
    mean = candidate["mean_score"]
    return (
        candidate["id"].partition("@")[0],
        _NONE if mean is None else f"{mean:.3f}{interval}, n={candidate['n']}",
        _NONE if tokens["input"] is None else f"{tokens['input']:.0f} + {tokens['output']:.0f}",
    )


def _copying(scenario: Scenario) -> None:
    """What the input itself would score as an answer: the floor of a task that changes texts."""
    assert not isinstance(scenario.scorer, ModelScorer)
    scores = [scenario.scorer(sample.input, sample).value for sample in scenario.task.test]
    if any(scores):
        print(f"The input itself as the answer scores {sum(scores) / len(scores):.3f} (n={len(scores)}).\n", flush=True)


class _Progress:
    """One line on stderr for what takes minutes."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Fitting):
            self._say(f"{event.candidate}: fitting")
        elif isinstance(event, Piloting):
            self._say(f"{event.candidate}: pilot on {event.fraction:.0%} of train")
        elif isinstance(event, Stands):
            self._say(f"{event.candidate}: {event.standing.mean} on {event.standing.n}")

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:6.0f} s  {text}", file=sys.stderr, flush=True)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    print("\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--workspace", type=Path, default=Path(".advisor"))
    parser.add_argument("--limit", type=int, help="a small trial: N test samples, and others to match")
    return parser.parse_args()


if __name__ == "__main__":
    main()
