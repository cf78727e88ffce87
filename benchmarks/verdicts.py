"""Does the ladder say what running everything would say, and for how many trials?

For each scenario: `run`, then `compare` over all candidates and samples in the same workspace (answers are shared),
and a row with both verdicts and the share of test trials that the ladder spent. Data come from ADVISOR_DATA.

    python benchmarks/verdicts.py [WORKSPACE] [SCENARIO...]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advisor import engine
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides

HERE = Path(__file__).parent
SCENARIOS = (
    HERE.parent / "scenarios" / "helpdesk_routing",
    HERE / "scenarios" / "poem_sentiment",
    HERE / "scenarios" / "clinc_domain",
)


def row(path: Path, workspace: Path) -> tuple[str, ...]:
    """One line of the table."""
    ladder = engine.run(path, workspace, Overrides(seed=1)).report
    tested = [candidate["technique"] for candidate in ladder["candidates"] if candidate["n"]]
    cheap = [technique for technique in tested if technique != "fine_tune"]
    scenario = load_scenario(path)
    everything = dict.fromkeys([*(spec.name for spec in scenario.techniques or ()), *cheap, *tested])
    full = engine.compare(path, workspace, Overrides(seed=1, techniques=tuple(everything))).report
    spent, all_trials = (sum(c["n"] for c in report["candidates"]) for report in (ladder, full))
    same = (ladder["verdict"], ladder["pick"]) == (full["verdict"], full["pick"])
    return (
        ladder["scenario"]["name"],
        _said(ladder),
        _said(full),
        "yes" if same else "NO",
        f"{spent} of {all_trials}",
        f"{100 * spent / all_trials:.0f} %",
    )


def _said(report: Mapping[str, Any]) -> str:
    return report["verdict"] if report["pick"] is None else f"pick {report['pick'].partition('@')[0]}"


def main() -> None:
    """Print the table."""
    workspace, *paths = [Path(argument) for argument in sys.argv[1:]] or [Path(".advisor")]
    print("| scenario | run | compare | same | test trials | share |\n|---|---|---|---|---|---|")
    for path in paths or SCENARIOS:
        print("| " + " | ".join(row(path, workspace)) + " |", flush=True)


if __name__ == "__main__":
    main()
