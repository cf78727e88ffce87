"""A draft from a promptfoo configuration: prompts, tests with vars and assertions.

Only data are read. Assertions that are code (javascript, python, ...) are not run and not translated: they are told.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.starting.assertions import (
    Reading,
    Shared,
    checks_of,
    compact,
    file_of,
    loaded,
    model_name,
    read_text,
    read_yaml,
)
from advisor.starting.checks import Check, combine
from advisor.starting.draft import OWN_FIELDS, Draft, Example, Guess, listed, mapping, refuse
from advisor.starting.template import Messages, take_apart
from backends.wording import counted

_MOST_COMBINATIONS = 1000


@dataclass(frozen=True, slots=True)
class _Test:
    """One test case, with what all tests share put in."""

    vars: Mapping[str, Any]
    checks: tuple[Check, ...]
    place: str
    metadata: Mapping[str, Any]


def is_promptfoo(content: Any) -> bool:
    """Whether a document is a promptfoo configuration, or an export that holds one."""
    if isinstance(content, Mapping) and isinstance(content.get("config"), Mapping):
        content = content["config"]
    return isinstance(content, Mapping) and "tests" in content


def from_promptfoo(content: Mapping[str, Any], path: Path) -> Draft:
    """Prompts -> instructions and inputs, assertions -> scorer and targets. Raises InputError."""
    config = content["config"] if isinstance(content.get("config"), Mapping) else content
    reading = Reading(path.parent, path.name)
    shared = _shared(config, reading)
    tests = list(_tests(config, shared, reading))
    if not tests:
        raise refuse(path.name, "the configuration has no tests.", "Add tests with vars and assert.")
    combined = combine([test.checks for test in tests])
    if combined is None:
        told = "; ".join(f"{number} {what}" for what, number in reading.lost.items()) or "there are none"
        what = f"no assertion can be taken over ({told})."
        raise refuse(path.name, what, "Give each test an equals, contains, regex, is-json, similar or llm-rubric.")
    kept = [tests[position] for position in combined.kept]
    messages = _prompt(config, reading)
    asked = take_apart(messages, [test.vars for test in kept])
    examples = tuple(
        Example(text, target, test.place, fields={**_metadata(test, f"{text}\n{target}"), **fields})
        for text, target, fields, test in zip(asked.inputs, combined.targets, combined.fields, kept, strict=True)
    )
    lost = [
        *combined.lost,
        *(f"{what}{f' ({number} times)' if number > 1 else ''}." for what, number in reading.lost.items()),
    ]
    return Draft(
        "a promptfoo configuration",
        examples,
        asked.instructions,
        combined.measure,
        combined.known,
        models=_models(config),
        limits=reading.limits,
        guesses=(*_told(asked.renamed, asked.instructions), *combined.guesses),
        lost=tuple(lost),
    )


def _told(renamed: bool, instructions: str | None) -> Iterator[Guess]:
    if instructions is None:
        return
    why = "the first prompt" + (", with [name] where a var stood; the input lists the vars" if renamed else "")
    yield Guess("instructions", "the prompt", why, "Read them as a model will: the system message, then the input.")


def _metadata(test: _Test, said: str) -> dict[str, Any]:
    """What the row says beside its input and target."""
    unsaid = {name: value for name, value in test.vars.items() if str(value) not in said}
    return {name: value for name, value in {**unsaid, **test.metadata}.items() if name not in OWN_FIELDS}


# -- prompts and models -----------------------------------------------------------------------------------------------


def _prompt(config: Mapping[str, Any], reading: Reading) -> Messages:
    """The first prompt as messages; the others are told."""
    prompts = config.get("prompts")
    prompts = prompts if isinstance(prompts, list) and prompts else [prompts]
    if len(prompts) > 1:
        reading.lost[
            f"{counted(len(prompts) - 1, 'further prompt')}: one scenario has one task; compare them as chains"
        ] += 1
    text = _prompt_text(prompts[0], reading)
    if text is None:
        return [("user", "")]
    try:
        found = json.loads(text) if text.lstrip().startswith("[") else None
    except ValueError:
        found = None
    if isinstance(found, list) and all(isinstance(one, Mapping) and "role" in one for one in found):
        return [(str(one["role"]), str(one.get("content", ""))) for one in found]
    if "{%" in text or re.search(r"\{\{[^}]*\|", text):
        reading.lost["template logic ({% %} and filters): it stands in the prompt as text"] += 1
    return [("user", text)]


def _prompt_text(prompt: Any, reading: Reading) -> str | None:
    if isinstance(prompt, Mapping):
        prompt = prompt.get("raw") or prompt.get("id")
    if isinstance(prompt, list):
        return json.dumps(prompt)
    if not isinstance(prompt, str):
        return None
    if not prompt.startswith("file://"):
        return prompt
    path = file_of(prompt, reading)
    if path.suffix in (".txt", ".md", ".json", ".j2"):
        return read_text(path).partition("\n---\n")[0]
    if path.suffix in (".yaml", ".yml"):
        return json.dumps(read_yaml(path))
    reading.lost[f"the prompt {prompt}: it is code"] += 1
    return None


def _models(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The providers that we can name, too."""
    providers = config.get("providers") or config.get("targets") or []
    names = [model_name(one) for one in (providers if isinstance(providers, list) else [providers])]
    return tuple(dict.fromkeys(name for name in names if name))


