"""Every cheap technique on public data with the default model: what it reaches, what it costs, why it falls short.

Each scenario is run by `compare`, as a user would run it; answers come from the workspace's cache where it has them.

    python -m benchmarks.techniques [--workspace DIR] [--limit N] [--no-diagnose] [SCENARIO...]

SCENARIO is a name below `benchmarks/scenarios`; without any, all of SCENARIOS and the retrieval figures are printed.
Data come from ADVISOR_DATA (default `../shared/data`).
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advisor import engine
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides, Scenario
from benchmarks.rungs import calls, retrieval, vectors
from evals.cache import store_path
from evals.store import Store

HERE = Path(__file__).parent
SCENARIOS = ("xquad_rag", "hotpot_multihop", "snips_calls", "banking77_10", "svamp_math")


def main() -> None:
    """Print the tables."""
    options = _options()
    if not options.scenarios:
        asyncio.run(retrieval.main())
        vectors.main()
    for name in options.scenarios or SCENARIOS:
        section(name, options.workspace, Overrides(seed=1, limit=options.limit, diagnose=options.diagnose))


def section(name: str, workspace: Path, overrides: Overrides) -> None:
    """One scenario: candidates, pairs, steps, retrieval, causes."""
    path = HERE / "scenarios" / name
    report = engine.compare(path, workspace, overrides).report
    candidates = report["candidates"]
    print(f"\n## {name}: {candidates[0]['n']} test samples\n")
    heads = ("candidate", "score", "interval", "dev", "in+out tokens", "$/1k", "p50 s", "errors", "fit s", "eval s")
    _table(heads, [_row(candidate) for candidate in candidates])
    pairs = [
        (p["a"], p["b"], f"{p['difference']:+.3f}", f"{p['low']:+.3f} to {p['high']:+.3f}")
        for p in report["comparisons"]
    ]
    _table(("a", "b", "a - b", "interval"), pairs)
    found = [(c["id"], c["retrieval"]) for c in candidates if c["retrieval"]]
    _table(("candidate", "retrieval"), [(one, _figures(quality)) for one, quality in found])
    causes = [(c["id"], d["cause"], f"{d['share']:.2f}", d["evidence"]) for c in candidates for d in c["diagnosis"]]
    _table(("candidate", "cause", "share", "evidence"), causes)
    scenario = load_scenario(path, overrides)
    if scenario.task.tools is not None and scenario.task.tools.source is None:
        _valid_calls(scenario, workspace, report)


def _valid_calls(scenario: Scenario, workspace: Path, report: Mapping[str, Any]) -> None:
    """The share of answers that are calls the tools' schemas accept."""
    assert scenario.task.tools is not None
    with Store.open(store_path(workspace)) as store:
        rows = []
        for candidate in report["candidates"]:
            trials = store.trials(report["run_id"], candidate["id"], "test", variant="")
            share = calls.valid_share(trials, scenario.task.tools)
            rows.append((candidate["id"], f"{100 * share:.1f} %"))
    _table(("candidate", "schema-valid calls"), rows)


def _row(candidate: Mapping[str, Any]) -> tuple[str, ...]:
    score, tokens = candidate["score"], candidate["tokens_per_request"]
    return (
        candidate["id"],
        _number(candidate["mean_score"]),
        "-" if score is None else f"{score['low']:.2f} to {score['high']:.2f}",
        _number(candidate["dev_score"]),
        "-" if tokens["input"] is None else f"{tokens['input']:.0f}+{tokens['output']:.0f}",
        _number(candidate["usd_per_1k_requests"], "{:.4f}"),
        _number(candidate["seconds"]["p50"], "{:.2f}"),
        str(candidate["errors"]),
        f"{candidate['fit']['seconds']:.0f}",
        f"{candidate['evaluation']['seconds']:.0f}",
    )


def _number(value: float | None, form: str = "{:.3f}") -> str:
    return "-" if value is None else form.format(value)


def _figures(quality: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in quality.items()
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
        print("\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--workspace", type=Path, default=Path(".advisor"))
    parser.add_argument("--limit", type=int, help="test samples of each scenario; default all")
    parser.add_argument("--no-diagnose", dest="diagnose", action="store_false", help="leave the causes out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
