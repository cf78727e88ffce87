"""The diagnosis on scripted models: each ablation names the cause that was planted, every time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from advisor.candidates import Candidate
from advisor.diagnosis.causes import Cause, Diagnosis
from advisor.diagnosis.diagnose import diagnose
from advisor.diagnosis.failures import MOST
from advisor.events import Diagnosing, Event
from advisor.scenario.load import load_scenario
from advisor.scenario.model import BudgetLimits, Scenario
from advisor.session import Prepared, Session
from advisor.techniques.base import Technique
from advisor.techniques.chain import Chain
from advisor.techniques.function_calling import FunctionCalling
from advisor.techniques.knn_few_shot import KnnFewShot
from advisor.techniques.rag import Rag
from advisor.techniques.zero_shot import ZeroShot
from advisor.workspace import Workspace
from backends.errors import BudgetError
from backends.meter import Meter
from backends.types import Tool
from evals.cache import store_path
from evals.scorers.numeric import Numeric
from evals.scorers.text import TokenF1
from evals.store import RunRow, Store
from evals.task import ChainStep, Document, Sample, Task, Toolbox
from evals.trial import ABLATION, Score, Trial
from tests import toys

PLAIN = ZeroShot(instruction="plain")
HELPLESS: dict[str, Any] = {"rules": [], "default": "no idea"}


@asynccontextmanager
async def opened(
    folder: Path, script: Mapping[str, Any], observe: Callable[[Event], None] = lambda event: None, **changes: Any
) -> AsyncIterator[Session]:
    """A session of a toy scenario in which `changes` replace fields; called again it resumes the same run."""
    (folder / "s").mkdir(parents=True, exist_ok=True)
    (folder / "s" / "model.json").write_text(json.dumps(script), encoding="utf-8")
    path = toys.scenario(folder / "s", f"scripted/{folder / 's' / 'model.json'}")
    scenario: Scenario = replace(load_scenario(path), **changes)
    workspace = Workspace(folder / "w")
    with workspace.locked(), Store.open(store_path(workspace.root)) as store:
        if not store.runs():
            store.add_run(RunRow("r", "2026-01-01", "run", "toy", str(path), scenario.hash, {}))
        async with Session(scenario, store, workspace, "r", observe) as session:
            yield session


async def attempted(session: Session, technique: Technique = PLAIN) -> tuple[Prepared, list[Trial]]:
    """A candidate and its trials on all test samples."""
    model = session.scenario.models[0]
    prepared = await session.prepare(Candidate(f"{technique.name}@{model}", technique, model))
    return prepared, await session.test(prepared, session.order)


async def diagnosed(
    folder: Path,
    task: Task,
    rules: Sequence[Mapping[str, Any]],
    technique: Technique = PLAIN,
    **changes: Any,
) -> Diagnosis:
    """The diagnosis of a candidate on a model that follows `rules` and else says 'no idea'."""
    async with opened(folder, {"rules": rules, "default": "no idea"}, task=task, **changes) as session:
        return await diagnose(session, *await attempted(session, technique))


def counts(found: Diagnosis) -> dict[str, int]:
    """How many failures each cause has."""
    return {cause.cause: round(cause.share * cause.n) for cause in found.causes}


def only(found: Diagnosis, cause: str) -> Cause:
    """The one cause, which has every failure."""
    assert [one.cause for one in found.causes] == [cause]
    assert found.causes[0].share == 1.0
    return found.causes[0]


def labelled(split: str, n: int) -> tuple[Sample, ...]:
    return tuple(Sample(row["id"], row["input"], row["target"]) for row in toys.rows(split, n))


def toy_task(n_test: int = 60, train: Sequence[Sample] = ()) -> Task:
    return Task(
        "toy",
        "Sort.",
        (*labelled("train", 60), *train),
        labelled("dev", 6),
        labelled("test", n_test),
        tuple(toys.LABELS),
    )


PEOPLE = ["ann", "bob", "cyd", "dov", "eva", "fay", "gil", "hal"]
TOWNS = ["oslo", "rome", "kyiv", "lima", "bonn", "baku", "doha", "graz"]


def towns_task(*, gold: bool = True, documents: bool = True, metadata: Mapping[str, Any] | None = None) -> Task:
    """Where people live: open short answers, in one document each."""
    test = tuple(
        Sample(
            f"t-{person}",
            f"Where does {person} live?",
            town,
            ({"supporting_doc_ids": [f"d-{person}"]} if gold else {}) | dict(metadata or {}),
        )
        for person, town in zip(PEOPLE, TOWNS, strict=True)
    )
    texts = tuple(
        Document(f"d-{person}", f"{person.title()} lives in {town.title()}.")
        for person, town in zip(PEOPLE, TOWNS, strict=True)
    )
    shown = (Sample("x", "Where does zoe live?", "paris"),)
    return Task("towns", "Answer.", shown, shown, test, documents=texts if documents else ())


# Reads the sentence about the person who is asked for, wherever it stands in the prompt.
READS = {"when": r"(?is)(\w+) lives in (\w+).*Where does \1 live", "answer": r"\2"}


def reader(top_k: int = 1) -> Rag:
    """Retrieval by the words that an input and a document share."""
    return Rag(mode="dense", top_k=top_k, chunk_tokens=100)


def with_decoys(task: Task) -> Task:
    """More documents, which share more words with the questions than those with the answers do."""
    decoys = tuple(Document(f"decoy-{one.id}", f"{one.input} Nobody says.") for one in task.test)
    return replace(task, documents=(*task.documents, *decoys))


def numbered(first: int, last: int) -> str:
    """A rule's condition: test messages of these numbers."""
    return rf"test message ({'|'.join(map(str, range(first, last)))}) about"


