"""What went wrong with one attempt, and what follows from it: the one table of errors.

| kind     | example                                | what follows                                                     |
|----------|----------------------------------------|------------------------------------------------------------------|
| BUSY     | 429, 503                               | sent again after the wait asked for; fewer requests at once      |
| BROKEN   | 500, an error in a 200                 | sent again after a while                                         |
| LOST     | timeout, connection cut                | may have been billed: sent again once, and counted in full       |
| REFUSED  | 400 for a parameter, a 500 that is one | sent again without what was refused, else the request has failed |
| BAD      | prompt too long, content filter        | the request has failed                                           |
| DOUBTFUL | wrong key, unknown model, no such host | the run stops, after some tries if the endpoint answered before  |
| FATAL    | no credit left                         | the run stops                                                    |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from backends.errors import RequestError
from backends.types import Usage


class Kind(Enum):
    """What follows from a failure; see the table above."""

    BUSY = auto()
    BROKEN = auto()
    LOST = auto()
    REFUSED = auto()
    BAD = auto()
    DOUBTFUL = auto()
    FATAL = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt."""

    kind: Kind
    text: str
    """For people: what happened and what to do, without keys."""
    said: str = ""
    """What the endpoint said, in lower case, to be searched for names of parameters."""
    parameter: str = ""
    """The parameter that the endpoint blames."""
    wait_seconds: float | None = None
    """How long the endpoint asks to wait."""


