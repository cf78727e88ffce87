"""`init` from end to end: real kinds of sources become scenarios that `check` accepts and `run` completes."""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from advisor import engine
from advisor.candidates import lineup
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides, Scenario
from advisor.starting.columns import Wishes
from advisor.starting.initialise import Made, init
from backends.errors import InputError
from tests import toys

DATA = Path(os.environ.get("ADVISOR_DATA") or Path(__file__).parent.parent.parent / "shared" / "data")


def jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, header: list[str], rows: Iterable[Iterable[Any]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *rows])
    return path


def labelled(n: int) -> list[tuple[str, str]]:
    """Messages of three labels that words give away; each message is another."""
    rng = random.Random(5)
    return [
        (f"message {i} about {rng.choice(toys.WORDS[label])}", label)
        for i in range(n)
        for label in [toys.LABELS[i % 3]]
    ]


def guessed(made: Made, what: str) -> str:
    return next(guess.value for guess in made.guesses if guess.what == what)


def checked(made: Made) -> Scenario:
    """What `advisor check` does; it must accept the folder as it was written."""
    assert made.problems == ()
    scenario = load_scenario(made.folder)
    assert lineup(scenario).prompting
    return scenario


def completed(made: Made, rules: list[dict[str, str]]) -> dict[str, Any]:
    """`advisor run` on the folder with a scripted model in the place of the real one."""
    model = toys.script(made.folder, "model", rules)
    path = made.folder / "scenario.yaml"
    content = yaml.safe_load(path.read_text("utf-8"))
    said = content["techniques"]
    content |= {"models": [model], "embedder": "scripted/words", "fine_tune": {"when": "never"}}
    content |= {"techniques": ["zero_shot", "few_shot"]} if said == "auto" else {}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    report = engine.run(path, made.folder / "w", Overrides(diagnose=False)).report
    assert report["stopped"] is None
    assert all(one["n"] or one["status"] in ("not_needed", "hopeless", "skipped") for one in report["candidates"])
    return dict(report)


WORDS = [{"when": "|".join(words), "answer": label} for label, words in toys.WORDS.items()]

PROMPTFOO = r"""
description: capitals
prompts:
  - 'Answer in a few words. {{question}}'
providers: [openai:gpt-5-mini, 'anthropic:messages:claude-sonnet-4-6']
defaultTest:
  assert:
    - {type: latency, threshold: 2000}
tests:
"""


def promptfoo(folder: Path, n: int = 24) -> Path:
    """A configuration whose tests have three kinds of assertions: equals, icontains and regex with not-contains."""
    kinds = [
        "[{type: equals, value: fruit}]",
        "[{type: icontains, value: Metal}]",
        "[{type: regex, value: 'ri\\w+r'}, {type: not-contains, value: metal}]",
    ]
    tests = "".join(
        f"  - vars: {{question: 'What is {i} {toys.WORDS[toys.LABELS[i % 3]][0]}?'}}\n    assert: {kinds[i % 3]}\n"
        for i in range(n)
    )
    path = folder / "promptfooconfig.yaml"
    path.write_text(PROMPTFOO + tests, encoding="utf-8")
    return path


def evals(folder: Path, graders: list[dict[str, Any]], n: int = 240) -> Path:
    """An export as the API gives it: the eval, a page of runs, a page of output items."""
    folder.mkdir(parents=True, exist_ok=True)
    items = [{"input": text, "ground_truth": label} for text, label in labelled(n)]
    template = [
        {"role": "developer", "content": "Sort the message into fruit, metal or river."},
        {"role": "user", "content": "{{item.input}}"},
    ]
    source = {"type": "file_content", "content": [{"item": item} for item in items]}
    messages = {"type": "template", "template": template}
    data = {"type": "completions", "model": "gpt-4o-mini", "source": source, "input_messages": messages}
    results = [
        {"object": "eval.run.output_item", "datasource_item": item, "results": [{"name": "m", "passed": i % 10 > 0}]}
        for i, item in enumerate(items)
    ]
    for name, content in {
        "eval.json": {"object": "eval", "name": "kinds", "testing_criteria": graders},
        "runs.json": {"object": "list", "data": [{"object": "eval.run", "data_source": data}]},
        "output_items.json": {"object": "list", "data": results},
    }.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def grader(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "name": kind,
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.ground_truth }}",
        **more,
    }


