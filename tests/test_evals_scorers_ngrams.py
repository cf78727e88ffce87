"""ROUGE-L, chrF and BLEU against figures worked out by hand or by a few lines of our own."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import InputError
from evals.scorers import ScorerError, make_scorer
from evals.task import Sample

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=8)


def value(spec: Any, output: str, target: str, **metadata: Any) -> float:
    return make_scorer(spec, Path())(output, Sample("s1", "question", target, metadata)).value


def longest_common(left: list[str], right: list[str]) -> int:
    lengths = dict.fromkeys(product(range(len(left) + 1), range(len(right) + 1)), 0)
    for i, j in product(range(len(left)), range(len(right))):
        same = lengths[i, j] + 1 if left[i] == right[j] else 0
        lengths[i + 1, j + 1] = max(same, lengths[i, j + 1], lengths[i + 1, j])
    return lengths[len(left), len(right)]


@given(WORDS, WORDS)
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(output: list[str], target: list[str]) -> None:
    expected = 2 * longest_common(output, target) / (len(output) + len(target))
    assert value("rouge_l", " ".join(output), " ".join(target)) == pytest.approx(expected)


def test_rouge_l_takes_no_notice_of_case_and_punctuation_and_of_endings_when_told() -> None:
    assert value("rouge_l", "The cat, sat!", "the CAT sat") == 1
    assert value("rouge_l", "running dogs", "runs dog") == 0
    assert value({"name": "rouge_l", "stem": True}, "running dogs", "runs dog") == 1


def chrf(output: str, target: str, beta: float = 2.0) -> float:
    precisions, recalls = [], []
    for order in range(1, 7):
        ours, theirs = (
            Counter(text[i : i + order] for i in range(len(text) - order + 1))
            for text in (output.replace(" ", ""), target.replace(" ", ""))
        )
        if ours and theirs:
            precisions.append((ours & theirs).total() / ours.total())
            recalls.append((ours & theirs).total() / theirs.total())
    precision, recall = (sum(found) / len(found) for found in (precisions, recalls))
    top = (1 + beta**2) * precision * recall
    return top / (beta**2 * precision + recall) if top else 0.0


@given(WORDS, WORDS)
def test_chrf_is_the_f2_of_mean_precision_and_recall_of_character_n_grams(output: list[str], target: list[str]) -> None:
    ours, theirs = " ".join(output), " ".join(target)
    assert value("chrf", ours, theirs) == pytest.approx(chrf(ours, theirs))


def test_chrf_serves_any_script_and_case_counts_unless_it_is_told_otherwise() -> None:
    assert value("chrf", "где вокзал", "где вокзал") == 1
    assert value("chrf", "abc", "xyz") == 0
    assert value("chrf", "ABC", "abc") == 0
    assert value({"name": "chrf", "case_sensitive": False}, "ABC", "abc") == 1
    assert value({"name": "chrf", "word_order": 2}, "a bc d", "ab c d") < value("chrf", "a bc d", "ab c d")


@pytest.mark.parametrize(
    ("output", "target", "expected"),
    [
        ("the cat sat on a mat", "the cat sat on the mat", (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)),
        # No trigram and no 4-gram in common: they count as 1/2 and 1/4 match.
        ("the cat is here", "the cat was there", (2 / 4 * 1 / 3 * (1 / 2) / 2 * (1 / 4) / 1) ** (1 / 4)),
        # Two words have no trigrams; they are punished for being two where three were wanted.
        ("the cat", "the cat sat", math.exp(1 - 3 / 2)),
        ("dog", "the cat sat", 0),
        ("", "the cat sat", 0),
    ],
)
def test_bleu_is_the_geometric_mean_of_precisions_times_brevity(output: str, target: str, expected: float) -> None:
    assert value("bleu", output, target) == pytest.approx(expected)


def test_bleu_finds_words_as_it_is_told() -> None:
    assert value("bleu", "The cat sat", "the cat sat") < 1
    assert value({"name": "bleu", "case_sensitive": False}, "The cat sat", "the cat sat") == 1
    assert value("bleu", "你好吗", "你好啊") == 0
    assert value({"name": "bleu", "tokenize": "zh"}, "你好吗", "你好啊") > 0


@pytest.mark.parametrize("name", ["rouge_l", "chrf", "bleu"])
@pytest.mark.parametrize("answer", ["a", "the cat", "The cat sat on the mat, again and again.", "x" * 300])
def test_the_right_answer_scores_exactly_1(name: str, answer: str) -> None:
    assert value(name, answer, answer) == 1
    assert value({"name": name, "at_least": 1}, answer, answer) == 1


@pytest.mark.parametrize("name", ["rouge_l", "chrf", "bleu"])
def test_the_nearest_right_answer_counts(name: str) -> None:
    spec = {"name": name, "references": "answers"}
    assert value(spec, "good morning", "hello you", answers=["hi", "good morning"]) == 1
    with pytest.raises(ScorerError, match="no field 'answers'"):
        value(spec, "good morning", "hello you")


@pytest.mark.parametrize("name", ["rouge_l", "chrf", "bleu"])
def test_a_threshold_makes_the_score_binary(name: str) -> None:
    target, near, far = "the cat sat on the mat", "the cat sat on a mat", "a dog lay in the hall"
    scorer = make_scorer({"name": name, "at_least": 0.5}, Path())
    assert scorer.binary
    assert not make_scorer(name, Path()).binary
    assert [value({"name": name, "at_least": 0.5}, output, target) for output in (near, far)] == [1, 0]
    assert 0.5 < value(name, near, target) < 1


@pytest.mark.parametrize(("name", "target"), [("rouge_l", "вокзал"), ("chrf", "  "), ("bleu", "")])
def test_a_target_with_nothing_to_count_is_no_wrong_answer(name: str, target: str) -> None:
    with pytest.raises(ScorerError, match="finds nothing to count in the target"):
        value(name, "anything", target)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "evals.scorers.overlap", raising=False)
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    monkeypatch.delitem(sys.modules, "rouge_score.rouge_scorer", raising=False)
    with pytest.raises(InputError, match=r"'rouge_score.*pip install 'cheapest-llm-advisor\[text\]'"):
        value("rouge_l", "a", "a")


def test_making_scorers_imports_none_of_their_packages() -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom evals.scorers import make_scorer\n"
        "for name in ('rouge_l', 'chrf', 'bleu', 'sql_logical_form', 'semantic_similarity'):\n"
        "    make_scorer(name, Path())\n"
        "print(sorted({'nltk', 'rouge_score', 'sacrebleu', 'sqlglot', 'torch'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