class BilledError(RequestError):
    """A request that failed after it was, or may have been, paid for."""

    def __init__(self, text: str, usage: Usage) -> None:
        super().__init__(text, usage)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A row of the table: the first whose status and words match counts."""

    kind: Kind
    statuses: frozenset[int]
    """Empty for any."""
    words: re.Pattern[str] | None
    sentence: str
    """`{said}` is what the endpoint said, `{key}` the variable of the key, `{url}` its address."""


_STATUS_OF = {"rate_limit": 429, "invalid_api_key": 401, "authentication": 401, "model_not_found": 404, "invalid": 400}
"""Status that an error would have had, by a word of its code or type, where a proxy hid it in an answer."""


def _rule(kind: Kind, statuses: set[int] | range, words: str, sentence: str) -> _Rule:
    return _Rule(kind, frozenset(statuses), re.compile(words) if words else None, sentence)


_ANY: set[int] = set()
_TOO_LONG = (
    r"context_length_exceeded|maximum context length|context (length|window|size)|exceeds? the (available )?context"
    r"|prompt is too long|input is too long|too many (input )?tokens|max_model_len|reduce the length"
)
_FILTER = r"content_filter|content_policy|content management policy|responsibleai|safety system|moderation_blocked"
_NO_MODEL = (
    r"model_not_found|model_decommissioned|(unknown|no such) model|invalid model (name|id)"
    r"|\bmodel\W.{0,120}?(not found|not exist|(is not|is no longer) available"
    r"|(has been|was|is) (deprecated|decommissioned|retired|shut down))"
)
_NO_CREDIT = (
    r"insufficient_quota|exceeded your current quota|insufficient.{0,20}(credit|balance|funds)|credit balance"
    r"|out of credit|billing[_ ]hard[_ ]limit"
)
"""Not any mention of billing: plain rate limits tell how more money would raise them."""
_VALIDATION = (
    r"validation|invalid[ _](request|parameter|value|type|schema|json|argument|field|grammar|input)|unsupported"
    r"|not supported|not implemented|must be|should be|unknown (field|parameter|argument)|unrecognized|literal_error"
    r"|unexpected (keyword|argument|field|parameter)|extra inputs|failed to parse|parse grammar"
)
"""What servers say of a request that they do not understand; not that something `unexpected` happened to them."""
_REFUSES = "{url} refuses the request: {said}"

_TABLE = (
    _rule(Kind.REFUSED, {400, 422}, r"unsupported_(parameter|value)|unknown_parameter", _REFUSES),
    _rule(Kind.DOUBTFUL, {401}, "", "{url} refuses the key in {key}: {said} Check the key."),
    _rule(
        Kind.FATAL,
        {402, 403, 429},
        _NO_CREDIT,
        "{url} says that the account's credit is used up: {said} Add credit, then go on with --resume.",
    ),
    _rule(Kind.BAD, {400, 413, 422, 500}, _TOO_LONG, "the prompt is too long for the model: {said}"),
    _rule(Kind.BAD, {400, 403, 422}, _FILTER, "the endpoint's content filter refused the request: {said}"),
    _rule(
        Kind.DOUBTFUL,
        {400, 404},
        _NO_MODEL,
        "{url} has no such model: {said} Check the name, or whether the model was shut down.",
    ),
    _rule(Kind.DOUBTFUL, {402, 403}, "", "{url} does not allow the request with the key in {key}: {said}"),
    _rule(
        Kind.DOUBTFUL,
        {404, 405},
        "",
        "{url} has no such path: {said} Check base_url; most servers want it to end in /v1.",
    ),
    _rule(
        Kind.FATAL, range(300, 400), "", "{url} sends the request elsewhere. Write the address it names as base_url."
    ),
    _rule(Kind.LOST, {408, 504, 524}, "", "{url} gave no answer in time: {said}"),
    _rule(Kind.BUSY, {429, 503, 529}, "", "{url} is too busy: {said}"),
    # Servers that answer 500 to what is wrong with the request would answer it for ever.
    _rule(Kind.REFUSED, {500}, _VALIDATION, _REFUSES),
    _rule(Kind.REFUSED, {400, 413, 415, 422, 501}, "", _REFUSES),
    _rule(Kind.BROKEN, {409, *range(500, 600)}, "", "{url} failed: {said}"),
    _rule(Kind.REFUSED, _ANY, "", _REFUSES),
)


def failed(status: int, body: object, url: str, key_env: str | None) -> Failure:
    """What an answer that is an error means; `body` is its JSON, or its text when it is none."""
    error = _error(body)
    message = _message(error)
    words = " ".join([message, *(str(error.get(field) or "") for field in ("code", "type", "param"))]).lower()
    rule = next(
        rule
        for rule in _TABLE
        if (not rule.statuses or status in rule.statuses) and (rule.words is None or rule.words.search(words))
    )
    said = f"{_sentence(message)} (HTTP {status})" if message else f"HTTP {status}."
    text = rule.sentence.format(said=said, key=key_env or "no variable", url=url)
    return Failure(rule.kind, text, words, str(error.get("param") or ""))


def failed_within(body: Mapping[str, Any], url: str, key_env: str | None) -> Failure | None:
    """The failure that a proxy packed into an answer of status 200, None when there is none."""
    if "error" not in body or not body["error"] or body.get("choices") or body.get("data"):
        return None
    if str(body.get("object") or "").startswith("fine_tuning"):
        # A job tells under `error` why it failed.
        return None
    error = _error(body)
    code = str(error.get("code") or "")
    if code.isdecimal() and 400 <= int(code) < 600:
        return failed(int(code), body, url, key_env)
    words = f"{code} {error.get('type') or ''}".lower()
    status = next((status for word, status in _STATUS_OF.items() if word in words), 500)
    return failed(status, body, url, key_env)


def no_json(text: str, url: str) -> Failure:
    """What an answer of status 200 means that is no JSON: a web page, or an answer that was cut off."""
    start = text.lstrip()[:200].lower()
    if start.startswith("<"):
        what = f"{url} answers with a web page and not with JSON. Check base_url; most servers want it to end in /v1."
        return Failure(Kind.DOUBTFUL, what)
    return Failure(Kind.LOST, f"{url} sent an answer that ends in the middle.")


def _error(body: object) -> Mapping[str, Any]:
    """The error object of a body, whatever it is called there."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return inner
        return {"message": inner, "code": body.get("code"), "type": body.get("type")}
    text = str(body or "")
    # A web page as an error tells people nothing.
    return {"message": "" if text.lstrip().startswith("<") else text}


def _message(error: Mapping[str, Any]) -> str:
    for name in ("message", "detail", "error_description", "msg"):
        if error.get(name):
            return str(error[name])
    return ""


def _sentence(message: str) -> str:
    message = message.strip()
    return message if message.endswith((".", "!", "?")) else f"{message}."
