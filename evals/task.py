"""What is to be solved, on which samples, and how an answer is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from backends.types import Tool

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One example of the task."""

    id: str
    input: str
    target: str
    """The right answer as text; JSON text for structured answers."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    """The cluster the sample was drawn in (a document, a customer), or None."""

    @property
    def gold_documents(self) -> tuple[str, ...]:
        """Ids of the documents that hold the answer; empty when the data do not say."""
        named = self.metadata.get("supporting_doc_ids") or ()
        return (named,) if isinstance(named, str) else tuple(map(str, named))


@dataclass(frozen=True, slots=True)
class Document:
    """A text that may be retrieved."""

    id: str
    text: str
    title: str = ""
    kind: Literal["text", "markdown"] = "text"
    """How its structure shows: by blank lines, or by headings too."""


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of a task."""

    tools: tuple[Tool, ...]
    source: Path | None = None
    """The user's `tools.py` whose functions are run, in a process of their own; None when only calls are scored."""


@dataclass(frozen=True, slots=True)
class ChainStep:
    """One prompt of a chain, as the scenario declares it."""

    name: str
    prompt: str
    """May hold `{input}` and `{name}` of earlier steps."""
    model: str | None = None
    """Asked in place of the candidate's own."""
    choices: tuple[str, ...] = ()
    json_schema: str | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class Task:
    """What is to be solved: instructions and samples. How it is scored is the scorer's business."""

    name: str
    instructions: str
    train: tuple[Sample, ...]
    dev: tuple[Sample, ...]
    test: tuple[Sample, ...]
    labels: tuple[str, ...] = ()
    """The closed answer set; empty when answers are open."""
    output_schema: str | None = None
    """JSON Schema of the answer, as canonical JSON text, or None."""
    documents: tuple[Document, ...] = ()
    """What may be retrieved; ids are unique."""
    tools: Toolbox | None = None
    chain: tuple[ChainStep, ...] = ()
    """The steps the scenario declares; empty when the default chains are to be tried."""

    def split(self, name: Split) -> tuple[Sample, ...]:
        """The samples of one split."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]