async def test_a_mixture_of_planted_causes_is_taken_apart_to_the_last_failure(tmp_path: Path) -> None:
    twins = tuple(
        Sample(f"twin {sample.id}", f"about {sample.input.replace(' about', ',')}", "mislabelled")
        for sample in labelled("test", 60)[32:40]
    )
    task = replace(toy_task(train=twins), labels=(*toys.LABELS, "mislabelled"))
    right = toys.rules(1.0)
    rules = [
        {"when": numbered(0, 8), "error": "refused"},
        *(
            {"when": numbered(8, 16) + f".*({'|'.join(words)})", "answer": f"Well, I say: **{label}**!"}
            for label, words in toys.WORDS.items()
        ),
        *(
            {"when": numbered(16, 24) + f".*({'|'.join(words)})", "answers": ["none", label]}
            for label, words in toys.WORDS.items()
        ),
        {"when": numbered(24, 32), "answer": "none"},
        {"when": numbered(32, 40), "answer": "mislabelled"},
        *right,
    ]
    found = await diagnosed(tmp_path, task, rules)
    assert counts(found) == {"errors": 8, "format": 8, "noise": 8, "skill": 8, "label_noise": 8}
    assert (found.n_failures, found.n_looked_at) == (40, 40)
    assert sum(cause.share for cause in found.causes) == pytest.approx(1.0)
    planted = {
        "errors": range(8),
        "format": range(8, 16),
        "noise": range(16, 24),
        "skill": range(24, 32),
        "label_noise": range(32, 40),
    }
    for cause in found.causes:
        assert len(cause.examples) == 3
        for example in cause.examples:
            assert int(example.sample_id.removeprefix("test-")) in planted[cause.cause]
        assert cause.low < 0.2 < cause.high
        assert "8 of 40 failures" in cause.evidence
        assert cause.advice


async def test_without_planted_failures_there_is_nothing_to_explain_and_nothing_is_asked(tmp_path: Path) -> None:
    found = await diagnosed(tmp_path, toy_task(), toys.rules(1.0))
    assert found.causes == ()
    assert (found.n_failures, found.n_looked_at, found.usage.requests) == (0, 0, 0)


@pytest.mark.parametrize("gold", [True, False])
async def test_a_retrieval_that_misses_the_document_with_the_answer_is_named(tmp_path: Path, gold: bool) -> None:
    # Where the data do not name gold documents, those that state the fact are given.
    cause = only(await diagnosed(tmp_path, with_decoys(towns_task(gold=gold)), [READS], reader()), "retrieval")
    assert "rag" in cause.points_to
    assert "fine_tune" in cause.cannot_help
    assert {example.gave for example in cause.examples} <= {town.title() for town in TOWNS}