# -- the five sources -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (DATA / "banking77").is_dir(), reason="ADVISOR_DATA is not here")
def test_banking77_as_a_csv_becomes_a_scenario_of_77_labels(tmp_path: Path) -> None:
    texts = [(DATA / "banking77" / f"{split}.jsonl").read_text("utf-8") for split in ("train", "dev", "test")]
    rows = [json.loads(line) for text in texts for line in text.splitlines()]
    source = table(tmp_path / "banking77.csv", ["text", "category"], ([row["input"], row["target"]] for row in rows))
    made = init(source, tmp_path / "made")
    scenario = checked(made)
    assert len(scenario.task.labels) == 77
    assert scenario.scorer_name == "exact"
    assert sum(number for _, number in made.splits) == len({row["input"].lower() for row in rows})
    assert {sample.target for sample in scenario.task.test} == set(scenario.task.labels), "stratified"
    answer = scenario.task.test[0].target
    report = completed(made, [{"when": "", "answer": answer}])
    assert report["verdict"] == "escalate"


def test_a_chat_file_becomes_instructions_inputs_and_targets(tmp_path: Path) -> None:
    said = {"role": "system", "content": "Sort the message into fruit, metal or river."}
    rows = [
        {"messages": [said, {"role": "user", "content": text}, {"role": "assistant", "content": label}]}
        for text, label in labelled(90)
    ]
    made = init(jsonl(tmp_path / "chat.jsonl", rows), tmp_path / "made")
    scenario = checked(made)
    assert scenario.task.instructions == said["content"]
    assert scenario.task.labels == tuple(toys.LABELS)
    assert "message" in scenario.task.test[0].input
    assert completed(made, WORDS)["verdict"] == "pick"


def test_a_promptfoo_file_with_three_kinds_of_assertions_becomes_one_scorer(tmp_path: Path) -> None:
    made = init(promptfoo(tmp_path), tmp_path / "made")
    scenario = checked(made)
    assert scenario.scorer_name == "scorers.py:all_hold"
    assert scenario.scorer.binary
    assert scenario.task.instructions == "Answer in a few words."
    assert scenario.goal.max_p95_seconds == 2.0
    by_input = {sample.input: sample for sample in (*scenario.task.train, *scenario.task.dev, *scenario.task.test)}
    river = by_input["What is 2 rhine?"]
    assert scenario.scorer("a river", river).value == 1  # type: ignore[operator]
    assert scenario.scorer("a river of metal", river).value == 0  # type: ignore[operator]
    assert completed(made, WORDS)["candidates"][0]["mean_score"] == 1.0


def test_an_export_of_openai_evals_with_two_graders_becomes_a_scenario(tmp_path: Path) -> None:
    graders = [
        grader("string_check", operation="ilike"),
        grader("text_similarity", evaluation_metric="fuzzy_match", pass_threshold=0.8),
    ]
    made = init(evals(tmp_path / "export", graders), tmp_path / "made")
    scenario = checked(made)
    assert scenario.scorer_name == "scorers.py:all_hold"
    assert scenario.task.instructions == "Sort the message into fruit, metal or river."
    assert scenario.goal.target == 0.87, "three points below the 90 % that passed"
    assert "openai/gpt-4o-mini" in (made.folder / "scenario.yaml").read_text("utf-8")
    assert completed(made, WORDS)["candidates"][0]["mean_score"] == 1.0


