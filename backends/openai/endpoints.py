"""Which endpoint a model name means: `openai/NAME`, or `ENDPOINT/NAME` that somebody described. Imports nothing heavy.

An endpoint is described by `endpoints:` of the scenario, by an advisor.toml, or by nobody where its usual address is
known (`ollama/NAME`); the first of these that names it counts, as a whole. In an advisor.toml:

    [endpoints.vllm]
    base_url = "http://127.0.0.1:8000/v1"

    [endpoints.nebius]
    base_url = "https://api.tokenfactory.nebius.com/v1/"
    key_env = "NEBIUS_API_KEY"
    [endpoints.nebius.prices."meta-llama/Llama-3.3-70B-Instruct"]   # or "*": dollars per million tokens
    input = 0.13
    output = 0.40

`./advisor.toml` goes before `~/.config/advisor/advisor.toml`. Keys are never written in it, only the names of the
environment variables that hold them.
"""

from __future__ import annotations

import functools
import importlib.util
import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backends.errors import InputError, Problem
from backends.keyless import keys_wanted
from backends.openai.settings import EndpointSettings, TokenPrices, settings_problems
from backends.openai.tokens import base_model

OPENAI = "openai"
USUAL: Mapping[str, tuple[str, str | None]] = {
    OPENAI: ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "llamacpp": ("http://127.0.0.1:8080/v1", None),
    "ollama": ("http://127.0.0.1:11434/v1", None),
    "vllm": ("http://127.0.0.1:8000/v1", None),
}
"""Address and key variable of endpoints that need no description, as their makers document them."""
TAKEN = frozenset({"local", "scripted"})
"""Names that are no endpoint's."""
_INSTALL = "Install it: pip install 'cheapest-llm-advisor[openai]'."


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks the OpenAI protocol. Holds the name of the key's variable, never the key."""

    name: str
    """First part of its models' names."""
    base_url: str
    key_env: str | None
    """Environment variable that holds the key; None for servers that want none."""
    settings: EndpointSettings = field(default_factory=EndpointSettings)

    @property
    def host(self) -> str:
        """Host name of the address, lower case."""
        return _host(self.base_url)

    @property
    def is_openai(self) -> bool:
        """True for OpenAI itself: its prices, its tuned models, its newest parameter names."""
        return self.host == "api.openai.com" or self.host.endswith(".api.openai.com")

    @property
    def is_loopback(self) -> bool:
        """True for a server on this machine, which nothing can listen to on the way."""
        return is_loopback(self.host)

    @property
    def is_our_own(self) -> bool:
        """True for a server on this machine that wants no key: nobody bills for what it does."""
        return self.is_loopback and self.key_env is None

    @property
    def provider(self) -> str | None:
        """The provider's id in genai-prices, when the user named it."""
        return self.settings.provider

    def prices_of(self, model: str) -> TokenPrices | None:
        """The user's own prices of a model, or of all that are tuned from the same base."""
        prices, base = self.settings.prices, base_model(model)
        tuned = prices.get(f"ft:{base}") if base != model else None
        return prices.get(model) or tuned or prices.get("*")

    def key(self) -> str:
        """The key, read now; empty when the endpoint wants none or the variable is not set."""
        return os.environ.get(self.key_env, "").strip() if self.key_env else ""


@functools.lru_cache(maxsize=64)
def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def find(name: str) -> tuple[Endpoint, str]:
    """The endpoint and the endpoint's own name of the model called `ENDPOINT/MODEL`.

    Raises InputError when there is no such endpoint or when it cannot be used as it is described; the key is not
    looked at.
    """
    prefix, _, model = name.partition("/")
    sections = _sections()
    if prefix not in USUAL and prefix not in sections:
        raise InputError(
            Problem(name, f"there is no endpoint {prefix!r}.", "Describe it in the scenario or advisor.toml.")
        )
    file, section = sections.get(prefix, ("advisor.toml", {}))
    problems = settings_problems(f"{file}: endpoints.{prefix}", section)
    if problems:
        raise InputError(problems)
    settings = EndpointSettings.of(section)
    url, key_env = _address(prefix, section)
    where = f"endpoints.{prefix}.base_url" if "base_url" in section or prefix != OPENAI else "OPENAI_BASE_URL"
    found = address_problem(name, where, url, settings.allow_http)
    if found:
        raise InputError(found)
    return Endpoint(prefix, str(url).rstrip("/"), key_env, settings), model


