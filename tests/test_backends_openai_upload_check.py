"""Secrets and personal data are found by their form, counted, and never shown."""

import pytest

from backends.openai.upload_check import scan
from backends.types import Message

SECRETS = {
    "a private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    "an API key": "use sk-proj-abcd1234EFGH5678ijkl9012 for it",
    "a cloud access key": "AKIAIOSFODNN7EXAMPLE",
    "a GitHub token": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "a Slack token": "xoxb-1234567890-abcdefghij",
    "a signed token (JWT)": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "a password in an address": "postgres://admin:hunter22@db.example.com/prod",
    "a password": "my password is hunter2hunter2 now",
}
PERSONAL = {
    "e-mail addresses": ["write to jo.smith+home@mail.example.co.uk please"],
    "phone numbers": ["call +49 170 1234567", "call (555) 123-4567", "call 030 1234 5678"],
    "card numbers": ["4111 1111 1111 1111", "it is 5500005555555559."],
    "bank accounts (IBAN)": ["DE89 3704 0044 0532 0130 00", "pay GB29NWBK60161331926819 today"],
}
HARMLESS = [
    "my password is forgotten, what now?",
    "the sk-learn-like-estimators are fine",
    "order 4111 1111 1111 1112 has not come",  # no check digit of a card
    "on 2026-11-23 at 10:30 it cost 1,234.56",
    "version 1.2.3, build 20261123, ratio 0.123456789012345",
    "DE00 3704 0044 0532 0130 00",  # no check digits of an account
    "mention @someone or a@b",
    "https://example.com:8080/path",
    "0000 0000 0000 0000",
]


def found(text: str, **options: list[str]) -> tuple[list[str], list[str]]:
    scanned = scan([(Message("user", "hello"), Message("assistant", text))], **options)
    return [one.kind for one in scanned.secrets], [one.kind for one in scanned.personal]


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_known_by_its_form(kind: str) -> None:
    assert kind in found(SECRETS[kind])[0]


@pytest.mark.parametrize("kind", PERSONAL)
def test_personal_data_are_known_by_their_form(kind: str) -> None:
    for text in PERSONAL[kind]:
        assert kind in found(text)[1], text


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert found(text) == ([], [])


def test_the_endpoints_own_key_is_a_secret_whatever_its_form() -> None:
    assert found("my key: no-known-form", keys=["no-known-form"]) == (["an API key"], [])
    assert found("my key: no-known-form") == ([], [])


def test_samples_are_counted_once_for_each_kind_and_nothing_of_the_text_is_kept() -> None:
    twice = (Message("user", "a@example.com and b@example.com"), Message("assistant", "yes"))
    once = (Message("user", "none here"), Message("assistant", "c@example.com"))
    scanned = scan([(Message("user", "x"), Message("assistant", "y")), twice, once])
    assert [(one.kind, one.samples, one.first) for one in scanned.personal] == [("e-mail addresses", 2, 2)]
    assert "example.com" not in repr(scanned)
