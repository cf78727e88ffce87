"""`advisor tune --continue`: what it starts from, what it refuses, and how the new model stands against the former."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from advisor import engine
from advisor.cli.app import app
from advisor.report.markdown import markdown
from advisor.scenario.model import Overrides
from advisor.techniques.fine_tune import FittedFineTune
from advisor.tuning import former
from backends.errors import InputError, Problem
from evals.store import Store
from tests import toys

SCHEMA = json.loads((Path(engine.__file__).parent / "report" / "schema.json").read_text("utf-8"))
PLAIN = Overrides(diagnose=False)


def write(folder: Path, split: str, rows: list[dict[str, str]]) -> None:
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def train_rows(rivers: int) -> list[dict[str, str]]:
    """Train rows of which so many are about rivers: without any the model cannot know the label."""
    others = [row for row in toys.rows("train", 60) if row["target"] != "river"]
    return others + [row for row in toys.rows("more", 300) if row["target"] == "river"][:rivers]


def scenario(folder: Path, **changes: Any) -> Path:
    """A task of whose three labels train teaches two."""
    folder.mkdir(parents=True, exist_ok=True)
    model = toys.script(folder, "model", toys.rules(0.3, seed=3))
    path = toys.scenario(folder, model, techniques=["zero_shot"], **changes)
    write(folder, "train", train_rows(0))
    return path


@pytest.fixture
def before(tmp_path: Path) -> tuple[Path, Path, str]:
    """A scenario, a workspace and the run that tuned on it."""
    path = scenario(tmp_path / "s")
    run = engine.tune(path, tmp_path / "w", PLAIN).report["run_id"]
    return path, tmp_path / "w", str(run)


def go_on(path: Path, workspace: Path, run: str, start: str | None = None, **options: Any) -> dict[str, Any]:
    overrides = Overrides(diagnose=False, continues=run, start=start)
    return dict(engine.tune(path, workspace, overrides, **options).report)


@pytest.mark.parametrize("start", [None, "base"])
def test_new_data_are_learnt_and_both_models_are_compared_on_the_same_samples(
    before: tuple[Path, Path, str], start: str | None
) -> None:
    path, workspace, run = before
    write(path.parent, "train", train_rows(30))
    report = go_on(path, workspace, run[:-1], start)
    jsonschema.validate(report, SCHEMA)
    found = report["escalation"]["former"]
    assert (found["run_id"], found["start"]) == (run, start or "adapter")
    assert (found["samples"], found["new_samples"], found["n"]) == (70, 30, 120)
    assert found["before"] == pytest.approx(2 / 3)
    assert found["now"] > 0.95
    assert found["difference"] == pytest.approx(found["now"] - found["before"])
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["p_value"] < 1e-6
    assert (found["won"], found["lost"]) == (40, 0)
    assert "The new model is better (p = " in found["sentence"]
    assert found["sentence"] in report["escalation"]["reason"]
    assert f"of run {run}" in markdown(report)
    tuned = report["escalation"]["tuned"]
    assert (tuned["start"] == found["model"]) == (start is None)
    card = (workspace / "adapters" / tuned["adapter"] / "README.md").read_text("utf-8")
    assert (f"The training went on from `{found['model']}`." in card) == (start is None)


def test_starting_from_the_adapter_keeps_what_only_the_former_model_was_taught(
    before: tuple[Path, Path, str],
) -> None:
    path, workspace, run = before
    write(path.parent, "train", [row for row in train_rows(30) if row["target"] != "metal"])
    from_adapter = go_on(path, workspace, run)["escalation"]["former"]
    afresh = go_on(path, workspace, run, "base")["escalation"]["former"]
    assert from_adapter["now"] > 0.95
    assert afresh["now"] == pytest.approx(2 / 3)
    assert "No difference is proved" in afresh["sentence"]


def test_the_former_model_is_asked_about_present_samples_and_seen_by_no_verdict(
    before: tuple[Path, Path, str],
) -> None:
    path, workspace, run = before
    write(path.parent, "test", toys.rows("test", 90) + toys.rows("fresh", 30))
    write(path.parent, "train", train_rows(30))
    report = go_on(path, workspace, run)
    tuned = next(one for one in report["candidates"] if one["technique"] == "fine_tune")
    assert (tuned["n"], report["escalation"]["former"]["n"]) == (120, 120)
    assert tuned["evaluation"]["requests"] == 120 + 15 + 2 * 64 + 120
    with Store.open(workspace / "advisor.db") as store:
        variants = {trial.variant for trial in store.trials(report["run_id"], tuned["id"], "test")}
    assert variants == {"", f"former: {run}"}


def test_a_killed_continued_run_goes_on_and_asks_nothing_twice(before: tuple[Path, Path, str]) -> None:
    path, workspace, run = before
    write(path.parent, "train", train_rows(30))
    other = workspace.with_name("other")
    shutil.copytree(workspace, other)
    for state in (other / "runs" / run / "fitted").glob("*/fitted.json"):
        state.write_text(state.read_text("utf-8").replace(str(workspace), str(other)), encoding="utf-8")
    whole = go_on(path, other, run)

    class Killed(BaseException):
        pass

    def kill(event: Any) -> None:
        if getattr(getattr(event, "trial", None), "variant", "").startswith("former: "):
            raise Killed

    with pytest.raises(Killed):
        go_on(path, workspace, run, observe=kill)
    (new,) = [folder.name for folder in (workspace / "runs").iterdir() if folder.name != run]
    resumed = engine.tune(path, workspace, resume=new).report
    for report in (resumed, whole):
        report["escalation"]["tuned"].pop("adapter")
    assert resumed["escalation"] == whole["escalation"]
    assert go_on(path, workspace, run, resume=new)["escalation"]["former"] == resumed["escalation"]["former"]
    with pytest.raises(InputError, match="keeps its own options"):
        go_on(path, workspace, run, "base", resume=new)


def test_what_a_run_was_taught_is_handed_on(before: tuple[Path, Path, str]) -> None:
    path, workspace, run = before
    write(path.parent, "train", train_rows(30))
    middle = go_on(path, workspace, run)["run_id"]
    # A row that only the first run was taught, now a test sample.
    first = toys.rows("train", 60)[0]
    write(path.parent, "train", train_rows(40)[1:])
    write(path.parent, "test", [*toys.rows("test", 30), first | {"id": "moved"}])
    with pytest.raises(InputError, match="1 in its train split"):
        go_on(path, workspace, middle)


# --- what is refused ------------------------------------------------------------------------------------------------


def refused(path: Path, workspace: Path, run: str, message: str, start: str | None = None) -> None:
    known = sorted((workspace / "runs").iterdir()) if workspace.exists() else []
    with pytest.raises(InputError, match=message) as caught:
        go_on(path, workspace, run, start)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].remedy
    assert (sorted((workspace / "runs").iterdir()) if workspace.exists() else []) == known, "no half-begun run is left"


def test_a_run_that_is_none_or_tuned_nothing_is_refused(before: tuple[Path, Path, str], tmp_path: Path) -> None:
    path, workspace, _ = before
    refused(path, workspace, "2020", "there is no run '2020'")
    refused(path, tmp_path / "nowhere", "2020", "there is no workspace here")
    assert not (tmp_path / "nowhere").exists()
    plain = engine.compare(path, workspace, PLAIN).report["run_id"]
    refused(path, workspace, plain, "the run has no tuned model")


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("start", [None, "base"])
def test_a_test_sample_that_the_former_run_saw_is_refused(
    before: tuple[Path, Path, str], split: str, start: str | None
) -> None:
    path, workspace, run = before
    seen = [json.loads(line) for line in (path.parent / f"{split}.jsonl").read_text("utf-8").splitlines()]
    moved, kept = seen[:2], seen[2:]
    write(path.parent, split, kept)
    shouted = [row | {"id": f"moved {row['id']}", "input": row["input"].upper()} for row in moved]
    write(path.parent, "test", [*toys.rows("test", 30), *shouted])
    refused(path, workspace, run, rf"of today's 32 test samples the run had 2 in its {split} split", start)


def test_a_model_of_which_nobody_kept_what_it_was_taught_is_refused(before: tuple[Path, Path, str]) -> None:
    path, workspace, run = before
    (state,) = [
        file for file in (workspace / "runs" / run / "fitted").glob("*/fitted.json") if "seen" in file.read_text()
    ]
    record = json.loads(state.read_text("utf-8"))
    state.write_text(json.dumps({key: value for key, value in record.items() if key not in ("seen", "start")}))
    assert FittedFineTune.load(state.parent).seen == {}, "an old run stays readable"
    refused(path, workspace, run, "nobody kept what")


def test_a_tuned_model_that_is_gone_is_refused(before: tuple[Path, Path, str]) -> None:
    path, workspace, run = before
    shutil.rmtree(workspace / "adapters")
    refused(path, workspace, run, r"the tuned model .* is gone")


def test_an_adapter_that_does_not_fit_is_refused_when_asked_for_and_left_alone_otherwise(
    before: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, workspace, run = before
    write(path.parent, "train", train_rows(30))
    problem = Problem("fine_tune recipe", "has another shape.", "Write rank: 4.")
    monkeypatch.setattr(former.backends, "start_problem", lambda *asked: problem)
    refused(path, workspace, run, "has another shape", "adapter")
    found = go_on(path, workspace, run)["escalation"]["former"]
    assert found["start"] == "base"
    assert "started afresh, not from the tuned model" in found["sentence"]
    assert "(fine_tune recipe: has another shape)" in found["sentence"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "base"], "which run. Name one with --continue RUN"),
        (["--continue", "2020", "--from", "scratch"], "'scratch'; a training starts from `adapter` or `base`"),
    ],
)
def test_the_options_are_checked_before_anything_is_made(tmp_path: Path, options: list[str], message: str) -> None:
    path = scenario(tmp_path / "s")
    done = CliRunner().invoke(app, ["tune", str(path), "--workspace", str(tmp_path / "w"), *options])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert not (tmp_path / "w").exists()


def test_last_is_the_newest_run_of_the_scenario_with_a_tuned_model(before: tuple[Path, Path, str]) -> None:
    path, workspace, run = before
    never = Overrides(diagnose=False, techniques=("zero_shot",))
    engine.compare(path, workspace, never)
    other = scenario(workspace.parent / "other", name="other")
    with pytest.raises(InputError, match=r"no run with a tuned model of other\. Tune afresh: advisor tune .*other"):
        go_on(other, workspace, "last")
    write(path.parent, "train", train_rows(30))
    report = go_on(path, workspace, "last")
    assert report["escalation"]["former"]["run_id"] == run
    again = engine.tune(path, workspace, Overrides(diagnose=False, continues="last"), resume=report["run_id"]).report
    assert again["escalation"]["former"] == report["escalation"]["former"], "it means what it meant when the run began"


def test_the_command_line_goes_on_from_a_run(before: tuple[Path, Path, str]) -> None:
    path, workspace, run = before
    write(path.parent, "train", train_rows(30))
    where = ["--workspace", str(workspace), "--no-diagnose", "--quiet"]
    done = CliRunner().invoke(app, ["tune", str(path), "--continue", run, *where])
    assert done.exit_code == 0, done.output
    with Store.open(workspace / "advisor.db") as store:
        assert [row.options["continues"] for row in store.runs() if row.id != run] == [run]
