"""Retrieval-augmented generation: what is shown, what is chosen, what fits, what is given."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest

from advisor.retrieval.retriever import Passage
from advisor.techniques import registry
from advisor.techniques.base import Ablatable, Given
from advisor.techniques.rag import UNANSWERABLE, FittedRag, Rag, fitting
from advisor.techniques.rag_few_shot import FittedRagFewShot, RagFewShot
from backends.errors import RequestError
from backends.meter import Helpers
from backends.scripted import ScriptedEmbedder
from backends.scripted_rerank import ScriptedReranker
from evals.task import Document, Sample, Task
from tests.techniques import TASK, Bench, violations

FIXED = {"mode": "hybrid", "top_k": 2, "chunk_tokens": 200}
COLOURS = ("red", "green", "blue", "pink", "grey", "black", "white", "brown")
DOCUMENTS = tuple(Document(f"doc-{name}", f"The {name} box holds item {n}.", name) for n, name in enumerate(COLOURS))
OPEN = Task(
    "boxes",
    "Say what the box holds.",
    tuple(Sample(f"t{n}", f"What is in the {name} box?", f"item {n}") for n, name in enumerate(COLOURS[:4])),
    tuple(Sample(f"d{n}", f"And the {name} box?", f"item {n}") for n, name in enumerate(COLOURS)),
    (Sample("x", "Which item has the pink box?", "item 3"),),
    documents=DOCUMENTS,
)
ECHO = {"rules": [{"when": r"(?s)holds (item \d)[^\[]*$", "answer": r"\1"}], "default": "no idea"}


class RankingBench(Bench):
    """A bench that opens cross-encoders too."""

    @property
    def helpers(self) -> Helpers:
        return Helpers(ScriptedEmbedder(), self.open, ScriptedReranker.open)


@pytest.mark.parametrize("name", ["rag", "rag+knn_few_shot"])
@pytest.mark.parametrize(
    "parameters", [{}, FIXED, {"mode": "bm25"}, {"allow_unanswerable": True, "context_tokens": 20, "mode": "dense"}]
)
async def test_the_contract_is_kept_with_every_setting(name: str, parameters: dict[str, Any], tmp_path: Path) -> None:
    assert await violations(registry.make(name, parameters), tmp_path) == []


@pytest.mark.parametrize("technique", [Rag(), RagFewShot(k=2)])
async def test_free_answers_keep_the_contract_too(technique: Rag, tmp_path: Path) -> None:
    assert await violations(technique, tmp_path, OPEN, script=ECHO) == []


async def test_the_best_passage_stands_next_to_the_input_under_its_id(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ECHO)
    fitted = await bench.fit(Rag(**FIXED), OPEN)
    models = bench.meter()
    assert await fitted.solve(OPEN.test[0], models) == "item 3"
    blocks = bench.chat.requests[-1].messages[-1].content.split("\n\n")
    assert blocks[1:] == [
        "[doc-pink] pink\nThe pink box holds item 3.",
        "Say what the box holds.\nAnswer from the documents before the input.",
        "Which item has the pink box?",
    ]
    assert blocks[0].startswith("[doc-")
    assert [step.name for step in models.steps] == ["retrieve", "read"]
    assert json.loads(models.steps[0].output)[0] == "doc-pink"
    assert models.steps[1].output == "item 3"
    assert models.seconds == pytest.approx(sum(step.seconds for step in models.steps))


async def test_the_number_of_passages_is_chosen_by_answers_and_the_cheaper_wins_a_tie(tmp_path: Path) -> None:
    right = [{"when": rf"(?s)(\[doc-.*){{3}}And the {name}", "answer": f"item {n}"} for n, name in enumerate(COLOURS)]
    bench = Bench(tmp_path, {"rules": right, "default": "no idea"})
    fitted = await bench.fit(Rag(), OPEN)
    assert fitted.parameters["top_k"] == 3
    tried = fitted.parameters["tried"]
    assert [row["option"][:10] for row in tried] == ["1 passages", "3 passages", "5 passages"]
    assert [row["score"] for row in tried] == [0.0, 1.0, 1.0]


async def test_choosing_takes_few_requests_however_large_dev_is(tmp_path: Path) -> None:
    many = tuple(Sample(f"d{n}", f"And the {COLOURS[n % 8]} box, number {n}?", f"item {n % 8}") for n in range(200))
    bench = Bench(tmp_path, ECHO)
    await bench.fit(Rag(), dataclasses.replace(OPEN, dev=many))
    assert 24 < bench.requests <= 60


async def test_a_context_that_holds_two_passages_is_not_tried_with_five(tmp_path: Path) -> None:
    fitted = await Bench(tmp_path, ECHO).fit(Rag(context_tokens=450, chunk_tokens=200), OPEN)
    assert [row["option"][:1] for row in fitted.parameters["tried"]] == []
    assert fitted.parameters["top_k"] == 1


def _misleading(n: int) -> Task:
    """Documents that the scripted embedder tells apart by common words, though a rare word in each is what is asked."""
    rng = random.Random(1)

    def common() -> str:
        return " ".join(rng.choices(["lamp", "door", "tree", "road", "wall", "fish"], k=60))

    documents = tuple(Document(f"d{i}", f"{common()} code{i}x {common()}") for i in range(n))
    questions = [Sample(f"q{i}", f"{common()} code{i}x", "yes", {"supporting_doc_ids": [f"d{i}"]}) for i in range(n)]
    return Task("t", "Answer.", tuple(questions[: n // 2]), tuple(questions[n // 2 :]), (), documents=documents)


async def test_the_search_is_chosen_by_what_it_finds(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    fitted = await bench.fit(Rag(top_k=1), _misleading(60))
    rows = {(row["mode"], row["chunk_tokens"]): row["coverage"] for row in fitted.parameters["compared"]}
    assert len(rows) == 6
    assert rows["bm25", 200] > rows["hybrid", 200] > rows["dense", 200], rows
    assert fitted.parameters["mode"] == "bm25"
    assert bench.requests == 0, "the retrieval is chosen without any request to the chat model"
    assert any(note[0] == "retrievals compared" for note in bench.notes)


async def test_a_search_that_is_no_better_does_not_displace_the_default(tmp_path: Path) -> None:
    fitted = await Bench(tmp_path, ECHO).fit(Rag(top_k=1), OPEN)
    assert {row["coverage"] for row in fitted.parameters["compared"]} == {1.0}
    assert (fitted.parameters["mode"], fitted.parameters["chunk_tokens"], fitted.parameters["overlap"]) == (
        "hybrid", 200, 40,
    )  # fmt: skip


async def test_without_anything_to_go_by_the_default_is_taken(tmp_path: Path) -> None:
    fitted = await Bench(tmp_path).fit(Rag(top_k=1))
    assert fitted.parameters["compared"] == []
    assert fitted.parameters["mode"] == "hybrid"


def _passages(*sizes: int) -> list[Passage]:
    return [Passage(f"d{n}", "", ("word " * size).strip(), 1.0) for n, size in enumerate(sizes)]


def test_passages_beyond_the_context_are_left_out_from_the_end() -> None:
    assert [passage.document_id for passage in fitting(_passages(10, 10, 10), 32)] == ["d0", "d1"]
    assert fitting([], 10) == ()
    (cut,) = fitting(_passages(100, 1), 10)
    assert cut.text == "word word word word word word word word"[: len(cut.text)]
    assert 20 < len(cut.text) <= 40


async def test_what_was_found_and_not_shown_is_recorded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ECHO)
    fitted = await bench.fit(Rag(mode="hybrid", top_k=3, chunk_tokens=200, context_tokens=30), OPEN)
    models = bench.meter()
    await fitted.solve(OPEN.test[0], models)
    found, left_out = (json.loads(step.output) for step in models.steps[:2])
    assert [step.name for step in models.steps] == ["retrieve", "left out", "read"]
    assert found[-1:] == left_out


async def test_a_prompt_that_is_too_long_is_read_by_halves_and_paid_for(tmp_path: Path) -> None:
    script = {
        "rules": [
            {"when": r"(?s)(\[doc-.*){2}", "error": "the prompt has 9 tokens; the model's context window holds 5"}
        ]
    }
    bench = Bench(tmp_path, {"rules": script["rules"] + ECHO["rules"]})
    fitted = await bench.fit(Rag(mode="hybrid", top_k=5, chunk_tokens=200), OPEN)
    models = bench.meter()
    assert await fitted.solve(OPEN.test[0], models) == "item 3"
    assert [step.name for step in models.steps] == ["retrieve", "too long", "too long", "read"]
    assert [len(json.loads(step.output)) for step in models.steps[:3]] == [5, 5, 2]
    assert json.loads(models.steps[2].output)[0] == "doc-pink", "the better half is kept"


async def test_other_errors_and_a_single_passage_that_is_too_long_are_errors_of_the_sample(tmp_path: Path) -> None:
    for number, said in enumerate(["refused by the policy", "context window exceeded"]):
        bench = Bench(tmp_path / str(number), {"rules": [{"when": "", "error": said}]})
        fitted = await bench.fit(Rag(**FIXED), OPEN)
        with pytest.raises(RequestError, match=said):
            await fitted.solve(OPEN.test[0], bench.meter())
        assert len(bench.chat.requests) == number + 1


@pytest.mark.parametrize("technique", [Rag(**FIXED), RagFewShot(**FIXED, k=2)])
async def test_given_documents_are_read_and_no_others(technique: Rag, tmp_path: Path) -> None:
    bench = Bench(tmp_path, ECHO)
    fitted: Any = await bench.fit(technique, OPEN)
    assert isinstance(fitted, Ablatable)
    models = bench.meter()
    answer = await fitted.solve_given(OPEN.test[0], models, Given(documents=("doc-green", "doc-blue")))
    assert answer == "item 1", "what stands last is read by the script"
    shown = bench.chat.requests[-1].messages[-1].content
    assert [word for word in COLOURS if f"[doc-{word}]" in shown] == ["green", "blue"]
    assert "retrieve" not in [step.name for step in models.steps]
    with pytest.raises(RequestError, match="nowhere"):
        await fitted.solve_given(OPEN.test[0], bench.meter(), Given(documents=("nowhere",)))
    retrieved = await fitted.solve_given(OPEN.test[0], bench.meter(), Given())
    assert retrieved == await fitted.solve(OPEN.test[0], bench.meter()) == "item 3"


async def test_not_in_the_documents_is_an_allowed_answer(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    fitted: Any = await bench.fit(Rag(**FIXED, allow_unanswerable=True))
    await fitted.solve(TASK.test[0], bench.meter())
    request = bench.chat.requests[-1]
    assert request.choices == (*TASK.labels, UNANSWERABLE)
    assert f"answer exactly: {UNANSWERABLE}\n\n{TASK.test[0].input}" in request.messages[-1].content
    plain: Any = await Bench(tmp_path / "plain").fit(Rag(**FIXED))
    assert plain.reader.prompt.choices == TASK.labels
    assert UNANSWERABLE not in plain.reader.prompt.instructions


async def test_citations_are_asked_for_and_shown_in_examples(tmp_path: Path) -> None:
    train = tuple(dataclasses.replace(one, metadata={"supporting_doc_ids": ["doc-red"]}) for one in OPEN.train)
    task = dataclasses.replace(OPEN, train=train)
    bench = Bench(tmp_path, ECHO)
    fitted: Any = await bench.fit(RagFewShot(**FIXED, k=2, cite=True), task)
    await fitted.solve(OPEN.test[0], bench.meter())
    request = bench.chat.requests[-1]
    assert "like this: [id]" in request.messages[0].content
    assert [turn.content[-9:] for turn in request.messages if turn.role == "assistant"] == ["[doc-red]"] * 2
    silent: Any = await bench.fit(RagFewShot(**FIXED, k=2), task)
    assert silent.reader.prompt.max_tokens < request.max_tokens
    assert not any("[doc" in shown.target for shown in silent.pool)


async def test_examples_are_the_nearest_and_stand_without_passages(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ECHO)
    fitted = await bench.fit(RagFewShot(**FIXED, k=1), OPEN)
    models = bench.meter()
    await fitted.solve(dataclasses.replace(OPEN.test[0], input="What is in the blue box?"), models)
    system, question, answer, last = bench.chat.requests[-1].messages
    assert (question.content, answer.content) == ("What is in the blue box?", "item 2")
    assert last.content.endswith("holds item 2.\n\nWhat is in the blue box?")
    assert [step.name for step in models.steps] == ["retrieve", "examples", "read"]
    assert system.content.startswith("Say what the box holds.")


async def test_a_cross_encoder_orders_the_passages(tmp_path: Path) -> None:
    bench = RankingBench(tmp_path, ECHO)
    fitted = await bench.fit(Rag(mode="dense", top_k=1, chunk_tokens=200, rerank="scripted/words"), OPEN)
    models = bench.meter()
    assert await fitted.solve(OPEN.test[0], models) == "item 3"
    assert models.steps[0].usage.requests == 2
    assert fitted.parameters["rerank"] == "scripted/words"


@pytest.mark.parametrize(
    ("technique", "change", "said"),
    [
        (Rag(), {"documents": ()}, "no documents"),
        (Rag(cite=True), {}, "no room for citations"),
        (Rag(allow_unanswerable=True), {"labels": (), "output_schema": "{}"}, "break the output schema"),
        (RagFewShot(k=30), {}, "leave nothing to choose 30 from"),
        (RagFewShot(), {"documents": ()}, "no documents"),
    ],
)
def test_what_cannot_work_says_why(technique: Rag, change: dict[str, Any], said: str) -> None:
    assert said in str(technique.unfit(dataclasses.replace(TASK, **change)))
    assert technique.suits(TASK)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"chunk_tokens": -1}, "chunk_tokens is -1"),
        ({"overlap": 101}, "overlap is 101"),
        ({"overlap": 11, "chunk_tokens": 20}, "half of chunk_tokens"),
        ({"mode": "magic"}, "rag.mode is 'magic'"),
        ({"k": 3}, "no parameter 'k'"),
    ],
)
def test_wrong_hyperparameters_are_refused(parameters: dict[str, Any], said: str) -> None:
    assert said in registry.problems("rag", parameters)[0]


def test_the_registry_knows_both() -> None:
    names = registry.names()
    assert names.index("knn_few_shot") < names.index("rag") < names.index("rag+knn_few_shot")
    assert (Rag.fitted, RagFewShot.fitted) == (FittedRag, FittedRagFewShot)
    assert registry.problems("rag+knn_few_shot", {"k": 0})[0].startswith("rag+knn_few_shot: k is 0")
