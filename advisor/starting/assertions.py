"""The assertions of promptfoo as checks of ours; what is code is neither run nor translated, but told."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from advisor.starting.checks import JUDGED, SIMILAR, Check
from advisor.starting.draft import listed, refuse
from advisor.starting.template import fill
from advisor.tools.references import reference_fault
from evals.data import plain_fields

_SAME = {
    "equals": "equals",
    "contains": "contains",
    "icontains": "icontains",
    "contains-all": "contains_all",
    "contains-any": "contains_any",
    "icontains-all": "icontains_all",
    "icontains-any": "icontains_any",
    "starts-with": "starts_with",
    "regex": "regex",
    "is-json": "is_json",
    "contains-json": "contains_json",
}
"""Assertions that mean the same with us."""
_NEAR = {
    "rouge-n": ("rouge_l", 0.75),
    "rouge-l": ("rouge_l", 0.75),
    "bleu": ("bleu", 0.5),
    "gleu": ("bleu", 0.5),
    "meteor": ("chrf", 0.5),
}
"""Assertions whose nearest kin we have, and promptfoo's default threshold."""
_RUBRICS = {
    "llm-rubric": "{value}",
    "g-eval": "{value}",
    "model-graded-closedqa": "The answer meets this criterion: {value}",
    "factuality": "The answer agrees with this fact and contradicts nothing in it: {value}",
    "model-graded-factuality": "The answer agrees with this fact and contradicts nothing in it: {value}",
    "answer-relevance": "The answer is about what was asked, and leaves nothing out that was asked.",
}
_CODE = {"javascript", "python", "ruby", "webhook"}
_LISTS = {"contains_all", "contains_any", "icontains_all", "icontains_any"}
_COMPACT = re.compile(r"(?P<kind>(?:not-)?[a-z][a-z0-9-]*)(?:\((?P<threshold>[\d.]+)\))?:\s*(?P<value>.*)", re.DOTALL)


@dataclass
class Reading:
    """What a configuration came to so far."""

    folder: Path
    name: str
    lost: Counter[str] = field(default_factory=Counter)
    """What was not taken over, and how often."""
    limits: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Shared:
    """What every test inherits."""

    vars: Mapping[str, Any]
    asserts: tuple[Any, ...]
    templates: Mapping[str, Any]
    judge: str | None


def checks_of(said: Any, values: Mapping[str, Any], shared: Shared, reading: Reading) -> Iterator[Check]:
    """The checks that one assertion of a test means; none where it is told instead."""
    if isinstance(said, Mapping) and isinstance(said.get("$ref"), str):
        said = shared.templates.get(said["$ref"].rpartition("/")[2])
    if isinstance(said, str):
        said = compact(said)
    if not isinstance(said, Mapping):
        return
    if said.get("type") == "assert-set":
        if said.get("threshold") not in (None, 1):
            reading.lost["an assert-set of which only a part must hold"] += 1
            return
        for one in listed(said.get("assert")):
            yield from checks_of(one, values, shared, reading)
        return
    if said.get("transform"):
        reading.lost["an assertion on a transformed output: the transform is code"] += 1
        return
    check = _check(said, values, shared, reading)
    if check is not None:
        yield check


def _check(said: Mapping[str, Any], values: Mapping[str, Any], shared: Shared, reading: Reading) -> Check | None:
    full = str(said.get("type", ""))
    kind, negated = full.removeprefix("not-"), full.startswith("not-")
    value = _value(said.get("value"), values, reading)
    threshold = said.get("threshold")
    if kind in _SAME:
        if fault := _unreadable(kind, value):
            reading.lost[f"an assertion `{full}`: {fault}"] += 1
            return None
        return _same(_SAME[kind], value, negated)
    if kind in _NEAR:
        name, usual = _NEAR[kind]
        reading.lost[f"{kind} itself: {name} stands in for it, and its threshold must be judged anew"] += kind != "bleu"
        return Check(name, {"text": str(value), "at_least": float(threshold or usual)}, negated)
    if kind == "levenshtein":
        return Check(
            "levenshtein", {"text": str(value), "at_most": float(5 if threshold is None else threshold)}, negated
        )
    if kind in (SIMILAR, "similar:cosine") and not negated:
        return Check(SIMILAR, {"text": value, "at_least": float(threshold or 0.75)})
    if kind in _RUBRICS and not negated:
        rubric = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
        return Check(
            JUDGED, _RUBRICS[kind].format(value=rubric), model=model_name(said.get("provider")) or shared.judge
        )
    _refused(kind, full, threshold, reading)
    return None


def _unreadable(kind: str, value: Any) -> str | None:
    """What keeps a pattern or a schema from being used here, None where nothing does."""
    if kind == "regex":
        try:
            re.compile(_text(value))
        except re.error as error:
            return f"Python's `re` does not read the pattern {_text(value)!r} ({error})"
    if kind in ("is-json", "contains-json") and isinstance(value, Mapping):
        import jsonschema  # takes a tenth of a second, and few sources need it

        try:
            jsonschema.Draft202012Validator.check_schema(dict(value))
        except jsonschema.SchemaError as error:
            return f"its schema is none ({error.message})"
        if fault := reference_fault(dict(value)):
            return f"its schema cannot be used: {fault}"
    return None