# -- tests ------------------------------------------------------------------------------------------------------------


def _shared(config: Mapping[str, Any], reading: Reading) -> Shared:
    default = config.get("defaultTest") or {}
    if isinstance(default, str) and default.startswith("file://"):
        default = read_yaml(file_of(default, reading)) or {}
    if not isinstance(default, Mapping):
        default = {}
    options = mapping(default.get("options"))
    if options.get("transform") or options.get("postprocess"):
        reading.lost["the transform of outputs before they are checked: it is code"] += 1
    judge = model_name(options.get("provider"))
    return Shared(
        mapping(default.get("vars")),
        tuple(listed(default.get("assert"))),
        mapping(config.get("assertionTemplates")),
        judge,
    )


def _tests(config: Mapping[str, Any], shared: Shared, reading: Reading) -> Iterator[_Test]:
    if config.get("scenarios"):
        reading.lost["`scenarios` of the configuration: write them out as tests"] += 1
    for number, test in enumerate(_rows(config["tests"], reading), start=1):
        if not isinstance(test, Mapping):
            reading.lost[f"a test that is {type(test).__name__}"] += 1
            continue
        own = test.get("vars") or {}
        if not isinstance(own, Mapping):
            reading.lost["a test whose vars are in another file"] += 1
            continue
        for values in _combinations({**shared.vars, **own}, reading):
            yield _test(test, values, shared, f"{reading.name}, test {number}", reading)


def _test(test: Mapping[str, Any], values: Mapping[str, Any], shared: Shared, place: str, reading: Reading) -> _Test:
    said = [*(shared.asserts), *listed(test.get("assert"))]
    checks = tuple(check for one in said for check in checks_of(one, values, shared, reading))
    described = {"description": test["description"]} if isinstance(test.get("description"), str) else {}
    metadata = test.get("metadata")
    return _Test(values, checks, place, {**described, **(metadata if isinstance(metadata, Mapping) else {})})


def _rows(tests: Any, reading: Reading) -> Iterator[Any]:
    """The tests of a configuration, those in other files included."""
    if isinstance(tests, Mapping):
        tests = tests.get("path", [tests])
    for test in tests if isinstance(tests, list) else [tests]:
        if isinstance(test, Mapping) and "path" in test and "vars" not in test:
            test = test["path"]
        if isinstance(test, str):
            yield from _rows_of_file(test, reading)
        else:
            yield test


def _rows_of_file(text: str, reading: Reading) -> Iterator[Any]:
    path = file_of(text, reading, required=False)
    if path is None:
        reading.lost[f"the tests of {text}: they are made by code or lie elsewhere"] += 1
    elif path.suffix == ".csv":
        yield from csv_tests(read_text(path))
    elif path.suffix == ".jsonl":
        yield from (json.loads(line) for line in read_text(path).splitlines() if line.strip())
    else:
        found = read_yaml(path)
        yield from found if isinstance(found, list) else [found]


def csv_tests(text: str) -> Iterator[Mapping[str, Any]]:
    """Tests of a CSV file: columns are vars, `__expected` holds assertions in promptfoo's short form."""
    for row in csv.DictReader(text.splitlines(keepends=True)):
        said = [value for name, value in row.items() if name and re.fullmatch(r"__expected\d*", name) and value]
        values = {name: value for name, value in row.items() if name and not name.startswith("__")}
        metadata = {
            name.removeprefix("__metadata:"): value
            for name, value in row.items()
            if name and name.startswith("__metadata:")
        }
        yield {"vars": values, "assert": [compact(one) for one in said], "metadata": metadata}


def _combinations(values: Mapping[str, Any], reading: Reading) -> Iterator[Mapping[str, Any]]:
    """One mapping for each choice from the vars that are lists, as promptfoo runs them; files are read."""
    lists = [value if isinstance(value, list) and value else [value] for value in values.values()]
    for chosen in itertools.islice(itertools.product(*lists), _MOST_COMBINATIONS):
        yield {name: loaded(value, reading) for name, value in zip(values, chosen, strict=True)}