async def test_a_document_that_is_retrieved_and_not_understood_is_reading(tmp_path: Path) -> None:
    cause = only(await diagnosed(tmp_path, towns_task(), [], reader()), "reading")
    assert "8 stayed wrong with the gold documents alone" in cause.evidence
    assert "larger model" in cause.points_to


async def test_a_document_that_is_drowned_by_others_is_reading_and_not_retrieval(tmp_path: Path) -> None:
    drowned = {"when": "(?s)lives in.*lives in", "answer": "somewhere"}
    found = await diagnosed(tmp_path, towns_task(), [drowned, READS], reader(top_k=8))
    assert "8 had all gold documents among others" in only(found, "reading").evidence


async def test_a_fact_that_documents_state_and_the_candidate_does_not_read_is_knowledge(tmp_path: Path) -> None:
    cause = only(await diagnosed(tmp_path, towns_task(), [READS]), "knowledge")
    assert "8 became right with the gold documents before the input" in cause.evidence
    assert cause.points_to == ("rag", "function_calling")
    assert "fine_tune" in cause.cannot_help


@pytest.mark.parametrize("technique", [reader(), PLAIN])
async def test_a_fact_that_no_document_states_is_knowledge(tmp_path: Path, technique: Technique) -> None:
    task = towns_task()
    silent = tuple(replace(one, text=f"Of {one.id[2:]} nothing is known.") for one in task.documents)
    found = await diagnosed(tmp_path, replace(task, documents=silent), [READS], technique)
    assert "8 no document states the answer" in only(found, "knowledge").evidence


async def test_a_fact_without_any_documents_is_knowledge(tmp_path: Path) -> None:
    found = await diagnosed(tmp_path, towns_task(gold=False, documents=False), [READS])
    assert "8 the task has no documents" in only(found, "knowledge").evidence


def sums_task(**metadata: Any) -> Task:
    test = tuple(
        Sample(
            f"t{number}",
            f"What is {number} times three?",
            str(3 * number),
            {name: make(number) for name, make in metadata.items()},
        )
        for number in range(20, 28)
    )
    shown = tuple(Sample(f"x{number}", f"What is {number} times three?", str(3 * number)) for number in range(5))
    return Task("sums", "Calculate.", shown, shown[:2], test)


async def test_wrong_tool_results_are_named_when_right_ones_cure_them(tmp_path: Path) -> None:
    source = tmp_path / "tools.py"
    source.write_text('def triple(n: int) -> int:\n    """Three times n."""\n    return 41\n', encoding="utf-8")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    toolbox = Toolbox((Tool("triple", "Three times n.", json.dumps(schema)),), source)
    task = replace(sums_task(tool_results=lambda number: [str(3 * number)]), tools=toolbox)
    task = replace(task, test=task.test[:3])
    rules = [
        {"role": "user", "when": r"What is \d+", "calls": [{"name": "triple", "arguments": {"n": 5}}]},
        {"role": "tool", "when": r"(\d+)", "answer": r"\1"},
        {"when": r"(?s)called for this:\n- (\d+)", "answer": r"\1"},
    ]
    script = {"rules": rules, "default": "no idea", "native_tools": True}
    async with opened(tmp_path, script, task=task, scorer=Numeric()) as session:
        found = await diagnose(session, *await attempted(session, FunctionCalling()))
    cause = only(found, "tool_use")
    assert cause.points_to == ("function_calling",)
    assert [example.answer for example in cause.examples] == ["41", "41", "41"]


async def test_a_candidate_without_tools_is_read_the_results(tmp_path: Path) -> None:
    task = sums_task(tool_results=lambda number: [str(3 * number)])
    only(await diagnosed(tmp_path, task, [{"when": r"tools:\n- (\d+)", "answer": r"\1"}], scorer=Numeric()), "tool_use")


async def test_a_number_that_nothing_helps_with_is_calculation(tmp_path: Path) -> None:
    cause = only(await diagnosed(tmp_path, sums_task(), [], scorer=Numeric()), "calculation")
    assert "function_calling" in cause.points_to


CHAIN = (
    ChainStep("kind", "Which word tells?\n{input}"),
    ChainStep("label", "The word is {kind}.\nWhich kind is it?"),
)


