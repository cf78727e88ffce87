r"""A backend that answers by a script: deterministic, instant, no packages; the engine's tests run on it.

A model is named `scripted/echo` or `scripted/FILE.json`. The file holds rules, first match wins:

    {"rules": [{"when": "regex on the last message", "needs": "regex on the whole prompt", "answer": "text"}],
     "default": "text", "usd_per_1m_input": 1.0, "usd_per_1m_output": 2.0, "billed": false, "sleep_seconds": 0.0}

A rule with `"error": "text"` fails instead. `answer` may hold `\1` for groups of `when`. Further keys of a rule:

    "role": "tool"                     the last message must be of this role, for instance a tool's result
    "answers": ["a", "b", "c"]         in place of `answer`: which one depends on the seed when the temperature is
                                       above 0, and is the first otherwise
    "logprob": -0.1                    the answer's log probability, for requests that want it
    "calls": [{"name": "add", "arguments": {"a": 1, "b": "\\1"}}]
                                       asks for these tools; groups of `when` go into arguments that are text

`"shutdown": "2027-01-14"`, `"training_ends"` and `"replacement"` say when the model stops, as makers announce it.

A script with `"native_tools": true` takes requests with tools; rules with `calls` are passed over where a request has
no tools or forbids them. A tuned scripted model is a naive Bayes classifier over words (ScriptedTuner): a real
learner, small enough to train within a test.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from backends.basis import PriceBasis
from backends.errors import InputError, Problem, RequestError
from backends.openai.lifecycle import Lifecycle
from backends.types import (
    ChatRequest,
    ChatResponse,
    Embeddings,
    ToolCall,
    TunedModel,
    TuneJob,
    TuneObserver,
    TuneProgress,
    Usage,
)

_DIMENSION = 256
_TUNED = "tuned.json"


def problem(name: str) -> Problem | None:
    """What keeps `scripted/NAME` from being used, or None."""
    rest = name.partition("/")[2]
    if rest in {"echo", "words"} or Path(rest).is_file():
        return None
    return Problem(name, f"there is no script file {rest!r}.", "Name a JSON file of rules, or use scripted/echo.")


def lifecycle(name: str) -> Lifecycle:
    """When a scripted model stops, by its script; nothing is known where it says nothing."""
    path = Path(name.partition("/")[2])
    script = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    shutdown, training = (
        date.fromisoformat(script[key]) if script.get(key) else None for key in ("shutdown", "training_ends")
    )
    return Lifecycle(shutdown, training, script.get("replacement"), "its script")


def price_basis(name: str, usd_per_hour: float | None = None) -> PriceBasis:
    """Scripted models cost what their scripts say."""
    return PriceBasis("its script", given=True)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class ScriptedChat:
    """A chat model that follows a script. Tokens are words; seconds are tokens / 1000, so that they are stable."""

    def __init__(self, name: str, script: Mapping[str, Any]) -> None:
        self._name = name
        self._script = script
        self._fingerprint = hashlib.sha256(json.dumps(script, sort_keys=True).encode()).hexdigest()

    @classmethod
    def open(cls, name: str, *, usd_per_hour: float | None = None, folder: Path | None = None) -> ScriptedChat:
        """Open `scripted/echo`, a script file or a tuned folder. Raises InputError for an unreadable script."""
        if folder is not None:
            return cls(name, json.loads((folder / _TUNED).read_text("utf-8"))["script"])
        rest = name.partition("/")[2]
        if rest == "echo":
            return cls(name, {"rules": [{"when": "(?s)(.*)", "answer": r"\1"}]})
        try:
            script = json.loads(Path(rest).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(Problem(rest, f"the script cannot be read: {error}.", "Give a JSON file.")) from error
        return cls(name, script)

    @property
    def name(self) -> str:
        """`scripted/...`."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Hash of the script."""
        return self._fingerprint

    @property
    def billed(self) -> bool:
        """True when the script says that calls cost money."""
        return bool(self._script.get("billed", False))

    @property
    def native_tools(self) -> bool:
        """True when the script says `"native_tools": true`."""
        return bool(self._script.get("native_tools", False))

    def price(self, usage: Usage) -> float | None:
        """Dollars by the script's prices; None when the script gives `null`."""
        per_input, per_output = (self._script.get(f"usd_per_1m_{kind}", 1.0) for kind in ("input", "output"))
        if per_input is None or per_output is None:
            return None
        return (usage.input_tokens * float(per_input) + usage.output_tokens * float(per_output)) / 1e6

    def worst_case(self, request: ChatRequest) -> Usage:
        """The prompt's words and `max_tokens` words of answer."""
        return Usage(1, _prompt_words(request), 0, request.max_tokens)

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer by the first rule that matches; raises RequestError where the rule says so."""
        await asyncio.sleep(float(self._script.get("sleep_seconds", 0.0)))
        if request.tools and not self.native_tools:
            raise RequestError(f"{self._name} takes no tools")
        said = self._said(request)
        text = " ".join(said.text.split(" ")[: request.max_tokens])
        words = _words(text) + [word for call in said.calls for word in _words(f"{call.name} {call.arguments}")]
        usage = Usage(1, _prompt_words(request), 0, max(1, len(words)))
        usage = replace(usage, cost_usd=self.price(usage))
        return ChatResponse(
            text,
            usage,
            seconds=(usage.input_tokens + usage.output_tokens) / 1000,
            finish_reason="tool_calls" if said.calls else "stop",
            tool_calls=said.calls,
            logprob=said.logprob if request.logprobs else None,
        )

    def _said(self, request: ChatRequest) -> _Said:
        if "counts" in self._script:
            return _Said(_most_likely_label(self._script["counts"], request.messages[-1].content, request.choices))
        prompt = "\n".join(message.content for message in request.messages)
        for rule in self._script.get("rules", ()):
            match = _matches(rule, request)
            if match and re.search(rule.get("needs", ""), prompt):
                if "error" in rule:
                    raise RequestError(rule["error"])
                return _by_rule(rule, match, request)
        return _Said(str(self._script.get("default", request.choices[0] if request.choices else "")))

    async def aclose(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a script answers."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    logprob: float | None = None


def _matches(rule: Mapping[str, Any], request: ChatRequest) -> re.Match[str] | None:
    """Where the rule's `when` finds itself in the last message, None where the rule does not apply."""
    last = request.messages[-1]
    if rule.get("role", last.role) != last.role:
        return None
    if "calls" in rule and (not request.tools or request.tool_choice == "none"):
        return None
    return re.search(rule.get("when", ""), last.content)