def _same(kind: str, value: Any, negated: bool) -> Check | None:
    """A check of ours; a list where a list is wanted, text where text is."""
    if kind in _LISTS:
        value = value if isinstance(value, list) else [part.strip() for part in str(value).split(",")]
        return Check(kind, value, negated) if value else None
    if kind in ("is_json", "contains_json"):
        return Check(kind, value if isinstance(value, Mapping) else None, negated)
    if kind == "equals":
        return Check(kind, value if isinstance(value, Mapping | list) else _text(value), negated)
    return Check(kind, _text(value), negated)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refused(kind: str, full: str, threshold: Any, reading: Reading) -> None:
    """Limits go into the goal; everything else is told."""
    if kind == "cost" and isinstance(threshold, int | float):
        reading.limits["max_usd_per_1k_requests"] = 1000.0 * float(threshold)
    elif kind == "latency" and isinstance(threshold, int | float):
        reading.limits["max_p95_seconds"] = float(threshold) / 1000.0
    elif kind in _CODE:
        reading.lost[
            f"an assertion `{full}`: it is code, which is neither run nor translated; write it as a check in scorers.py"
        ] += 1
    else:
        reading.lost[f"an assertion `{full}`: there is no such check here"] += 1


def _value(value: Any, values: Mapping[str, Any], reading: Reading) -> Any:
    """The value with vars filled in, and files read."""
    if isinstance(value, str):
        return (
            fill(loaded(value, reading), values) if isinstance(loaded(value, reading), str) else loaded(value, reading)
        )
    if isinstance(value, list):
        return [_value(one, values, reading) for one in value]
    return value


def file_of(text: str, reading: Reading, required: bool = True) -> Any:
    """The path behind `file://...`, inside the configuration's folder; None or InputError when there is none."""
    path = (reading.folder / text.removeprefix("file://")).resolve()
    if path.is_relative_to(reading.folder.resolve()) and path.is_file():
        return path
    if required:
        raise refuse(reading.name, f"it names {text!r}, which is no file in its folder.", "Put the file there.")
    return None


def read_text(path: Path) -> str:
    """The text of a file. Raises InputError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(path.name, f"cannot be read: {error}.", "Save the file as UTF-8.") from None


def compact(text: str) -> Mapping[str, Any]:
    """`contains: Paris` and `similar(0.8): ...`; a text without a known kind is to be equalled."""
    match = _COMPACT.fullmatch(text.strip())
    kind = match["kind"] if match else ""
    known = {*_SAME, *_NEAR, *_RUBRICS, *_CODE, SIMILAR, "levenshtein", "cost", "latency"}
    if match is None or kind.removeprefix("not-") not in known:
        return {"type": "equals", "value": text}
    value: Any = match["value"]
    if _SAME.get(kind.removeprefix("not-")) in _LISTS:
        value = [part.strip() for part in next(csv.reader([value], skipinitialspace=True))]
    threshold = {"threshold": float(match["threshold"])} if match["threshold"] else {}
    return {"type": kind, "value": value, **threshold}


def loaded(value: Any, reading: Reading) -> Any:
    """The value; the content of the file where it names one."""
    if not isinstance(value, str) or not value.startswith("file://"):
        return value
    path = file_of(value, reading, required=False)
    if path is None or path.suffix not in (".txt", ".md", ".json", ".yaml", ".yml"):
        reading.lost[f"the content of {value}"] += 1
        return value
    return read_text(path) if path.suffix in (".txt", ".md") else read_yaml(path)


def model_name(provider: Any) -> str | None:
    """`openai:chat:gpt-5` -> `openai/gpt-5`; None for what speaks another protocol."""
    if isinstance(provider, Mapping):
        provider = provider.get("id") or next(iter(provider), None)
    if not isinstance(provider, str) or not provider.startswith("openai:"):
        return None
    parts = [part for part in provider.split(":")[1:] if part not in ("chat", "responses", "completion")]
    return f"openai/{':'.join(parts)}" if parts else None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises InputError."""
    try:
        return plain_fields({"content": yaml.safe_load(path.read_text(encoding="utf-8-sig"))})["content"]
    except UnicodeDecodeError:
        raise refuse(path.name, "the text is not UTF-8.", "Save the file as UTF-8.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = path.name if mark is None else f"{path.name}:{mark.line + 1}"
        fault = getattr(error, "problem", None) or "it cannot be parsed"
        raise refuse(place, f"broken YAML: {fault}.", "Check indentation, colons and quotes around here.") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise refuse(path.name, f"cannot be read: {error}.", "Check the file.") from None
