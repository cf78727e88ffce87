"""Which techniques a scenario tries, on which models, and why; and what `auto` makes of what it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advisor import engine
from advisor.candidates import Lineup, lineup
from advisor.scenario.load import load_scenario
from advisor.techniques import registry
from backends.errors import InputError
from tests import toys

FUNCTION = 'def look_up(word: str) -> str:\n    """Look a word up."""\n    return word\n'
TOOL = {"name": "look_up", "description": "Look a word up.", "parameters": {"type": "object", "properties": {}}}


def found(folder: Path, **changes: Any) -> Lineup:
    """The lineup of a toy scenario that leaves the choice to us, with documents and tools when they are asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    model = toys.script(folder, "model", toys.rules(0.9))
    if changes.get("documents"):
        changes["documents"] = "docs"
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "a.md").write_text("# Metals\n\nIron is one.\n", encoding="utf-8")
    (folder / "tools.jsonl").write_text(json.dumps(TOOL) + "\n", encoding="utf-8")
    (folder / "tools.py").write_text(FUNCTION, encoding="utf-8")
    path = toys.scenario(folder, model, **{"techniques": "auto", **changes})
    return lineup(load_scenario(path))


def chosen(lines: Lineup) -> set[str]:
    return {one.technique for one in lines.chosen}


def test_every_technique_is_in_or_out_with_a_reason(tmp_path: Path) -> None:
    lines = found(tmp_path)
    told = [one.technique for one in (*lines.chosen, *lines.left_out)]
    assert sorted(told) == sorted(registry.names())
    assert all(one.reason for one in (*lines.chosen, *lines.left_out))
    assert {"zero_shot", "few_shot", "knn_few_shot", "structured_output", "fine_tune"} <= chosen(lines)


def test_documents_bring_retrieval_in_and_their_lack_keeps_it_out(tmp_path: Path) -> None:
    without, having = found(tmp_path / "a"), found(tmp_path / "b", documents=True)
    assert not {"rag", "rag+knn_few_shot"} & chosen(without)
    assert {"rag", "rag+knn_few_shot"} <= chosen(having)
    reasons = {one.technique: one.reason for one in (*without.left_out, *having.chosen)}
    assert "document" in reasons["rag"]


def test_tools_bring_function_calling_in(tmp_path: Path) -> None:
    assert "function_calling" not in chosen(found(tmp_path / "a"))
    assert "function_calling" in chosen(found(tmp_path / "b", tools="tools.py"))
    only_declared = found(tmp_path / "c", tools="tools.jsonl")
    assert "no calls of them" in next(
        one.reason for one in only_declared.left_out if one.technique == "function_calling"
    )


def test_worked_calls_are_a_candidate_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "s"
    found(path)
    for split in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (path / f"{split}.jsonl").read_text("utf-8").splitlines()]
        calls = [row | {"target": [{"name": "look_up", "arguments": {}}]} for row in rows]
        (path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in calls), encoding="utf-8")
    text = (
        (path / "scenario.yaml").read_text("utf-8").replace("scorer: exact", "scorer: tool_calls\ntools: tools.jsonl")
    )
    kept = [line for line in text.splitlines() if not line.startswith(("labels:", "- fruit", "- metal", "- river"))]
    (path / "scenario.yaml").write_text("\n".join(kept), encoding="utf-8")
    names = [one.id.partition("@")[0] for one in lineup(load_scenario(path)).prompting]
    assert {"function_calling", "function_calling(k=4)"} <= set(names)


def test_what_auto_does_not_advise_can_still_be_asked_for(tmp_path: Path) -> None:
    left_out = {one.technique for one in found(tmp_path / "a").left_out}
    assert "chain" in left_out, "labels are rarely worth a chain of prompts"
    assert "chain" in chosen(found(tmp_path / "b", techniques=["zero_shot", "chain"]))


def test_a_cascade_ends_with_the_last_model_and_needs_two(tmp_path: Path) -> None:
    dear = toys.script(tmp_path, "dear", toys.rules(1.0))
    cheap = toys.script(tmp_path, "model", toys.rules(0.9))
    lines = found(tmp_path, models=[cheap, dear])
    cascades = [candidate for candidate in lines.prompting if candidate.technique.name == "cascade"]
    assert [(candidate.model, candidate.others) for candidate in cascades] == [(cheap, (dear,))]
    alone = found(tmp_path / "alone")
    assert next(one.reason for one in alone.left_out if one.technique == "cascade")


def test_models_that_steps_and_teachers_ask_need_consent_too(tmp_path: Path) -> None:
    dear = toys.script(tmp_path, "dear", toys.rules(1.0), billed=True)
    cheap = toys.script(tmp_path, "model", toys.rules(0.9))
    chain = [{"name": "think", "prompt": "Think: {input}", "model": dear}, {"name": "answer", "prompt": "{think}"}]
    path = toys.scenario(tmp_path, cheap, techniques=["chain"], chain=chain)
    assert engine.billed_models(path) == [dear]
    teacher = [{"name": "optimized_prompt", "teacher": dear}]
    assert engine.billed_models(toys.scenario(tmp_path, cheap, techniques=teacher)) == [dear]


@pytest.mark.parametrize("when", ["needed", "never"])
def test_fine_tuning_waits_or_is_left_out(tmp_path: Path, when: str) -> None:
    lines = found(tmp_path, fine_tune={"when": when, "backend": "scripted"})
    assert bool(lines.tuning) == (when == "needed")
    assert not any(candidate.technique.tunes for candidate in lines.prompting)


def test_models_named_within_techniques_are_looked_at_before_anything_is_spent(tmp_path: Path) -> None:
    teacher = {"name": "optimized_prompt", "teacher": "scripted/none.json"}
    with pytest.raises(InputError, match=r"optimized_prompt: there is no script file 'none\.json'"):
        found(tmp_path, techniques=["zero_shot", teacher])
    rerank = {"name": "rag", "rerank": "local/nowhere/at-all"}
    with pytest.raises(InputError, match="rag: "):
        found(tmp_path, techniques=["zero_shot", rerank], documents=True)


def test_without_a_word_on_fine_tuning_models_that_cannot_be_trained_do_not_matter(tmp_path: Path) -> None:
    lines = found(tmp_path, fine_tune={})
    assert lines.tuning == ()
    (reason,) = [one.reason for one in lines.left_out if one.technique == "fine_tune"]
    assert "fine_tune.backend is local, which can train none of the models" in reason
    with pytest.raises(InputError, match="cannot tune it"):
        found(tmp_path, fine_tune={"when": "always"})
