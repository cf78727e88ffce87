"""Answers that cannot leave their form: one of some strings, or JSON under a schema. By llguidance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import llguidance.hf
import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

from backends.errors import RequestError


def choices_grammar(choices: Sequence[str]) -> str:
    """Grammar of exactly these strings."""
    alternatives = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    return str(LLMatcher.grammar_from_lark(f"start: {alternatives}"))


def schema_grammar(schema: str) -> str:
    """Grammar of the JSON texts valid under the schema.

    The spacing is fixed, as in Python's json.dumps: a small model that may add whitespace goes on for ever.
    """
    spacing: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    try:
        return str(LLMatcher.grammar_from_json_schema(schema, overrides=spacing))
    except ValueError as error:
        raise RequestError(f"the answer's form cannot be enforced: the schema is not JSON: {error}") from error


class Grammars:
    """Makes constraints for one model's tokens; the token table is built once."""

    def __init__(self, tokenizer: Any, eos_ids: Sequence[int], logits: int) -> None:
        # Some models have more logits than tokens (padding of the matrix); masks must cover them all.
        self._tokens: LLTokenizer = llguidance.hf.from_tokenizer(
            tokenizer, n_vocab=max(logits, len(tokenizer)), eos_token=list(eos_ids)
        )
        self._logits = logits

    def start(self, grammar: str) -> Constraint:
        """A constraint at its beginning, or RequestError when the grammar is not one."""
        matcher = LLMatcher(self._tokens, grammar, log_level=0)
        if matcher.is_error():
            raise RequestError(f"the answer's form cannot be enforced: {matcher.get_error()}")
        return Constraint(matcher, self._tokens, self._logits)


class Form(Protocol):
    """Where one answer stands in the form it must have."""

    def forbid(self, logits: torch.Tensor) -> None:
        """Set the logits of all tokens that cannot come next to minus infinity, in place."""

    def accept(self, token: int) -> None:
        """Go on by one token. Raises RequestError for one that cannot come next."""

    @property
    def is_done(self) -> bool:
        """True when the answer is complete and nothing can follow."""

    def forced(self) -> tuple[list[int], bool]:
        """The tokens that must come next, as far as there is no choice, and whether they complete the answer."""

    def text(self, ids: Sequence[int]) -> str:
        """The answer that these tokens, all accepted, spell."""


class Constraint:
    """Where one answer stands in its grammar. Implements Form."""

    def __init__(self, matcher: LLMatcher, tokens: LLTokenizer, logits: int) -> None:
        self._matcher = matcher
        self._tokens = tokens
        self._logits = logits

    def forbid(self, logits: torch.Tensor) -> None:
        """Set the logits of all tokens that cannot come next to minus infinity, in place."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self._logits].astype(bool)
        logits.masked_fill_(torch.from_numpy(~allowed).to(logits.device), float("-inf"))

    def accept(self, token: int) -> None:
        """Go on by one token."""
        if not self._matcher.consume_token(token):
            raise RequestError(f"the answer left its form: {self._matcher.get_error()}")

    @property
    def is_done(self) -> bool:
        """True when the answer is complete and nothing can follow."""
        return bool(self._matcher.is_stopped())

    def forced(self) -> tuple[list[int], bool]:
        """The tokens that must come next, and whether they complete the answer; the model need not be asked."""
        tokens = list(self._matcher.compute_ff_tokens())
        if not tokens:
            return [], False
        probe = self._matcher.deep_copy()
        return (tokens, bool(probe.is_stopped())) if probe.consume_tokens(tokens) else ([], False)

    def text(self, ids: Sequence[int]) -> str:
        """The answer, byte for byte as the grammar sees it."""
        return str(self._tokens.decode_str(list(ids)))