async def test_a_chain_whose_first_step_errs_is_named_with_the_step(tmp_path: Path) -> None:
    def telling(sample: Sample) -> str:
        return next(word for words in toys.WORDS.values() for word in words if word in sample.input)

    task = toy_task(12)
    task = replace(
        task,
        chain=CHAIN,
        test=tuple(replace(sample, metadata={"steps": {"kind": telling(sample)}}) for sample in task.test),
    )
    rules = [
        {"when": "Which word tells", "answer": "granite"},
        *({"when": f"The word is ({'|'.join(words)})\\.", "answer": label} for label, words in toys.WORDS.items()),
    ]
    cause = only(await diagnosed(tmp_path, task, rules, technique=Chain()), "chain")
    assert "12 began at the step 'kind'" in cause.evidence


async def test_a_candidate_without_steps_is_read_the_gold_ones(tmp_path: Path) -> None:
    task = sums_task(steps=lambda number: [f"{number} plus {number} is {2 * number}", f"so it is {3 * number}"])
    rules = [{"when": rf"so far:\n1\. {number} plus .*\n\nWhat", "answer": str(3 * number)} for number in range(20, 28)]
    cause = only(await diagnosed(tmp_path, task, rules, scorer=Numeric()), "chain")
    assert "chain" in cause.points_to


async def test_label_noise_is_found_by_embeddings_where_the_candidate_has_them(tmp_path: Path) -> None:
    # Five words of eight are shared and all that weigh: a cosine of 0.97.
    test = tuple(Sample(f"t{n}", f"very very very very very bright colour of stone {n}", "red") for n in range(10, 20))
    train = tuple(
        Sample(f"x{n}", f"very very very very very bright colours of stone {n}", "blue") for n in range(10, 20)
    )
    more = labelled("train", 30)
    task = Task("noise", "Sort.", (*more, *train), more[:4], test, (*toys.LABELS, "red", "blue"))
    rules = [{"when": "of stone", "answer": "blue"}]
    cause = only(await diagnosed(tmp_path / "knn", task, rules, technique=KnnFewShot(k=2)), "label_noise")
    assert cause.points_to == ()
    assert "fine_tune" in cause.cannot_help
    assert "'blue'" in cause.examples[0].gave
    only(await diagnosed(tmp_path / "plain", task, rules), "skill")


async def test_near_identical_inputs_with_other_numbers_are_no_label_noise(tmp_path: Path) -> None:
    test = tuple(Sample(f"t{number}", f"colour of stone {number} please", "red") for number in range(10, 20))
    train = tuple(replace(one, id=f"x{one.id}", input=f"{one.input} 7", target="blue") for one in test)
    task = Task("noise", "Sort.", train, train[:2], test, ("red", "blue"))
    only(await diagnosed(tmp_path, task, [{"when": "colour", "answer": "blue"}]), "skill")


async def test_at_most_forty_failures_are_looked_at_and_requests_are_bounded(tmp_path: Path) -> None:
    seen: list[Event] = []
    async with opened(tmp_path, HELPLESS, seen.append, task=toy_task(90)) as session:
        prepared, trials = await attempted(session)
        found = await diagnose(session, prepared, trials)
        stored = session.store.trials("r", prepared.candidate.id, "test")
    assert (found.n_failures, found.n_looked_at) == (90, MOST)
    assert "40 failures drawn at random from 90" in found.causes[0].evidence
    assert found.usage.requests == 2 * MOST
    ablations = [trial for trial in stored if trial.variant.startswith(ABLATION)]
    assert found.usage.requests == sum(trial.usage.requests for trial in ablations)
    assert found.usage.cost_usd == pytest.approx(sum(trial.usage.cost_usd or 0.0 for trial in ablations))
    assert found.usage.cost_usd
    asked = [event for event in seen if isinstance(event, Diagnosing)]
    assert [(event.what, event.samples) for event in asked] == [("temperature 0.3", 40), ("temperature 0.7", 40)]
    assert {check.name: check.asked for check in found.checks} == {
        "lenient reading": 40,
        "train neighbours": 0,
        "gold documents": 0,
        "gold tool results": 0,
        "gold steps": 0,
        "temperature 0.3": 40,
        "temperature 0.7": 40,
    }
    assert all(check.note for check in found.checks if not check.asked)


