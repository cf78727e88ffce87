"""Cuts documents into passages: along headings first, then paragraphs, sentences and words.

Sizes are approximate tokens, counted without a tokenizer: every embedding model has another one.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evals.task import Document

CHARACTERS_PER_TOKEN = 4.0
"""Of English prose; see `approximate_tokens`."""

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")
_HEADING = re.compile(r"^(#{1,6})[ \t]+(\S.*)$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_BREAKS = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|(?<=[。！？])|\n"),
    re.compile(rf"\s+|(?=[{_IDEOGRAPHS}])"),
)
"""Where a text may be cut, from the best places to the last resort: paragraphs, sentences, words."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document, as it is found and shown."""

    document_id: str
    title: str
    text: str
    """Begins with the headings it stands under, when it does not begin with them anyway."""

    @property
    def indexed(self) -> str:
        """What is embedded and searched: the title often names what the text only calls `it`."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a document that is not cut any further; `above` are the headings it stands under."""

    start: int
    end: int
    above: str
    opens: bool
    """Whether a section begins here."""


def approximate_tokens(text: str) -> int:
    """About how many tokens a text has: a fourth of its characters, and one for each ideograph.

    The tokenizer of all-MiniLM-L6-v2 needs 4.6 to 4.9 characters a token on English encyclopaedia paragraphs (and
    fewer than 3.7 on one in twenty), so that the figure is rather too high than too low.
    """
    ideographs = len(_IDEOGRAPH.findall(text))
    return math.ceil((len(text) - ideographs) / CHARACTERS_PER_TOKEN) + ideographs


def shortened(text: str, tokens: int) -> str:
    """The beginning of a text with at most about so many tokens, cut between words; at least one word."""
    spans = _cut(text, 0, len(text), 1, len(_BREAKS) - 1)
    end = size = 0
    for start, last in spans:
        size += approximate_tokens(text[start:last])
        if size > tokens and end:
            break
        end = last
    return text[:end].rstrip()


def split(document: Document, tokens: int, overlap: int) -> list[Chunk]:
    """The chunks of a document, at most about `tokens` long, each repeating about `overlap` tokens of the one before.

    Words are never cut; a document no longer than a chunk stays whole.
    """
    if approximate_tokens(document.text) <= tokens:
        text = document.text.strip()
        return [Chunk(document.id, document.title, text)] if text else []
    return [
        Chunk(document.id, document.title, _shown(document.text, pieces))
        for pieces in _packed(document.text, list(_pieces(document, tokens)), tokens, overlap)
    ]


def _shown(text: str, pieces: Sequence[_Piece]) -> str:
    body = text[pieces[0].start : pieces[-1].end].strip()
    return f"{pieces[0].above}\n{body}" if pieces[0].above else body


def _packed(text: str, pieces: Sequence[_Piece], tokens: int, overlap: int) -> Iterator[Sequence[_Piece]]:
    """Runs of neighbouring pieces. A section that begins when a chunk is half full begins a chunk of its own."""
    sizes = [approximate_tokens(text[piece.start : piece.end]) for piece in pieces]
    start = size = 0
    for position, piece in enumerate(pieces):
        full = size + sizes[position] > tokens
        turns = piece.opens and size * 2 >= tokens
        if position > start and (full or turns):
            yield pieces[start:position]
            start, size = position, sizes[position]
            # The end of a section says nothing about the next one, and a repetition must not make a chunk too long.
            while not pieces[start].opens and size + sizes[start - 1] <= min(tokens, sizes[position] + overlap):
                start -= 1
                size += sizes[start]
        else:
            size += sizes[position]
    if pieces:
        yield pieces[start:]


def _pieces(document: Document, tokens: int) -> Iterator[_Piece]:
    for start, end, above, own in _sections(document):
        opens = True
        for first, last in _cut(document.text, start, end, tokens, 0):
            yield _Piece(first, last, above if opens else own, opens)
            opens = False


def _cut(text: str, start: int, end: int, tokens: int, level: int) -> Iterator[tuple[int, int]]:
    """Spans of `text[start:end]` that fit, cut at the best places that make them fit."""
    if not text[start:end].strip():
        return
    if level == len(_BREAKS) or approximate_tokens(text[start:end]) <= tokens:
        yield start, end
        return
    begun = start
    for match in _BREAKS[level].finditer(text, start, end):
        if match.end() > begun:
            yield from _cut(text, begun, match.end(), tokens, level + 1)
            begun = match.end()
    yield from _cut(text, begun, end, tokens, level + 1)


def _sections(document: Document) -> Iterator[tuple[int, int, str, str]]:
    """Start, end, headings above the section and headings including its own."""
    headings = _headings(document.text) if document.kind == "markdown" else []
    starts = [heading.start() for heading in headings] + [len(document.text)]
    yield 0, starts[0], "", ""
    path: list[tuple[int, str]] = []
    for heading, end in zip(headings, starts[1:], strict=True):
        level = len(heading[1])
        path = [(depth, name) for depth, name in path if depth < level]
        above = " > ".join(name for _, name in path)
        path.append((level, _name(heading[2])))
        yield heading.start(), end, above, " > ".join(name for _, name in path)


def _name(heading: str) -> str:
    """A heading without the hashes that close it; those of `C#` belong to it."""
    line = heading.rstrip(" \t")
    bare = line.rstrip("#")
    return bare.rstrip(" \t") if bare.endswith((" ", "\t")) else line


def _headings(text: str) -> list[re.Match[str]]:
    """Headings outside fenced code, where `#` begins a comment."""
    code = [match.span() for match in _FENCE.finditer(text)]
    starts = [start for start, _ in code]

    def is_code(position: int) -> bool:
        before = bisect_right(starts, position)
        return before > 0 and position < code[before - 1][1]

    return [match for match in _HEADING.finditer(text) if not is_code(match.start())]
