"""What training data hold that should not leave the house: secrets and personal data, known by their form. Pure.

Kinds and counts are told, never what was found: a message that shows a secret spreads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from backends.types import Message

_SECRETS: Mapping[str, re.Pattern[str]] = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "an API key": re.compile(
        # With a digit: `sk-learn-like-estimators` is no key.
        r"\b(?:sk|rk|pk)[-_](?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}"
        r"|\b(?:gsk|xai|nvapi|hf|glpat|npm|dapi|shpat|lin_api|figd|dop_v1|pypi|key)[-_](?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}"
        r"|\bAIza[0-9A-Za-z_-]{30,}|\bSG\.[\w-]{16,}\.[\w-]{16,}|\bya29\.[\w-]{20,}"
    ),
    "a cloud access key": re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b|\bAccountKey=[A-Za-z0-9+/]{40,}={0,2}"),
    "a GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{22,}"),
    "a Slack token": re.compile(r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}|hooks\.slack\.com/services/T\w+/B\w+/\w+"),
    "a signed token (JWT)": re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,64}:[^\s/:@]{3,128}@[\w.-]+"),
    "a password": re.compile(
        # Letters and digits together: `password: forgotten` is no password.
        r"(?i)\b(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret)\b"
        r"[\"']?\s*(?:is|[:=])\s*[\"']?(?=[^\s\"']{0,63}\d)(?=[^\s\"']{0,63}[A-Za-z])[^\s\"']{10,}"
    ),
}
_EMAIL = re.compile(r"\b[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}\b")
_PHONE = re.compile(
    r"(?<![\w.+-])(?<!\d[ ])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?(?:\d[ .-]?){6,11}\d"
    r"|\(\d{3}\)[ .-]?\d{3}[ .-]\d{4}|\d{3}[ .-]\d{3}[ .-]\d{4}|0[1-9]\d{1,3}[ /-]\d{3,4}[ -]?\d{3,5})(?![\w-]| \d)"
)
_CARD = re.compile(r"(?<![\d.-])[2-6](?:[ -]?\d){12,18}(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that was found."""

    kind: str
    samples: int
    """Conversations that hold at least one."""
    first: int
    """Position of the first of these, counted from 1."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found, by kind."""

    secrets: tuple[Finding, ...]
    personal: tuple[Finding, ...]


def scan(conversations: Sequence[Sequence[Message]], keys: Collection[str] = ()) -> Scan:
    """Look through conversations. `keys` are secrets known from elsewhere, such as the endpoint's own key."""
    known: dict[str, frozenset[str]] = {}
    holding: dict[str, list[int]] = {}
    for position, conversation in enumerate(conversations, start=1):
        kinds: set[str] = set()
        for message in conversation:
            if message.content not in known:
                known[message.content] = frozenset(_kinds(message.content, keys))
            kinds |= known[message.content]
        for kind in kinds:
            holding.setdefault(kind, []).append(position)
    found = [Finding(kind, len(holding[kind]), holding[kind][0]) for kind in (*_SECRETS, *_PERSONAL) if kind in holding]
    return Scan(
        tuple(one for one in found if one.kind in _SECRETS), tuple(one for one in found if one.kind in _PERSONAL)
    )


def _kinds(text: str, keys: Collection[str]) -> Iterable[str]:
    for kind, pattern in _SECRETS.items():
        if pattern.search(text):
            yield kind
    if any(len(key) >= 8 and key in text for key in keys):
        yield "an API key"
    for kind, is_there in _PERSONAL.items():
        if is_there(text):
            yield kind


def _has_card(text: str) -> bool:
    return any(_luhn(re.sub(r"\D", "", found.group())) for found in _CARD.finditer(text))


def _has_iban(text: str) -> bool:
    return any(_is_iban(found.group().replace(" ", "")) for found in _IBAN.finditer(text))


def _has_phone(text: str) -> bool:
    return any(9 <= len(re.sub(r"\D", "", found.group())) <= 15 for found in _PHONE.finditer(text))


def _luhn(digits: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812-1); a row of one digit is no card."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0 and len(set(digits)) > 1


def _is_iban(text: str) -> bool:
    """The check digits of bank accounts (ISO 13616); words may follow the account without a space between."""
    lengths = range(min(34, len(text)), 14, -1)
    return any(int("".join(str(int(c, 36)) for c in text[4:n] + text[:4])) % 97 == 1 for n in lengths)


_PERSONAL: Mapping[str, Callable[[str], bool]] = {
    "e-mail addresses": lambda text: _EMAIL.search(text) is not None,
    "phone numbers": _has_phone,
    "card numbers": _has_card,
    "bank accounts (IBAN)": _has_iban,
}