def _by_rule(rule: Mapping[str, Any], match: re.Match[str], request: ChatRequest) -> _Said:
    answers = rule.get("answers") or [rule.get("answer", "") if "calls" in rule else rule["answer"]]
    answer = answers[request.seed % len(answers) if request.temperature > 0 else 0]
    calls = tuple(
        ToolCall(call["name"], _json(_expanded(call.get("arguments", {}), match)), f"call_{number}")
        for number, call in enumerate(rule.get("calls", ()), start=1)
    )
    return _Said(match.expand(answer), calls, rule.get("logprob"))


def _expanded(value: Any, match: re.Match[str]) -> Any:
    """The value with the groups of the match put into its texts."""
    if isinstance(value, str):
        return match.expand(value)
    if isinstance(value, dict):
        return {name: _expanded(part, match) for name, part in value.items()}
    return [_expanded(part, match) for part in value] if isinstance(value, list) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _prompt_words(request: ChatRequest) -> int:
    """Words of everything a model would read: messages, calls asked for earlier, definitions of tools."""
    return sum(len(_words(text)) for text in _read(request))


def _read(request: ChatRequest) -> Iterator[str]:
    for message in request.messages:
        yield message.content
        yield from (f"{call.name} {call.arguments}" for call in message.tool_calls)
    yield from (f"{tool.name} {tool.description} {tool.parameters}" for tool in request.tools)