def names() -> tuple[str, ...]:
    """The endpoints that somebody described or whose address is known. Raises InputError for an unreadable file."""
    return tuple(dict.fromkeys([*_sections(), *USUAL]))


def declare(sections: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Make the endpoints of the scenario at hand known, in place of those of the one before.

    As advisor.toml they belong to the surroundings in which a model's name is read, and go before it.
    """
    _declared.clear()
    _declared.update({name: (where, section) for name, section in sections.items()})


def problem(name: str) -> Problem | None:
    """What keeps a model of an endpoint from being used, or None. Answers in milliseconds, without asking it."""
    try:
        endpoint, _ = find(name)
    except InputError as error:
        return error.problems[0]
    for package in ("openai", "tiktoken", "genai_prices"):
        if importlib.util.find_spec(package) is None:
            return Problem(name, f"needs the package {package!r}, which is not installed.", _INSTALL)
    return key_problem(name, endpoint) if keys_wanted() else None


def key_problem(name: str, endpoint: Endpoint) -> Problem | None:
    """What is wrong with the endpoint's key, or None; never shows the key."""
    if endpoint.key_env is None:
        return None
    key = endpoint.key()
    if not key and not endpoint.is_loopback:
        what = f"model {name!r} needs a key, and the environment variable {endpoint.key_env} is not set."
        return Problem(name, what, f"Set it: export {endpoint.key_env}=...")
    if not (key.isascii() and key.isprintable()) or " " in key:
        what = f"the environment variable {endpoint.key_env} holds characters that no key has."
        return Problem(name, what, "Copy the key again, without quotes, spaces or line ends.")
    return None


def _address(prefix: str, section: Mapping[str, Any]) -> tuple[object, str | None]:
    """Address and key variable: as described, else as usual; the usual key goes to the usual address only."""
    usual_url, usual_key = USUAL.get(prefix, (None, None))
    url, key_env = section.get("base_url"), section.get("key_env")
    if prefix == OPENAI:
        url = url or os.environ.get("OPENAI_BASE_URL")
        key_env = key_env or usual_key
    return url or usual_url, key_env or (None if url else usual_key)


def address_problem(name: str, where: str, url: object, allow_http: bool) -> Problem | None:
    """What is wrong with an address, or None. `name` is what needs it, `where` the key or variable it stands in."""
    if not isinstance(url, str):
        return Problem(name, f"{where} is missing.", 'Give the address, for instance "https://host/v1".')
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return Problem(name, f"{where} is no address.", 'Give one such as "https://host/v1".')
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not shown: what stands there may be a key.
        what = f"{where} holds more than scheme, host, port and path."
        return Problem(name, what, "Put the key into an environment variable and name it as key_env.")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return Problem(name, f"{where} is {url!r}, which is no address.", 'Give one such as "https://host/v1".')
    if parts.scheme == "http" and not is_loopback(parts.hostname) and not allow_http:
        what = f"{where} is {url!r}: prompts and key would travel unencrypted."
        return Problem(name, what, "Use https, or set allow_http to true in its endpoint.")
    return None


_declared: dict[str, tuple[str, Mapping[str, Any]]] = {}


def _sections() -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """(where it stands, table) of every endpoint described; the scenario goes first, then the nearer file."""
    found = dict(_declared)
    for file in (Path("advisor.toml"), Path("~/.config/advisor/advisor.toml").expanduser()):
        for name, section in _read(file).items():
            found.setdefault(name, (str(file), section))
    return found


def _read(file: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(file), f"cannot be read: {error}.", "Correct or remove it.")) from error
    return _parse(str(file), text)


@functools.lru_cache(maxsize=8)
def _parse(file: str, text: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(Problem(file, f"is no TOML: {error}.", "Correct it.")) from error
    sections = document.get("endpoints", {})
    if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
        what = "endpoints holds something that is no table."
        raise InputError(Problem(file, what, "Write [endpoints.NAME] and its keys below."))
    for name in TAKEN & set(sections):
        raise InputError(Problem(file, f"the endpoint name {name!r} is taken.", "Choose another one."))
    for name in sections:
        if "/" in name:
            raise InputError(Problem(file, f"the endpoint name {name!r} holds a slash.", "Choose another one."))
    return sections


def identity(endpoint: Endpoint, model: str) -> str:
    """What an answer can depend on at this endpoint, as text without any key."""
    fields = [endpoint.base_url.partition("://")[2], model, endpoint.settings.extra_body]
    return json.dumps([*fields, endpoint.settings.reasoning_tokens], ensure_ascii=False, sort_keys=True)
