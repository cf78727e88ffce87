"""What is to be solved, on which samples, and how an answer is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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

    def split(self, name: Split) -> tuple[Sample, ...]:
        """The samples of one split."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]