async def test_a_resumed_diagnosis_says_the_same_and_asks_nothing(tmp_path: Path) -> None:
    found = []
    asked = []
    for _ in range(2):
        async with opened(tmp_path, {"rules": toys.rules(0.5)}, task=toy_task()) as session:
            found.append(await diagnose(session, *await attempted(session)))
            asked.append(session.store.asked("r").requests)
    assert found[0] == found[1]
    assert asked[0] == asked[1]


async def test_a_budget_that_ends_is_told_to_the_caller(tmp_path: Path) -> None:
    script = {**HELPLESS, "billed": True, "usd_per_1m_input": 1000.0}
    async with opened(tmp_path, script, task=toy_task()) as session:
        await attempted(session)
        spent = session.store.billed_usd("r")
    async with opened(tmp_path, script, task=toy_task(), budget=BudgetLimits(usd=spent * 1.1)) as session:
        prepared, trials = await attempted(session)
        with pytest.raises(BudgetError):
            await diagnose(session, prepared, trials)


async def test_an_ablation_that_fails_explains_nothing(tmp_path: Path) -> None:
    task = towns_task()
    rules = [{"when": "Documents:", "error": "too long"}]
    found = await diagnosed(tmp_path, task, rules)
    assert "documents state the answer and the candidate does not read them" in only(found, "knowledge").evidence
    (check,) = [check for check in found.checks if check.name == "gold documents"]
    assert (check.asked, check.cured) == (8, 0)
    assert "8 of them ended with an error" in check.note


async def test_graded_scores_fail_below_the_target(tmp_path: Path) -> None:
    test = (
        Sample("good", "one", "alpha beta gamma delta"),
        Sample("poor", "two", "alpha beta gamma delta"),
    )
    shown = (Sample("x", "zero", "nothing to see here"),)
    task = Task("graded", "Answer.", shown, shown, test)
    rules = [
        {"when": "one", "answer": "alpha beta gamma"},
        {"when": "two", "answer": "Sure! I thought about this for a long long while. Answer: alpha beta gamma"},
    ]
    found = await diagnosed(tmp_path, task, rules, scorer=TokenF1())
    cause = only(found, "format")
    assert [example.sample_id for example in cause.examples] == ["poor"]
    assert cause.examples[0].gave == "alpha beta gamma"


@dataclass(frozen=True)
class Lookalike:
    """A scorer that asks a model."""

    name: ClassVar[str] = "lookalike"
    binary: ClassVar[bool] = True
    asks: ClassVar[None] = None
    embeds: ClassVar[bool] = True

    async def score(self, output: str, sample: Sample, models: Meter) -> Score:
        one, other = await models.embed([output, sample.target])
        return Score(float(one @ other > 0.99))


async def test_a_scorer_that_asks_models_is_not_second_guessed_and_its_cost_counts(tmp_path: Path) -> None:
    found = await diagnosed(tmp_path, toy_task(), [{"when": "", "answer": "Answer: fruit"}], scorer=Lookalike())
    assert "format" not in counts(found)
    assert "reads for itself" in found.checks[0].note
    assert found.usage.requests > 2 * MOST


async def test_long_open_answers_that_nothing_cures_stay_unexplained(tmp_path: Path) -> None:
    long = "a rather long and winding text about something that was not in the question at all"
    test = tuple(Sample(f"t{number}", f"Tell me of {number}", f"{long} {number}") for number in range(5))
    shown = (Sample("x", "Tell me of x", "a long text of quite another kind, which nobody will ever be asked for"),)
    cause = only(await diagnosed(tmp_path, Task("open", "Tell.", shown, shown, test), []), "unexplained")
    assert cause.points_to == ()


async def test_a_candidate_is_not_pointed_at_itself(tmp_path: Path) -> None:
    found = await diagnosed(tmp_path, toy_task(12), [{"when": "", "answer": "none"}], technique=KnnFewShot(k=2))
    assert only(found, "skill").points_to == ("few_shot", "optimized_prompt", "fine_tune")


async def test_two_seeds_look_at_other_failures_and_one_seed_at_the_same(tmp_path: Path) -> None:
    names = []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        async with opened(tmp_path / place, HELPLESS, task=toy_task(90), seed=seed) as session:
            prepared, trials = await attempted(session)
            await diagnose(session, prepared, trials)
            stored = session.store.trials("r", prepared.candidate.id, "test", f"{ABLATION}temperature 0.3")
            names.append({trial.sample_id for trial in stored})
    assert names[0] == names[1] != names[2]