class ScriptedEmbedder:
    """Hashed bags of words, of unit length; near texts share words."""

    billed = False

    def __init__(self, name: str = "scripted/words") -> None:
        self.name = name
        self.fingerprint = f"{name}:{_DIMENSION}"

    @classmethod
    def open(cls, name: str, *, usd_per_hour: float | None = None) -> ScriptedEmbedder:
        """Open `scripted/words`."""
        return cls(name)

    def price(self, usage: Usage) -> float | None:
        """A tenth of a dollar per million words."""
        return usage.input_tokens * 0.1 / 1e6

    def worst_case(self, texts: Sequence[str]) -> Usage:
        """The texts' words."""
        return Usage(len(texts), sum(len(_words(text)) for text in texts))

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed the texts, in order."""
        vectors = np.zeros((len(texts), _DIMENSION), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in _words(text):
                row[zlib.crc32(word.encode()) % _DIMENSION] += 1.0
            row /= max(float(np.linalg.norm(row)), 1e-12)
        tokens = sum(len(_words(text)) for text in texts)
        usage = Usage(len(texts), tokens, 0, 0)
        return Embeddings(vectors, Usage(len(texts), tokens, 0, 0, self.price(usage)), seconds=tokens / 10_000)

    async def aclose(self) -> None:
        """Nothing to let go of."""


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise InputError for keys the tuner does not know."""
    unknown = set(recipe) - {"sleep_seconds", "share"}
    if unknown:
        raise InputError(Problem("recipe", f"unknown keys {sorted(unknown)}.", "Known: sleep_seconds, share."))


def start_problem(base: str, recipe: Mapping[str, Any], folder: Path) -> Problem | None:
    """What keeps a training from going on from the counts in `folder`, or None."""
    if (folder / _TUNED).is_file():
        return None
    return Problem(str(folder), "there is no tuned model.", "Start afresh with --from base.")


class ScriptedTuner:
    """Learns word counts per answer: multinomial naive Bayes with add-one smoothing."""

    def __init__(self, usd_per_hour: float | None = None) -> None:
        self._usd_per_hour = usd_per_hour

    async def parity(self, base: str, model: TunedModel, requests: Sequence[ChatRequest]) -> None:
        """A count has one form."""

    def quote(self, job: TuneJob) -> None:
        """Nothing leaves this machine."""

    def left_running(self, job: TuneJob) -> None:
        """Counting stops when it is cut off."""

    async def tune(self, job: TuneJob, observe: TuneObserver | None = None) -> TunedModel:
        """Count the words of the training conversations; the recipe knows `sleep_seconds` per example.

        `share` learns from the first conversations alone, so that two recipes give two models.
        """
        check_recipe(job.recipe)
        done = job.folder / _TUNED
        cached = done.is_file()
        counts = _counts_in(job.start)
        train = job.train[: math.ceil(float(job.recipe.get("share", 1)) * len(job.train))]
        for step, conversation in enumerate(train, start=1):
            await asyncio.sleep(0.0 if cached else float(job.recipe.get("sleep_seconds", 0.0)))
            counts.setdefault(conversation[-1].content, Counter()).update(_words(conversation[-2].content))
            if observe:
                observe(TuneProgress(step, len(train), None, None))
        script = {"counts": {label: dict(sorted(words.items())) for label, words in sorted(counts.items())}}
        digest = hashlib.sha256(json.dumps([job.base, script, job.seed]).encode()).hexdigest()[:8]
        if not cached:
            job.folder.mkdir(parents=True, exist_ok=True)
            done.write_text(json.dumps({"script": script}), "utf-8")
        tokens = sum(len(_words(message.content)) for conversation in train for message in conversation)
        return TunedModel(
            name=f"{job.base}+lora-{digest}",
            folder=job.folder,
            trained_tokens=tokens,
            seconds=tokens / 1000,
            cost_usd=tokens / 1e6,
            losses=(),
            dev_losses=(),
            recipe=dict(job.recipe),
            cached=cached,
        )


def _counts_in(start: Path | None) -> dict[str, Counter[str]]:
    """What a tuned model has counted; nothing without one."""
    known = {} if start is None else json.loads((start / _TUNED).read_text("utf-8"))["script"]["counts"]
    return {label: Counter(words) for label, words in known.items()}


def _most_likely_label(counts: Mapping[str, Mapping[str, int]], text: str, choices: Sequence[str]) -> str:
    vocabulary = len({word for words in counts.values() for word in words}) + 1
    scores = {
        label: sum(math.log((words.get(word, 0) + 1) / (sum(words.values()) + vocabulary)) for word in _words(text))
        for label, words in counts.items()
        if not choices or label in choices
    }
    # What it never learnt it cannot tell apart.
    return max(sorted(scores), key=lambda label: scores[label]) if scores else choices[0]