def test_a_parquet_file_becomes_a_scenario(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts, labels = zip(*labelled(90), strict=True)
    parquet.write_table(pyarrow.table({"utterance": texts, "intent": labels}), tmp_path / "rows.parquet")
    made = init(tmp_path / "rows.parquet", tmp_path / "made")
    assert checked(made).task.labels == tuple(toys.LABELS)
    assert guessed(made, "target") == "intent"
    assert completed(made, WORDS)["verdict"] == "pick"


# -- other tables -----------------------------------------------------------------------------------------------------


def test_tabs_semicolons_and_json_arrays_are_read_alike(tmp_path: Path) -> None:
    rows = labelled(30)
    sources = [
        table(tmp_path / "a.tsv", ["text, as written", "label"], rows, "\t"),
        table(tmp_path / "b.csv", ["text", "label"], rows, ";"),
    ]
    (tmp_path / "c.json").write_text(json.dumps([{"text": text, "label": label} for text, label in rows]), "utf-8")
    for source in (*sources, tmp_path / "c.json"):
        made = init(source, tmp_path / f"made-{source.suffix[1:]}")
        assert checked(made).task.labels == tuple(toys.LABELS)


def test_files_named_after_the_splits_keep_them(tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    rows = [{"text": text, "label": label} for text, label in labelled(60)]
    jsonl(folder / "train.jsonl", rows[:30])
    jsonl(folder / "validation.jsonl", rows[30:40])
    jsonl(folder / "test.jsonl", rows[40:])
    made = init(folder, tmp_path / "made")
    checked(made)
    assert made.splits == (("train", 30), ("dev", 10), ("test", 20))


def test_the_columns_may_be_named(tmp_path: Path) -> None:
    rows = [(f"q{i} about things", f"context {i}", "yes" if i % 2 else "no", "x") for i in range(30)]
    source = table(tmp_path / "a.csv", ["question", "context", "verdict", "label"], rows)
    made = init(source, tmp_path / "made", wishes=Wishes("context,question", "verdict"))
    scenario = checked(made)
    assert scenario.task.labels == ("no", "yes")
    assert scenario.task.test[0].input.startswith("context: context ")
    assert "\nquestion: q" in scenario.task.test[0].input


def test_tests_of_promptfoo_in_tables_are_read_as_such(tmp_path: Path) -> None:
    rows = [(text, f"icontains: {label}") for text, label in labelled(30)]
    made = init(table(tmp_path / "tests.csv", ["message", "__expected"], rows), tmp_path / "x")
    scenario = checked(made)
    assert scenario.scorer_name.startswith("includes(")
    tests = [
        {"vars": {"message": text}, "assert": [{"type": "equals", "value": label}]} for text, label in labelled(30)
    ]
    made = init(jsonl(tmp_path / "tests.jsonl", tests), tmp_path / "y")
    assert checked(made).task.labels == tuple(toys.LABELS)


def test_a_column_of_conversations_in_parquet_is_a_chat_file(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    chats = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": label}] for text, label in labelled(30)
    ]
    parquet.write_table(pyarrow.table({"messages": chats}), tmp_path / "chats.parquet")
    assert checked(init(tmp_path / "chats.parquet", tmp_path / "made")).task.labels == tuple(toys.LABELS)


# -- bad input --------------------------------------------------------------------------------------------------------


def refused(source: Path, **more: Any) -> str:
    with pytest.raises(InputError) as raised:
        init(source, source.parent / "made", **more)
    assert len(raised.value.problems) == 1, "one clear message"
    assert raised.value.problems[0].remedy
    assert not (source.parent / "made").exists(), "nothing is left behind"
    return str(raised.value)


def test_a_file_without_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    assert "the file is empty" in refused(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("text,label\n", encoding="utf-8")
    assert "no rows" in refused(tmp_path / "b.csv")
    assert "no such file" in refused(tmp_path / "c.csv")


def test_a_single_column_is_refused(tmp_path: Path) -> None:
    assert "one column only ('text')" in refused(table(tmp_path / "a.csv", ["text"], [["x"], ["y"]]))


def test_columns_among_which_nothing_can_be_a_target_are_refused(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", ["id", "text"], ([i, f"a text that says {i}"] for i in range(10)))
    assert "no column looks like right answers" in refused(source)
    assert "there is no column 'z'; the columns are 'id', 'text'" in refused(source, wishes=Wishes(target="z"))


def test_a_wrong_encoding_is_told_once_with_its_place(tmp_path: Path) -> None:
    lines = [f"caf\xe9 {i},yes" for i in range(40)]
    (tmp_path / "a.csv").write_bytes("\n".join(["text,label", *lines]).encode("latin-1"))
    told = refused(tmp_path / "a.csv")
    assert told.startswith("a.csv:2: byte 0xe9")
    assert "Save the file as UTF-8" in told
    (tmp_path / "b.tsv").write_bytes("text\tlabel\ncaf\xe9\tyes\n".encode("latin-1"))
    assert "b.tsv:2: byte 0xe9" in refused(tmp_path / "b.tsv")


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", ["text", "label"], [["x one", "a"], ["y two", "b"]])
    assert "2 different examples cannot be divided" in refused(source)


def test_an_existing_folder_is_kept_unless_it_is_forced(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", ["text", "label"], labelled(30))
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="exists already"):
        init(source, target)
    assert [path.name for path in target.iterdir()] == ["notes.txt"]
    checked(init(source, target, force=True))
    assert (target / "notes.txt").read_text("utf-8") == "mine", "what is not ours stays"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    checked(init(table(tmp_path / "a.csv", ["text", "label"], labelled(30)), tmp_path / "made"))


def test_a_source_in_the_folder_to_be_replaced_is_refused(tmp_path: Path) -> None:
    source = table(tmp_path / "train.csv", ["text", "label"], labelled(30))
    with pytest.raises(InputError, match="lies in the folder"):
        init(source, tmp_path, force=True)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", "{", "broken JSON"),
        ("a.json", '{"x": 1}', "no JSON array of objects"),
        ("a.yaml", "name: scenario", "no promptfoo configuration"),
        ("a.yaml", "a: [", "broken YAML"),
        ("a.xlsx", "x", "files of type '.xlsx' cannot be read"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "x"}]}\n', "no conversation ends with an answer"),
        ("a.csv", "text,label\na,b,c\n", "3 fields, but the header has 2"),
    ],
)
def test_what_cannot_be_read_is_told_with_a_remedy(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert told in refused(tmp_path / name)


def test_a_name_that_no_scenario_can_have_is_refused(tmp_path: Path) -> None:
    assert "--name" in refused(table(tmp_path / "a.csv", ["text", "label"], labelled(30)), name="no spaces")


def test_names_of_files_become_names_of_scenarios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = table(tmp_path / "Our Q3 tickets (final).csv", ["text", "label"], labelled(30))
    monkeypatch.chdir(tmp_path)
    made = init(source)
    assert made.folder == Path("Our_Q3_tickets_final")
    assert checked(made).name == "Our_Q3_tickets_final"


def test_the_folder_that_is_asked_for_names_the_scenario_unless_a_name_is_given(tmp_path: Path) -> None:
    source = table(tmp_path / "training.csv", ["text", "label"], labelled(30))
    assert checked(init(source, tmp_path / "of mine")).name == "of_mine"
    assert checked(init(source, tmp_path / "v1.5")).name == "v1.5"
    assert checked(init(source, tmp_path / "other", name="routing")).name == "routing"


# -- what is written --------------------------------------------------------------------------------------------------


def test_every_guess_stands_in_the_scenario_and_in_the_page(tmp_path: Path) -> None:
    made = init(table(tmp_path / "a.csv", ["text", "label"], labelled(40)), tmp_path / "made")
    scenario = " ".join((made.folder / "scenario.yaml").read_text("utf-8").replace("\n# ", " ").split())
    page = (made.folder / "README.md").read_text("utf-8")
    for guess in made.guesses:
        assert f"{guess.what}: {guess.value} ({guess.why})." in scenario
        assert f"| {guess.what} | {guess.value} |" in page
    assert len(page.splitlines()) < 50, "one page"


def test_the_same_source_gives_the_same_folder(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", ["text", "label"], labelled(60))
    first, second = (init(source, tmp_path / name / "made").folder for name in ("x", "y"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_words_that_yaml_could_misread_survive(tmp_path: Path) -> None:
    kinds = ["yes", "no", "null", "1e3", "- x", "a: b", "#c", "{d}"]
    rows = [(f"text number {i} on something", kinds[i % len(kinds)]) for i in range(80)]
    made = init(table(tmp_path / "a.csv", ["text", "label"], rows), tmp_path / "made")
    assert checked(made).task.labels == tuple(sorted(kinds))


# -- damaged sources --------------------------------------------------------------------------------------------------

JUNK: list[Any] = [None, 1, 3.5, True, "", "x", "file://nope.txt", [], {}, ["a", 1], {"a": 1}, [[]]]


def damaged(value: Any, rng: random.Random, share: float) -> Any:
    """The value with some of its parts replaced by something else, or left out."""
    if rng.random() < share:
        return rng.choice(JUNK)
    if isinstance(value, dict):
        return {key: damaged(part, rng, share) for key, part in value.items() if rng.random() > share}
    return [damaged(part, rng, share) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", ["promptfoo", "evals", "chat"])
def test_a_damaged_source_is_refused_or_read_and_never_crashes(tmp_path: Path, kind: str) -> None:
    folder = evals(tmp_path / "e", [grader("string_check", operation="eq"), grader("text_similarity")], n=12)
    export = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.iterdir())}
    chat = [
        {"messages": [{"role": "user", "content": f"q {i}"}, {"role": "assistant", "content": "ab"[i % 2]}]}
        for i in range(9)
    ]
    whole = {"promptfoo": yaml.safe_load(promptfoo(tmp_path, 6).read_text("utf-8")), "evals": export, "chat": chat}[
        kind
    ]
    rng = random.Random(8)
    outcomes = set()
    for number in range(40):
        content = damaged(whole, rng, rng.choice([0.005, 0.02, 0.06]))
        path = tmp_path / f"{number}.{'jsonl' if kind == 'chat' and isinstance(content, list) else 'json'}"
        rows = content if path.suffix == ".jsonl" else None
        path.write_text("\n".join(map(json.dumps, rows)) if rows is not None else json.dumps(content), "utf-8")
        try:
            outcomes.add(init(path, tmp_path / f"made-{number}").problems == ())
        except InputError:
            outcomes.add(False)
    assert outcomes == {True, False}, "some are whole enough, some are not"
