"""The scorer `sql_logical_form`: whether two queries say the same, however they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from backends.extras import require
from evals.scorers.base import ScorerError, shorten
from evals.task import Sample
from evals.trial import Score

_FENCE = "```"


@dataclass(frozen=True, slots=True)
class SqlLogicalForm:
    """1 when answer and target are the same query once both are parsed, else 0.

    Case of keywords and names, spaces, comments, brackets, table aliases, names given to output columns, quotes around
    names and numbers, and the order of conditions do not count; order and number of output columns do. Nothing is
    executed: two queries that give the same rows in different ways differ. An answer that is not one query, alone or
    in one code fence, scores 0. Zhong et al. 2017, "Seq2SQL" (arXiv 1709.00103), call this logical form accuracy.
    """

    dialect: Literal["bigquery", "duckdb", "mysql", "postgres", "snowflake", "sqlite", "tsql"] | None = None
    """How the queries are read. By default, common SQL in which `col = "text"` compares with a text, as SQLite does."""
    case_sensitive: bool = False
    """True: texts that are compared with, such as `'Paris'`, count with their case."""

    name: ClassVar[str] = "sql_logical_form"
    binary: ClassVar[bool] = True

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer. Raises InputError when the extra `text` is not installed."""
        try:
            want = self._form(sample.target)
        except ValueError as problem:
            raise ScorerError(f"the target of sample {sample.id} is not one SQL query: {problem}") from None
        try:
            same = self._form(_unfenced(output)) == want
        except ValueError as problem:
            return Score(0.0, f"not one SQL query ({problem}): {shorten(output)}")
        verdict = "the same query as" if same else "not the query"
        return Score(float(same), f"{shorten(output, 120)} is {verdict} {shorten(sample.target, 120)}")

    def _form(self, query: str) -> str:
        parsing: Any = require("evals.scorers.logical_form", "text")
        return str(parsing.logical_form(query, self.dialect, self.case_sensitive))


def _unfenced(text: str) -> str:
    text = text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text:
        return text.partition("\n")[2].removesuffix(_FENCE)
    return text
