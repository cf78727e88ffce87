"""Loading a scenario: what good ones become, and that each bad input is told with its place and its remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from advisor.scenario.load import Overrides, Scenario, TechniqueSpec, load_scenario
from advisor.scenario.schema import SCHEMA_FILE, schema_text
from backends.errors import InputError, Problem
from evals.task import ChainStep

Rows = list[dict[str, Any]]
LABELS = ["card", "loan", "other"]
BASE: dict[str, Any] = {
    "name": "toy",
    "data": {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"},
    "instructions": "Name the topic.",
    "labels": LABELS,
    "scorer": "exact",
    "models": ["scripted/echo"],
    "goal": {"target": 0.85},
}


def rows(split: str, n: int = 9) -> Rows:
    return [{"id": f"{split}-{k}", "input": f"{split} message {k}", "target": LABELS[k % 3]} for k in range(n)]


def write_rows(path: Path, content: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")


def write(folder: Path, changes: Mapping[str, Any] | None = None, **data: Rows) -> Path:
    """A scenario folder; keys that are None in `changes` are left out, rows of a split may be given."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "dev", "test"):
        write_rows(folder / f"{split}.jsonl", data.get(split, rows(split)))
    content = {key: value for key, value in {**BASE, **(changes or {})}.items() if value is not None}
    (folder / "scenario.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder


def problems(folder: Path, overrides: Overrides | None = None) -> list[str]:
    with pytest.raises(InputError) as raised:
        load_scenario(folder, overrides)
    assert raised.value.exit_code == 2
    return [str(problem) for problem in raised.value.problems]


def test_a_small_scenario_has_defaults_for_everything_else(tmp_path: Path) -> None:
    found = load_scenario(write(tmp_path))
    assert isinstance(found, Scenario)
    assert (found.file, found.folder) == (tmp_path / "scenario.yaml", tmp_path)
    assert [len(found.task.split(split)) for split in ("train", "dev", "test")] == [9, 9, 9]
    assert found.task.labels == tuple(LABELS)
    assert (found.scorer_name, found.scorer.binary) == ("exact", True)
    assert (found.goal.target, found.goal.margin, found.goal.confidence) == (0.85, 0.03, 0.95)
    assert found.traffic.requests_per_month is None
    assert (found.budget.usd, found.budget.minutes) == (None, None)
    assert (found.fine_tune.when, found.fine_tune.backend, found.fine_tune.base) == ("needed", "local", None)
    assert found.techniques is None
    assert (found.task.chain, found.task.documents, found.task.tools, found.probes) == ((), (), None, ())
    assert (found.embedder, found.volatility, found.usd_per_hour) == ("local/all-minilm-l6-v2", "static", None)
    assert [path.name for path in found.files] == ["scenario.yaml", "train.jsonl", "dev.jsonl", "test.jsonl"]
    assert (found.warnings, found.seed) == ((), 1)
    assert load_scenario(tmp_path / "scenario.yaml").hash == found.hash


def test_every_key_arrives(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "description": "Sorts mail.",
            "columns": {"input": "text", "target": "answer"},
            "labels": None,
            "output_schema": "answer.json",
            "scorer": {"name": "json_fields", "strict": True},
            "documents": "docs/",
            "tools": "tools.py",
            "chain": [{"name": "extract", "prompt": "p {input}"}, {"name": "decide", "prompt": "q {extract}"}],
            "knowledge": {"volatility": "daily"},
            "models": ["scripted/echo"],
            "embedder": "scripted/echo",
            "techniques": ["zero_shot", {"name": "few_shot", "k": 3}],
            "goal": {"target": 0.9, "margin": 0.05, "confidence": 0.9, "max_usd_per_1k_requests": 2, "mode": "careful"},
            "traffic": {"requests_per_month": 50000, "months": 6, "usd_per_error": 0.05},
            "budget": {"usd": 20, "minutes": 60},
            "fine_tune": {
                "when": "pays",
                "max_usd": 5,
                "recipe": {"epochs": 2, "learning_rate": 2e-4},
                "pilot": False,
                "probe": "probe.jsonl",
            },
            "hosting": {"usd_per_hour": 1.5},
        },
        **{split: [{"text": f"{split} {k}", "answer": {"topic": "card"}} for k in range(3)] for split in BASE["data"]},
    )
    (folder / "answer.json").write_text('{"type": "object", "required": ["topic"]}', encoding="utf-8")
    (folder / "tools.py").write_text(
        'def add(a: int, b: int) -> int:\n    """Add."""\n    return a + b\n', encoding="utf-8"
    )
    (folder / "probe.jsonl").write_text('{"input": "Which?", "target": "a", "choices": ["a", "b"]}', encoding="utf-8")
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("text", encoding="utf-8")
    found = load_scenario(folder)
    assert found.task.output_schema == '{"required": ["topic"], "type": "object"}'
    assert found.task.test[0].target == '{"topic": "card"}'
    assert found.scorer_name == "json_fields(strict=True)"
    assert [(document.id, document.text) for document in found.task.documents] == [("a.md", "text")]
    assert found.task.tools is not None
    assert found.task.tools.source == folder / "tools.py"
    assert [tool.name for tool in found.task.tools.tools] == ["add"]
    assert found.task.chain == (ChainStep("extract", "p {input}"), ChainStep("decide", "q {extract}"))
    assert [probe.name for probe in found.probes] == ["probe"]
    assert [(one.input, one.metadata["choices"]) for one in found.probes[0].samples] == [("Which?", ["a", "b"])]
    assert found.techniques == (TechniqueSpec("zero_shot", {}), TechniqueSpec("few_shot", {"k": 3}))
    assert found.volatility == "daily"
    assert (found.goal.margin, found.goal.max_usd_per_1k_requests, found.goal.mode) == (0.05, 2, "careful")
    assert (found.traffic.months, found.budget.minutes, found.usd_per_hour) == (6, 60, 1.5)
    assert found.fine_tune.recipe == {"epochs": 2, "learning_rate": 2e-4}
    assert {path.name for path in found.files} > {"answer.json", "tools.py", "a.md"}
    assert found.warnings == ("the tools in tools.py are code of the scenario: they run on this machine.",)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"goal": {"target": 85}}, "goal.target is 85, but scores lie between 0 and 1: write 0.85."),
        ({"goal": {"target": 1}}, "no finite number of samples can prove"),
        ({"goal": {"target": "high"}}, "goal.target is 'high', but must be a number. Write a number without quotes."),
        ({"goal": {"target": 0.98, "margin": 0.03}}, "goal has target 0.98 and margin 0.03, together 1 or more"),
        ({"goal": {"target": 0.8, "confidence": 95}}, "goal.confidence is 95"),
        ({"goal": {"target": 0.8, "max_error_rate": 5}}, "write 0.05."),
        ({"goal": {}}, "goal.target is missing. Add it: Mean score"),
        ({"goal": None}, "goal is missing. Add it"),
        ({"data": None}, "data is missing. Add it"),
        ({"data": {"train": "train.jsonl", "test": "test.jsonl"}}, "data lacks dev. Name three files, or one"),
        ({"data": {"all": "train.jsonl"}}, "data needs both `all` and `split`"),
        ({"data": {"all": "x.csv", "split": [0.5, 0.5, 0.1], "test": "y"}}, "data mixes files"),
        ({"data": {"all": "x.csv", "split": [0.5, 0.5, 0]}}, "data.split[3] is 0, but must be above 0"),
        ({"data": {**BASE["data"], "where": {1: ["x"]}}}, "the key 'data.where.1' is not text. Put it in quotes."),
        ({"data": {**BASE["data"], "where": {"target": "card"}}}, "data.where.target is 'card', but must be a list."),
        ({5: "x"}, "the key '5' is not text."),
        ({"budget": {"usd": None}, "embedder": "x"}, "'x' names no backend"),
        ({"scorer": 3}, "scorer is 3, but must be a mapping of keys"),
        ({"techniques": "all"}, "techniques is 'all', but must be a list"),
        ({"techniques": [{"k": 3}]}, "techniques[1].name is missing"),
        ({"traffic": {"months": float("inf")}}, "traffic.months is inf, but must be a finite number"),
        ({"modls": ["x"]}, "there is no key 'modls'. Did you mean 'models'?"),
        ({"goal": {"target": 0.8, "zzz": 1}}, "there is no key 'goal.zzz'. Known are target, margin"),
        ({"fine_tune": {"when": "yes"}}, "fine_tune.when is 'yes'. Write 'needed', 'pays', 'always' or 'never'."),
        ({"name": "my task"}, "name is 'my task'. Use up to 100 letters"),
        ({"instructions": "  "}, "instructions is empty. Fill it in"),
        ({"labels": ["one"]}, "labels is ['one'], but must be at least 2 long"),
        ({"models": []}, "models is [], but must be at least 1 long"),
        ({"traffic": {"months": -1}}, "traffic.months is -1, but must be above 0."),
        ({"budget": 5}, "budget is 5, but must be a mapping of keys."),
        ({"chain": [{"name": "a"}]}, "chain[1].prompt is missing."),
        ({"chain": [{"name": "a", "prompt": "x"}, {"name": "a", "prompt": "y"}]}, "two steps of the chain"),
        ({"labels": ["card", "loan", "other", "Card"]}, "labels 'card' and 'Card' differ only in case"),
        ({"labels": ["card", "loan", "other", "card"]}, "label 'card' is listed twice."),
        ({"scorer": "exat"}, "there is no scorer 'exat'. Did you mean 'exact'?"),
        ({"scorer": {"name": "exact", "cases": 1}}, "exact has no option 'cases'."),
        ({"scorer": "score.py:f"}, "there is no file 'score.py'"),
        ({"techniques": ["zero_shit"]}, "there is no technique 'zero_shit'. Did you mean 'zero_shot'?"),
        ({"techniques": [{"name": "few_shot", "kk": 1}]}, "few_shot has no parameter 'kk'"),
        ({"techniques": ["zero_shot", "zero_shot"]}, "technique 'zero_shot' is listed twice"),
        ({"models": ["gpt"]}, "'gpt' names no backend."),
        ({"models": ["scriptd/echo"]}, "Did you mean scripted/echo?"),
        ({"models": ["scripted/echo", "scripted/echo"]}, "model 'scripted/echo' is listed twice."),
        ({"fine_tune": {"base": "openai/x"}}, "fine_tune.base is 'openai/x', which the backend 'local' cannot tune."),
        ({"data": {**BASE["data"], "test": "none.jsonl"}}, "data.test: none.jsonl does not exist. Check the name"),
        ({"data": {**BASE["data"], "test": "."}}, "is no file"),
        ({"data": {**BASE["data"], "test": "train.jsonl"}}, "two of train, dev and test are the same file."),
        ({"data": {**BASE["data"], "where": {"target": ["nope"]}}}, "data.where leaves no sample of test.jsonl"),
        ({"data": {**BASE["data"], "where": {"target": ["card", "crad"]}}}, "no sample has 'crad' as target."),
        ({"data": {**BASE["data"], "test": "${NO_SUCH}/x"}}, "variable NO_SUCH is not set. Set it, or write a default"),
        ({"documents": "train.jsonl.bak"}, "does not exist"),
        ({"documents": "scenario.yaml"}, "holds no .md, .txt or .pdf file"),
        ({"documents": "nowhere"}, "documents: nowhere does not exist."),
        ({"tools": "train.csv"}, "tools: train.csv does not exist."),
        ({"tools": "scenario.yaml"}, "neither a .py nor a .jsonl file"),
        ({"output_schema": "train.jsonl"}, "train.jsonl:2: broken JSON"),
    ],
)
def test_bad_input_is_told_with_its_place_and_what_to_do(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    told = problems(write(tmp_path, changes))
    assert any(expected in one for one in told), told
    assert all(one.startswith(("scenario.yaml:", "train.jsonl:", "dev.jsonl:", "test.jsonl:")) for one in told)


def test_the_lines_are_those_of_the_keys(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "scenario.yaml").write_text(
        """\
name: toy
data:
  train: train.jsonl
  dev: dev.jsonl
  tset: test.jsonl
instructions: x
scorer: exat
models:
  - scripted/echo
  - nonsense
goal:
  target: 85
  margn: 1
""",
        encoding="utf-8",
    )
    told = problems(tmp_path)
    assert [one.split(" ")[0] for one in told] == [f"scenario.yaml:{line}:" for line in (5, 7, 10, 12, 13)]


DATA_PROBLEMS: list[tuple[str, Callable[[Rows], Any], list[str]]] = [
    ("label", lambda r: r[4].update(target="crad"), ["test.jsonl:5: target 'crad' is not among labels."]),
    ("no target", lambda r: r[2].pop("target"), ["test.jsonl:3: the target is missing or empty."]),
    ("same id", lambda r: r[1].update(id="train-0"), ["test.jsonl:2: id 'train-0' is already at train.jsonl:1."]),
    ("leak", lambda r: r[1].update(input="Train message 4!"), ["test.jsonl:2: the test input is also in train, at"]),
    ("twice", lambda r: r[8].update(input="test message 0"), ["test.jsonl:9: the input is already at test.jsonl:1"]),
    ("empty", lambda r: r.clear(), ["test.jsonl: the file holds no rows."]),
]


@pytest.mark.parametrize(
    ("change", "expected"), [case[1:] for case in DATA_PROBLEMS], ids=[c[0] for c in DATA_PROBLEMS]
)
def test_bad_data_is_told_with_file_and_line(
    tmp_path: Path, change: Callable[[Rows], Any], expected: list[str]
) -> None:
    test = rows("test")
    change(test)
    told = problems(write(tmp_path, test=test))
    assert len(told) == len(expected)
    for one, start in zip(told, expected, strict=True):
        assert one.startswith(start)
        assert len(one) > len(start)


def test_broken_json_on_line_57(tmp_path: Path) -> None:
    write(tmp_path, train=rows("train", 60))
    file = tmp_path / "train.jsonl"
    lines = file.read_text("utf-8").splitlines()
    lines[56] = lines[56][:-1]
    file.write_text("\n".join(lines), encoding="utf-8")
    (told,) = problems(tmp_path)
    assert told.startswith("train.jsonl:57: broken JSON")


def test_all_problems_are_told_at_once_whatever_stage_they_belong_to(tmp_path: Path) -> None:
    test = rows("test")
    test[4]["target"] = "nonsense"
    changes = {"goal": {"target": 85}, "techniques": ["none"], "models": ["x"], "scorer": "y", "tools": "z.py"}
    told = "\n".join(problems(write(tmp_path, changes, test=test), Overrides(limit=0, budget_usd=-1)))
    for word in ("goal.target", "'none'", "'x'", "'y'", "z.py", "test.jsonl:5", "--limit", "--budget-usd"):
        assert word in told


def test_a_model_that_is_not_installed_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Problem("local/x", "model 'local/x' is not installed.", "Run: hf download x")
    monkeypatch.setattr("backends.registry.problem", lambda name: missing)
    (told,) = problems(write(tmp_path, {"models": ["local/x"]}))
    assert told == "scenario.yaml:13: model 'local/x' is not installed. Run: hf download x"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "scenario.yaml", "the file is empty"),
        ("- a\n- b\n", "scenario.yaml", "a list, not a mapping"),
        ("name: a\ngoal: {target: [}\n", "scenario.yaml:2", "broken YAML"),
        ("name: a\ndata:\n  train: x\n  train: y\nname: b\n", "scenario.yaml:5", "'name' is already on line 1"),
        ("name: !!python/object:os.system {}\n", "scenario.yaml:1", "could not determine a constructor"),
        ("a: " + "[" * 5000, "scenario.yaml", "nested too deeply"),
        ("name: \x00\n", "scenario.yaml", "broken YAML"),
        ('name: "\\ud800"\n', "scenario.yaml", "half a character"),
        ("fine_tune: {recipe: {a: &x [*x]}}\n", "scenario.yaml", "refers to a part it lies in"),
    ],
)
def test_yaml_that_cannot_be_read(tmp_path: Path, text: str, where: str, what: str) -> None:
    (tmp_path / "scenario.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        load_scenario(tmp_path)
    assert where in {problem.where for problem in raised.value.problems}
    assert what in str(raised.value)


def test_yaml_in_another_encoding_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_bytes(b"name: a\ndescription: caf\xe9\n")
    assert problems(tmp_path)[0].startswith("scenario.yaml:2: the text is not UTF-8.")


def test_a_scenario_that_is_not_there(tmp_path: Path) -> None:
    assert "has no scenario.yaml" in problems(tmp_path)[0]
    assert "there is no such scenario" in problems(tmp_path / "none")[0]
    (tmp_path / "my tickets.csv").write_text("input,target\n", encoding="utf-8")
    assert f"advisor init '{tmp_path / 'my tickets.csv'}'" in problems(tmp_path / "my tickets.csv")[0]


@pytest.mark.parametrize("words", ["[yes, no]", "[on, off]", "[1, 2]", "[true, false]", "[007, 2026-01-01]"])
def test_labels_are_words_whatever_yaml_takes_them_for(tmp_path: Path, words: str) -> None:
    first, second = words.strip("[]").split(", ")
    data = {
        split: [{"input": f"{split} {k}", "target": (first, second)[k % 2]} for k in range(4)] for split in BASE["data"]
    }
    file = write(tmp_path, {"labels": None}, **data) / "scenario.yaml"
    file.write_text(file.read_text("utf-8") + f"labels: {words}\n", encoding="utf-8")
    assert load_scenario(tmp_path).task.labels == (first, second)


def test_a_file_that_is_split_is_cut_by_its_seed_alone(tmp_path: Path) -> None:
    everything = [*rows("all", 60), {"id": "again", "input": "ALL message 3", "target": "card"}]

    def load(seed: int, overrides: Overrides | None = None) -> Scenario:
        folder = write(tmp_path, {"data": {"all": "all.jsonl", "split": [0.5, 0.2, 0.3], "seed": seed}})
        write_rows(folder / "all.jsonl", everything)
        return load_scenario(folder, overrides)

    task = load(1).task
    assert [len(part) for part in (task.train, task.dev, task.test)] == [30, 12, 18]
    assert [sum(sample.target == "loan" for sample in part) for part in (task.train, task.dev, task.test)] == [10, 4, 6]
    assert load(1, Overrides(seed=5)).task == task
    assert load(2).task.test != task.test
    assert load(1).warnings == ("1 row repeats an earlier one and is left out (all.jsonl:61 repeats all.jsonl:4).",)


def test_too_few_rows_for_a_split_name_the_empty_part(tmp_path: Path) -> None:
    folder = write(tmp_path, {"data": {"all": "all.jsonl", "split": [0.8, 0.1, 0.1]}, "labels": None})
    write_rows(folder / "all.jsonl", rows("all", 2))
    told = problems(folder)
    assert all("split is empty: all.jsonl has too few samples (2)" in one for one in told)


def test_where_keeps_only_the_rows_asked_for(tmp_path: Path) -> None:
    data = {**BASE["data"], "where": {"target": ["card", "loan"]}}
    found = load_scenario(write(tmp_path, {"data": data, "labels": ["card", "loan"]}))
    assert {sample.target for sample in found.task.test} == {"card", "loan"}
    assert len(found.task.test) == 6


def test_paths_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data")
    data = {split: f"${{TOY_DATA:-../data}}/{split}.jsonl" for split in BASE["data"]}
    folder = write(tmp_path / "scenario", {"data": data})
    by_default = load_scenario(folder)
    assert by_default.files[1].resolve() == tmp_path / "data" / "train.jsonl"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOY_DATA", "data")  # relative to where the command runs, as in a shell
    assert load_scenario(folder).files[1].resolve() == tmp_path / "data" / "train.jsonl"
    assert load_scenario(folder).hash == by_default.hash
    monkeypatch.setenv("TOY_DATA", "/nowhere")
    assert "/nowhere/train.jsonl does not exist" in problems(folder)[0]


def test_the_command_line_overrides(tmp_path: Path) -> None:
    folder = write(tmp_path, {"techniques": [{"name": "few_shot", "k": 3}]})
    plain = load_scenario(folder)
    found = load_scenario(
        folder,
        Overrides(models=("scripted/echo",), techniques=("zero_shot", "few_shot"), limit=6, seed=7, budget_usd=3),
    )
    assert found.techniques == (TechniqueSpec("zero_shot", {}), TechniqueSpec("few_shot", {"k": 3}))
    assert (found.budget.usd, found.seed, found.hash) == (3, 7, plain.hash)
    assert sorted(sample.target for sample in found.task.test) == sorted(LABELS * 2)
    assert len(found.task.train) == len(plain.task.train)
    again = load_scenario(folder, Overrides(limit=3, seed=7))
    assert again.task.test == found.task.test[:3]
    for wrong in (Overrides(models=("gpt",), techniques=("zzz",)), Overrides(models=(), techniques=())):
        assert [one.split(":")[0] for one in problems(folder, wrong)] == ["--models", "--techniques"]


def test_the_hash_follows_content_not_form(tmp_path: Path) -> None:
    first = load_scenario(write(tmp_path / "a")).hash
    file = write(tmp_path / "b") / "scenario.yaml"
    file.write_text("# a comment\n" + file.read_text("utf-8"), encoding="utf-8")
    assert load_scenario(tmp_path / "b").hash == first
    changed = rows("dev")
    changed[0]["input"] = "something else"
    assert load_scenario(write(tmp_path / "c", dev=changed)).hash != first
    assert load_scenario(write(tmp_path / "d", {"goal": {"target": 0.8}})).hash != first


def test_a_target_that_its_scorer_would_not_accept_is_a_problem(tmp_path: Path) -> None:
    (numeric,) = problems(write(tmp_path, {"scorer": "numeric"}))
    assert numeric.startswith("train.jsonl:1: the target 'card' of sample train-0 has no number in it (27 such rows).")
    (tmp_path / "answer.json").write_text('{"type": "object"}', encoding="utf-8")
    (schema,) = problems(write(tmp_path, {"output_schema": "answer.json"}))
    assert schema.startswith("train.jsonl:1: the target breaks answer.json: it is not JSON (27 such rows).")
    (tmp_path / "answer.json").write_text('{"type": "objet"}', encoding="utf-8")
    assert "no JSON Schema" in problems(tmp_path)[0]


def test_own_code_is_announced_and_tried(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def f(output, sample):\n    return 0.5\n", encoding="utf-8")
    found = load_scenario(write(tmp_path, {"scorer": "score.py:f"}))
    announced, tried = found.warnings
    assert announced == "the scorer score.py:f is code of the scenario: it runs on this machine."
    assert tried.startswith("test.jsonl:7: the right answer itself scores 0.5 with score.py:f (3 such rows).")
    assert found.files[-1].name == "score.py"


def test_labels_with_next_to_no_samples_are_worth_a_word(tmp_path: Path) -> None:
    found = load_scenario(write(tmp_path, {"labels": [*LABELS, "rare"]}))
    train, test = found.warnings
    assert train.startswith("1 label ('rare') with fewer than 2 train samples")
    assert test.startswith("1 label ('rare') without test samples")


def test_a_margin_that_was_not_given_fits_below_one(tmp_path: Path) -> None:
    assert load_scenario(write(tmp_path, {"goal": {"target": 0.98}})).goal.margin == pytest.approx(0.01)


def test_the_json_schema_is_current() -> None:
    current = SCHEMA_FILE.read_text("utf-8") == schema_text()
    assert current, "write it again: python -m advisor.scenario.schema > advisor/scenario/schema.json"


def test_the_json_schema_accepts_what_we_accept() -> None:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for techniques in ("auto", ["zero_shot", {"name": "few_shot", "k": 8}]):
        validator.validate({**BASE, "techniques": techniques, "labels": ["a", 1, True]})
    wrong: list[dict[str, Any]] = [
        {"goal": {"target": 85}},
        {"modls": []},
        {"techniques": "all"},
        {"scorer": {"case": 1}},
    ]
    for changes in wrong:
        assert list(validator.iter_errors({**BASE, **changes}))


def test_every_key_is_described() -> None:
    schema = json.loads(schema_text())
    sections = [schema, *schema["$defs"].values()]
    described = {key: value for section in sections for key, value in section.get("properties", {}).items()}
    assert len(described) > 40
    assert [key for key, value in described.items() if not {"description", "$ref"} & set(value)] == []
    assert all(section["description"] for section in sections)


def test_loading_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = {"pandas", "torch", "transformers", "pyarrow", "datasets", "openai", "faiss"}
    code = (
        "import sys; from advisor.scenario.load import load_scenario; load_scenario(sys.argv[1]);"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, write(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
