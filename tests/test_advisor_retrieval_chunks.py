"""Cutting documents: along their structure, never within a word, nothing lost."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.retrieval.chunks import approximate_tokens, shortened, split
from evals.task import Document

GUIDE = """Before all headings.

# Guide

Read this first. It is short.

## Install

Run the installer. Then restart.

```
# no heading, but a comment
```

## Use

Press the button. Watch the lamp.

# Licence

Free.
"""


def _texts(text: str, tokens: int, overlap: int = 0, kind: str = "text") -> list[str]:
    return [chunk.text for chunk in split(Document("d", text, "T", kind), tokens, overlap)]  # type: ignore[arg-type]


def test_a_document_no_longer_than_a_chunk_stays_whole() -> None:
    assert _texts(GUIDE, 200, 40, "markdown") == [GUIDE.strip()]
    assert _texts("  ", 10) == []


def test_sections_stand_under_their_headings() -> None:
    assert _texts(GUIDE, 25, 0, "markdown") == [
        "Before all headings.\n\n# Guide\n\nRead this first. It is short.",
        "Guide\n## Install\n\nRun the installer. Then restart.\n\n```\n# no heading, but a comment\n```",
        "Guide\n## Use\n\nPress the button. Watch the lamp.\n\n# Licence\n\nFree.",
    ]


def test_a_long_section_repeats_its_headings() -> None:
    found = _texts("# A\n\n## B\n\n" + "One sentence of five words. " * 12, 30, 0, "markdown")
    assert len(found) > 2
    assert all(text.startswith("A > B\n") for text in found[1:])
    assert all(text.endswith(".") for text in found), "sentences are not cut where they fit"


def test_the_name_of_a_heading_may_end_in_a_hash() -> None:
    found = _texts("# C# #\n\n" + "One sentence of five words. " * 12, 30, 0, "markdown")
    assert found[1].startswith("C#\nOne")


def test_a_document_of_very_many_headings_and_fences_takes_no_time_that_grows_with_its_square() -> None:
    """Every heading against every fence would be 14 thousand million comparisons: an hour."""
    found = _texts("# Head\n\n```\n# code\n```\n\n" * 120_000, 2_000, 0, "markdown")
    assert sum(text.count("# Head") for text in found) == 120_000
    assert all(text.startswith("# Head") for text in found), "no chunk begins at a comment in code"


def test_spaces_within_a_heading_take_no_time_that_grows_with_their_square() -> None:
    wide = f"a{' ' * 200_000}b"
    found = _texts(f"# {wide} #\t \n\n" + "One sentence of five words. " * 12, 30, 0, "markdown")
    assert found[-1].startswith(f"{wide}\nOne")


@pytest.mark.parametrize(
    ("heading", "name"),
    [("# A ##", "A"), ("# A#", "A#"), ("# #", "#"), ("# # #", "#"), ("## A \t", "A"), ("# A #b #", "A #b")],
)
def test_hashes_that_close_a_heading_are_not_its_name(heading: str, name: str) -> None:
    found = _texts(f"{heading}\n\n" + "One sentence of five words. " * 12, 30, 0, "markdown")
    assert found[1].startswith(f"{name}\nOne")


def test_plain_text_has_no_headings() -> None:
    assert _texts("# one\n\n" + "two " * 30, 15)[0].startswith("# one\n\ntwo")


def test_paragraphs_are_kept_together_where_they_fit() -> None:
    first, second, third = ("Alpha beta gamma. " * 3).strip(), ("Delta epsilon. " * 3).strip(), "Zeta eta."
    assert _texts(f"{first}\n\n{second}\n\n{third}", 20) == [first, f"{second}\n\n{third}"]


def test_neighbouring_chunks_overlap_within_a_section() -> None:
    sentences = [f"Sentence number {number} is here." for number in range(20)]
    found = _texts(" ".join(sentences), 40, 10)
    assert all(before.split(". ")[-1] == after.split(". ")[0] + "." for before, after in itertools.pairwise(found))
    assert all(approximate_tokens(text) <= 40 for text in found)


def test_a_word_longer_than_a_chunk_is_not_cut() -> None:
    word = "x" * 100
    assert _texts(f"before {word} after", 5) == ["before", word, "after"]


def test_text_without_spaces_is_cut_between_characters() -> None:
    found = _texts("日本語の文章です。" * 10, 30)
    assert "".join(found) == "日本語の文章です。" * 10
    assert all(approximate_tokens(text) <= 30 for text in found)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab .\n#日"), max_size=30), max_size=30).map(" ".join),
    st.integers(1, 30),
    st.integers(0, 10),
    st.sampled_from(["text", "markdown"]),
)
def test_no_word_is_lost_or_cut(text: str, tokens: int, overlap: int, kind: str) -> None:
    """Chunks without overlap hold the words of the text, in order; ideographs are words of their own."""
    words = re.findall(r"[^\s日]+|日", text)
    shown = _texts(text, tokens, 0, kind)
    kept = iter([word for chunk in shown for word in re.findall(r"[^\s日]+|日", chunk)])
    assert all(word in kept for word in words)
    assert set(re.findall(r"[^\s日]+", " ".join(_texts(text, tokens, overlap, kind)))) <= {*words, ">"}


@pytest.mark.parametrize(("tokens", "right"), [(1, "one"), (3, "one two"), (99, "one two three")])
def test_the_beginning_of_a_text_ends_between_words(tokens: int, right: str) -> None:
    assert shortened("one two three", tokens) == right


def test_the_title_is_searched_but_not_part_of_the_text() -> None:
    (chunk,) = split(Document("d", "Text.", "Title"), 10, 0)
    assert (chunk.text, chunk.indexed) == ("Text.", "Title\nText.")
    (untitled,) = split(Document("d", "Text."), 10, 0)
    assert untitled.indexed == "Text."
