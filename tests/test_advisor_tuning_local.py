"""Tuning with the real trainer on a tiny random model: a pilot that is killed, and a training that goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from advisor import engine
from advisor.events import Tuning
from advisor.scenario.model import Overrides
from backends.errors import InputError
from backends.local import checkpoint
from tests import toys

from .local_models import own_cache, save_model  # noqa: F401

RECIPE = {"rank": 4, "epochs": 2, "batch_size": 10, "learning_rate": 0.01, "dtype": "float32"}
PLAIN = Overrides(diagnose=False)
KILLED_AT = 12
"""Step of the second pilot, of 20: its first epoch is in a checkpoint, its second is under way."""
RUN = """
import sys
from advisor import engine
from advisor.events import Tuning
from advisor.scenario.model import Overrides

def observe(event):
    if isinstance(event, Tuning) and event.progress.steps == 20:
        print(event.progress.step, flush=True)
        if event.progress.step == int(sys.argv[3]):
            sys.stdin.read()

engine.tune(sys.argv[1], sys.argv[2], Overrides(diagnose=False), observe)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"), num_hidden_layers=1)


def scenario(folder: Path, base: Path, n_train: int = 200, **changes: Any) -> Path:
    model = f"local/{base}"
    path = toys.scenario(
        folder,
        model,
        n_test=3,
        models=[model],
        techniques=["zero_shot"],
        hosting={"usd_per_hour": 1.0},
        fine_tune={"when": "always", "backend": "local", "base": model, "recipe": RECIPE, **changes},
    )
    probe = [{"input": "Is snow white?", "target": "yes"}, {"input": "Is coal white?", "target": "no"}]
    (folder / "probe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in probe), encoding="utf-8")
    text = path.read_text("utf-8").replace("  backend: local\n", "  backend: local\n  probe: probe.jsonl\n")
    path.write_text(text, encoding="utf-8")
    for split, n in (("train", n_train), ("dev", 30)):
        lines = [json.dumps(row) for row in toys.rows(split, n)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def adapters(workspace: Path) -> dict[str, bytes]:
    return {
        path.parent.name: path.read_bytes() for path in (workspace / "adapters").glob("*/adapter_model.safetensors")
    }


def printed(process: subprocess.Popen[bytes]) -> Iterator[int]:
    assert process.stdout is not None
    for line in process.stdout:
        yield int(line)


def test_a_killed_pilot_is_completed_to_the_same_bits(base: Path, tmp_path: Path) -> None:
    path = scenario(tmp_path / "s", base)
    whole = engine.tune(path, tmp_path / "whole", PLAIN).report
    workspace = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(path), str(workspace), str(KILLED_AT)],
        # The same bits need the same number of threads.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert KILLED_AT in printed(process)
    finally:
        process.kill()
        process.communicate()
    assert len(adapters(workspace)) == 1, "the first pilot is whole"
    (left,) = (workspace / "adapters").glob(f"*/{checkpoint.FILE}")
    assert not (left.parent / "tuned.json").exists()
    (run,) = (workspace / "runs").iterdir()
    steps: list[tuple[int, int]] = []

    def observe(event: Any) -> None:
        if isinstance(event, Tuning):
            steps.append((event.progress.steps, event.progress.step))

    resumed = engine.tune(path, workspace, observe=observe, resume=run.name).report
    assert steps[0] == (20, 11), "the first pilot is not trained again, the second goes on after its first epoch"
    assert len(adapters(workspace)) == 3
    assert adapters(workspace) == adapters(tmp_path / "whole")
    for key in ("fraction", "samples", "score", "n_dev"):
        assert [run[key] for run in resumed["escalation"]["pilot"]] == [
            run[key] for run in whole["escalation"]["pilot"]
        ]
    assert resumed["escalation"]["forecast"] == whole["escalation"]["forecast"]


def test_a_training_goes_on_from_an_adapter_of_a_former_run(base: Path, tmp_path: Path) -> None:
    path = scenario(tmp_path / "s", base, n_train=60)
    workspace = tmp_path / "w"
    first = engine.tune(path, workspace, PLAIN).report
    scenario(tmp_path / "s", base, n_train=90)
    on = Overrides(diagnose=False, continues=first["run_id"])
    second = engine.tune(path, workspace, on).report["escalation"]
    assert second["former"]["start"] == "adapter"
    assert (second["former"]["new_samples"], second["former"]["n"]) == (30, 3)
    losses = [report["tuned"]["losses"][0][1] for report in (first["escalation"], second)]
    assert losses[1] < losses[0] / 2, "it begins where the former training ended"
    record = json.loads((workspace / "adapters" / second["tuned"]["adapter"] / "tuned.json").read_text("utf-8"))
    assert record["start"] == first["escalation"]["tuned"]["model"]
    # Another rank: afresh unless the adapter is asked for.
    scenario(tmp_path / "s", base, n_train=90, recipe=RECIPE | {"rank": 8})
    third = engine.tune(path, workspace, on).report["escalation"]
    assert third["former"]["start"] == "base"
    assert "rank is 8 here and 4 there" in third["former"]["sentence"]
    asked = Overrides(diagnose=False, continues=first["run_id"], start="adapter")
    with pytest.raises(InputError, match=r"Write rank: 4, alpha: 8, or start afresh with --from base"):
        engine.tune(path, workspace, asked)


def test_a_sample_longer_than_the_window_is_named_by_its_id_in_one_message(base: Path, tmp_path: Path) -> None:
    path = scenario(tmp_path / "s", base, n_train=60)
    rows = [json.loads(line) for line in (path.parent / "train.jsonl").read_text("utf-8").splitlines()]
    rows[7]["input"] += " word" * 300
    (path.parent / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"^train sample 'train-0007': has \d+ tokens; the model's context window holds"
    ):
        engine.tune(path, tmp_path / "w", PLAIN)
