"""Chains: what each step sees and costs, which default chain is chosen, what is looked up, where an error began."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from advisor.techniques import registry
from advisor.techniques.base import Ablatable, Given
from advisor.techniques.chain import Chain, FittedChain
from advisor.techniques.chain_errors import first_wrong_step
from advisor.techniques.default_chains import questions
from advisor.techniques.rag_chain import FittedRagChain, RagChain
from advisor.techniques.template import escaped, fields, filled
from backends.errors import RequestError
from backends.meter import Step
from backends.types import Usage
from evals.scorers.text import normalise
from evals.task import ChainStep, Document, Sample, Task
from tests import toys
from tests.techniques import TASK, Bench, violations

KIND_OF = {"fruit": "sweet", "metal": "hard", "river": "wet"}
TWO_STEPS = dataclasses.replace(
    TASK,
    chain=(
        ChainStep("feel", "How does it feel? {input}"),
        ChainStep("decide", "Something that is {feel}. What is it?"),
    ),
)
RULES = [
    *({"when": f"feel\\?.*({'|'.join(toys.WORDS[label])})", "answer": feel} for label, feel in KIND_OF.items()),
    *({"when": f"that is {feel}", "answer": label} for label, feel in KIND_OF.items()),
]
OPEN = dataclasses.replace(TASK, labels=())


async def solved(folder: Path, technique: Any, task: Task, script: Mapping[str, Any], **bench: Any) -> Any:
    """What a fitted technique answers to the first test sample, the meter, and the bench."""
    at = Bench(folder, script=dict(script), **bench)
    fitted = await at.fit(technique, task)
    meter, before = at.meter(), len(at.chat.requests)
    answer = await fitted.solve(task.test[0], meter)
    del at.chat.requests[:before]
    return answer, meter, at, fitted


async def test_the_second_step_uses_what_the_first_one_gave(tmp_path: Path) -> None:
    answer, _, at, _ = await solved(tmp_path, Chain(), TWO_STEPS, {"rules": RULES})
    assert answer == TWO_STEPS.test[0].target == "fruit"
    assert at.chat.prompts[1] == "Sort the message.\nSomething that is sweet. What is it?"


async def test_the_costs_of_the_steps_add_up_to_the_cost_of_the_sample(tmp_path: Path) -> None:
    _, meter, _, _ = await solved(tmp_path, Chain(), TWO_STEPS, {"rules": RULES, "usd_per_1m_output": 50.0})
    assert [(step.name, step.output) for step in meter.steps] == [("feel", "sweet"), ("decide", "fruit")]
    assert sum((step.usage for step in meter.steps), Usage()) == meter.usage
    assert all(step.usage.requests == 1 and step.usage.cost_usd for step in meter.steps)
    assert sum(step.seconds for step in meter.steps) == pytest.approx(meter.seconds)


async def test_only_the_last_step_is_held_to_the_tasks_answers(tmp_path: Path) -> None:
    _, _, at, _ = await solved(tmp_path, Chain(), TWO_STEPS, {"rules": RULES})
    first, last = at.chat.requests
    assert (first.choices, [message.role for message in first.messages]) == ((), ["user"])
    assert (last.choices, [message.role for message in last.messages]) == (TASK.labels, ["system", "user"])
    assert 0 < first.max_tokens <= 200


async def test_a_step_keeps_its_own_model_and_constraint(tmp_path: Path) -> None:
    own = (
        dataclasses.replace(TWO_STEPS.chain[0], model="scripted/other", choices=("sweet", "hard"), max_tokens=7),
        dataclasses.replace(TWO_STEPS.chain[1], json_schema='{"type": "string"}'),
    )
    task = dataclasses.replace(TWO_STEPS, chain=own)
    other = {"rules": RULES, "usd_per_1m_input": 100.0}
    _, meter, at, _ = await solved(tmp_path, Chain(), task, {"rules": RULES}, scripts={"scripted/other": other})
    (asked,) = at.open("scripted/other").requests
    assert (asked.choices, asked.max_tokens) == (("sweet", "hard"), 7)
    (last,) = at.chat.requests
    assert (last.choices, last.json_schema) == ((), '{"type": "string"}')
    costs = [step.usage.cost_usd or 0 for step in meter.steps]
    assert costs[0] > 50 * costs[1], "the first step is paid at its own model's price"
    assert Chain().others(task) == ("scripted/other",)
    assert Chain(plan="revise").others(task) == ()


async def test_text_in_braces_is_never_looked_into(tmp_path: Path) -> None:
    sample = dataclasses.replace(TASK.test[0], input="{feel} {input.__class__} iron {{}}")
    at = Bench(tmp_path, script={"rules": RULES})
    fitted = await at.fit(Chain(), TWO_STEPS)
    await fitted.solve(sample, at.meter())
    assert at.chat.prompts[0] == f"How does it feel? {sample.input}"


async def test_a_cut_output_is_used_as_it_is(tmp_path: Path) -> None:
    short = (dataclasses.replace(TWO_STEPS.chain[0], max_tokens=2), TWO_STEPS.chain[1])
    script = {"rules": [{"when": "feel", "answer": "one two three four"}]}
    _, meter, at, _ = await solved(tmp_path, Chain(), dataclasses.replace(TWO_STEPS, chain=short), script)
    assert meter.steps[0].output == "one two"
    assert "that is one two." in at.chat.prompts[1]


async def test_a_step_that_fails_is_a_failed_sample_that_has_paid_for_the_steps_before(tmp_path: Path) -> None:
    at = Bench(tmp_path, script={"rules": [{"when": "that is", "error": "refused"}, {"when": "feel", "answer": "x"}]})
    fitted = await at.fit(Chain(), TWO_STEPS)
    meter = at.meter()
    with pytest.raises(RequestError, match="refused"):
        await fitted.solve(TASK.test[0], meter)
    assert (meter.usage.requests, [step.name for step in meter.steps]) == (1, ["feel", "decide"])


@pytest.mark.parametrize(("works", "plan"), [("Notes:", "decompose"), ("A draft:", "revise")])
async def test_the_default_chain_that_does_better_on_dev_is_chosen(tmp_path: Path, works: str, plan: str) -> None:
    script = {"rules": toys.rules(1.0, needs=works), "default": "no idea"}
    _, _, _, fitted = await solved(tmp_path, Chain(), OPEN, script)
    assert isinstance(fitted, FittedChain)
    assert fitted.links.plan == plan
    tried = {row["option"]: row["score"] for row in fitted.parameters["tried"]}
    assert tried == {"decompose": float(plan == "decompose"), "revise": float(plan == "revise")}


async def test_a_decomposition_answers_its_questions_one_after_another(tmp_path: Path) -> None:
    script = {
        "rules": [
            {"when": "Do not do the task yet", "answer": "1. What is it?\n2. Where is it?"},
            {"when": "Question: What is it", "answer": "a pear"},
            {"when": "Question: Where is it", "needs": "What is it\\? a pear", "answer": "in a bowl"},
            {"when": "(?s)Notes:.*a pear.*in a bowl", "answer": "fruit"},
        ]
    }
    answer, meter, at, _ = await solved(tmp_path, Chain(plan="decompose"), TASK, script)
    assert [step.name for step in meter.steps] == ["decompose", "solve 1", "solve 2", "answer"]
    assert [step.output for step in meter.steps[1:]] == ["a pear", "in a bowl", "fruit"]
    assert answer == "fruit"
    assert at.chat.requests[-1].choices == TASK.labels


async def test_a_revision_shows_draft_and_review(tmp_path: Path) -> None:
    script = {
        "rules": [
            {"when": "(?s)A draft:\nplum.*A review of it:\nwrong", "answer": "metal"},
            {"when": "A draft:\nplum", "answer": "wrong"},
            {"when": "Think it through", "answer": "plum"},
        ]
    }
    answer, meter, _, _ = await solved(tmp_path, Chain(plan="revise"), TASK, script)
    assert [(step.name, step.output) for step in meter.steps] == [
        ("draft", "plum"),
        ("critique", "wrong"),
        ("revise", "metal"),
    ]
    assert answer == "metal"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1. What?\n2) Who?\n- Where?\nWhen?", ["What?", "Who?", "Where?"]),
        ("Sure, here they are:\nQuestion 1: What?\nQ2. Who?", ["What?", "Who?"]),
        ("find the price\nfind the number", ["find the price", "find the number"]),
        ("What?\nWhat?\nWhat?", ["What?"]),
        (" \n\n", ["otherwise"]),
        ("- \n* ", ["otherwise"]),
    ],
)
def test_questions_are_read_from_lines(text: str, found: list[str]) -> None:
    assert questions(text, "otherwise") == found


@pytest.mark.parametrize(
    ("technique", "steps", "asked"),
    [
        (Chain(), ("hard",), ["decide"]),
        (Chain(), ("hard", "the answer itself"), ["decide"]),
        (Chain(), (), ["feel", "decide"]),
        (Chain(plan="decompose"), ("hard",), ["answer"]),
        (Chain(plan="revise"), ("hard",), ["critique", "revise"]),
    ],
)
async def test_right_outputs_take_the_place_of_steps(
    tmp_path: Path, technique: Chain, steps: tuple[str, ...], asked: list[str]
) -> None:
    at = Bench(tmp_path, script={"rules": RULES})
    fitted = await at.fit(technique, TWO_STEPS)
    assert isinstance(fitted, Ablatable)
    meter = at.meter()
    await fitted.solve_given(TASK.test[0], meter, Given(steps=steps))
    assert [step.name for step in meter.steps] == asked
    assert not steps or "hard" in at.chat.prompts[0]
    assert all("the answer itself" not in prompt for prompt in at.chat.prompts)


@pytest.mark.parametrize(
    ("technique", "task"),
    [
        (Chain(), TWO_STEPS),
        (Chain(plan="revise"), TASK),
        (Chain(), dataclasses.replace(OPEN, instructions="Sort {this} and {that.format}, } or {.")),
        (RagChain(), TASK),
        (RagChain(), TWO_STEPS),
    ],
)
async def test_chains_keep_the_contract(tmp_path: Path, technique: Any, task: Task) -> None:
    assert await violations(technique, tmp_path, task) == []


HOPS = dataclasses.replace(
    OPEN,
    documents=(
        Document("a", "The zebra lives in Ruritania.", "Zebra"),
        Document("b", "Ruritania is ruled by Rudolf.", "Ruritania"),
        Document("c", "Cake is made of flour.", "Cake"),
        Document("d", "Tea is made of leaves.", "Tea"),
    ),
    test=(Sample("test-0000", "Who rules where the zebra lives?", "Rudolf"),),
)
HOP_RULES = [
    {"when": "Do not do the task yet", "answer": "Where does the zebra live?\nWho rules there?"},
    {"when": "Question: Where does the zebra", "needs": "lives in Ruritania", "answer": "Ruritania"},
    {"when": "Question: Who rules there", "needs": "ruled by Rudolf", "answer": "Rudolf"},
    {
        "when": "(?s)^(Documents:.*)?Notes:.*Rudolf|Rudolf.*Notes:|Notes:",
        "needs": "there\\? Rudolf",
        "answer": "Rudolf",
    },
]


async def test_a_later_look_up_knows_the_answer_before_it(tmp_path: Path) -> None:
    technique = RagChain(plan="decompose", top_k=1)
    answer, meter, _, fitted = await solved(tmp_path, technique, HOPS, {"rules": HOP_RULES, "default": "?"})
    assert isinstance(fitted, FittedRagChain)
    found = [step.output for step in meter.steps if step.name == "retrieve"]
    assert found[:2] == ['["a"]', '["b"]'], "one passage each, the second found by the name in the first answer"
    assert answer == "Rudolf"
    assert sum((step.usage for step in meter.steps), Usage()) == meter.usage


async def test_given_documents_are_read_in_place_of_look_ups(tmp_path: Path) -> None:
    at = Bench(tmp_path, script={"rules": HOP_RULES, "default": "?"})
    fitted = await at.fit(RagChain(plan="revise", top_k=1), HOPS)
    assert isinstance(fitted, FittedRagChain)
    meter = at.meter()
    await fitted.solve_given(HOPS.test[0], meter, Given(documents=("b", "a")))
    assert "retrieve" not in [step.name for step in meter.steps]
    assert all("Ruritania" in prompt and "Cake" not in prompt for prompt in at.chat.prompts[-3:])
    with pytest.raises(RequestError, match="none of the documents x"):
        await fitted.solve_given(HOPS.test[0], at.meter(), Given(documents=("x",)))


async def test_one_query_is_looked_up_once(tmp_path: Path) -> None:
    _, meter, at, _ = await solved(tmp_path, RagChain(plan="revise", top_k=1), HOPS, {"default": "x"})
    assert [step.name for step in meter.steps] == ["retrieve", "draft", "critique", "revise"]
    assert all("Documents:" in prompt for prompt in at.chat.prompts)


async def test_chain_and_number_of_passages_are_chosen_on_dev(tmp_path: Path) -> None:
    script = {"rules": toys.rules(1.0, needs="A review of it"), "default": "?"}
    _, _, _, fitted = await solved(tmp_path, RagChain(), OPEN, script)
    assert fitted.parameters["plan"] == "revise"
    assert fitted.parameters["top_k"] == 2, "of equals the cheaper"
    assert len(fitted.parameters["tried"]) == 4


def test_auto_takes_chains_where_steps_may_help() -> None:
    assert (Chain().skip(TASK), Chain().skip(OPEN), Chain().skip(TWO_STEPS)) == (
        "answers are labels and the scenario declares no chain: steps help to calculate, hardly to sort",
        None,
        None,
    )
    assert Chain().suits(TWO_STEPS) == "the scenario declares a chain of 2 steps"
    single = [dataclasses.replace(one, metadata={"supporting_doc_ids": ["a"]}) for one in OPEN.train]
    double = [*single[1:], dataclasses.replace(single[0], metadata={"supporting_doc_ids": ["a", "b"]})]
    assert "one document" in (RagChain().skip(dataclasses.replace(OPEN, train=tuple(single))) or "")
    assert RagChain().skip(dataclasses.replace(OPEN, train=tuple(double))) is None
    assert RagChain().unfit(dataclasses.replace(TASK, documents=())) == "there are no documents to retrieve from"
    assert registry.problems("rag+chain", {"top_k": 0}) == ["rag+chain: top_k is 0, but must be at least 1."]
    assert "'decompose' or 'revise'" in registry.problems("chain", {"plan": "x"})[0]


def same(output: str, gold: str) -> bool:
    return normalise(output) == normalise(gold)


@pytest.mark.parametrize(
    ("steps", "gold", "first"),
    [
        ({"a": "1", "b": "2"}, ["1", "2"], None),
        ({"a": "1", "b": "3"}, ["1", "2"], "b"),
        ({"a": "0", "b": "3"}, ["1", "2"], "a"),
        ({"a": "0", "b": "2"}, {"b": "2"}, None),
        ({"a": "0", "b": "3"}, {"b": "2"}, "b"),
        ({"retrieve": "[]", "a": "1."}, ["1"], None),
        ({"a": "1"}, [], None),
        ({"a": "1"}, ["1", "2"], None),
        ({"decompose": "?", "solve 1": "1", "solve 2": "2", "answer": "9"}, ["1", "2"], None),
        ({"decompose": "?", "solve 1": "1", "solve 2": "3", "answer": "9"}, ["1", "2"], "solve 2"),
        ({"decompose": "?", "solve 1": "1", "answer": "9"}, ["1", "2"], "decompose"),
        ({"draft": "7", "critique": "ok", "revise": "7"}, ["1", "2"], None),
        ({"draft": "7", "critique": "ok", "revise": "7"}, {"draft": "2"}, "draft"),
    ],
)
def test_the_first_wrong_step_is_named(
    steps: Mapping[str, str], gold: Mapping[str, str] | Sequence[str], first: str | None
) -> None:
    made = [Step(name, output, Usage(), 0.0) for name, output in steps.items()]
    assert first_wrong_step(made, gold, same) == first


def test_templates_hold_plain_names_only() -> None:
    assert fields("{a} {{b}} {c}{a}") == ("a", "c")
    assert filled("{{{a}}} {b}", {"a": "{b}", "b": "}"}) == "{{b}} }"
    assert filled(escaped("{a} }{"), {}) == "{a} }{"
    for wrong, said in {"{a.b}": "plain", "{a[0]}": "plain", "{}": "plain", "{a!r}": "plain", "{a": "brace"}.items():
        with pytest.raises(ValueError, match=said):
            fields(wrong)
