"""A draft from an export of OpenAI's Evals: the eval, its runs, their output items; as one JSON file or a folder.

The objects are those of the API: an eval has `testing_criteria` (graders); a run has `data_source` with the items and
the template of the messages; an output item has `datasource_item` and how each grader judged it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advisor.starting.checks import JUDGED, SIMILAR, Check, combine
from advisor.starting.draft import OWN_FIELDS, Draft, Example, Guess, listed, mapping, refuse
from advisor.starting.tables import read_json, read_rows
from advisor.starting.template import Messages, fill, look_up, places, take_apart
from backends.wording import counted

_OUTPUT = "sample.output_text"
_STRINGS = {"eq": ("equals", False), "ne": ("equals", True), "like": ("contains", False), "ilike": ("icontains", False)}
_SIMILARITIES = {
    "fuzzy_match": "fuzzy",
    "bleu": "bleu",
    "gleu": "bleu",
    "meteor": "chrf",
    **dict.fromkeys(("rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"), "rouge_l"),
}
_ALIKE = {"fuzzy_match", "bleu", "rouge_l"}
"""Metrics that are the same with us; the others have a near kin."""
_MARGIN = 0.03


@dataclass
class _Export:
    """Everything found in an export."""

    criteria: list[Mapping[str, Any]] = field(default_factory=list)
    items: list[Mapping[str, Any]] = field(default_factory=list)
    """Rows of the data source, each once."""
    seen: set[str] = field(default_factory=set)
    messages: Messages = ()
    item_reference: str | None = None
    """Field of the item that holds the whole conversation, where the run says so."""
    results: list[bool] = field(default_factory=list)
    """Whether each output item passed."""
    models: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def is_evals(content: Any) -> bool:
    """Whether a JSON document is an eval, a run, or a mapping that holds them."""
    return isinstance(content, Mapping) and any(
        key in content for key in ("testing_criteria", "eval", "output_items", "data_source_config")
    )


def is_evals_folder(folder: Path) -> bool:
    """Whether one of a folder's JSON files is an eval."""
    return any(is_evals(read_json(path)) for path in sorted(folder.glob("*.json")))


def is_items(rows: Sequence[Any]) -> bool:
    """Whether rows are those of a data file of the Evals: `{"item": {...}}`."""
    return all(isinstance(row.fields.get("item"), Mapping) and set(row.fields) <= {"item", "sample"} for row in rows)


def read_export(path: Path) -> Draft:
    """The draft of an export file or folder. Raises InputError."""
    export = _Export()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.suffix == ".json":
            _collect(read_json(file), export)
        elif file.suffix == ".jsonl":
            for row in read_rows(file):
                _collect(dict(row.fields), export)
    return _draft(export, path.name)


def _collect(content: Any, export: _Export) -> None:
    """Take what is known out of one JSON value; lists and pages of the API are opened."""
    if isinstance(content, list):
        for one in content:
            _collect(one, export)
        return
    if not isinstance(content, Mapping):
        return
    if isinstance(content.get("testing_criteria"), list):
        export.criteria += [mapping(one) for one in content["testing_criteria"] if one not in export.criteria]
    if isinstance(content.get("data_source"), Mapping):
        _source(content["data_source"], export)
    if isinstance(content.get("datasource_item"), Mapping):
        _output_item(content, export)
    elif isinstance(content.get("item"), Mapping):
        _add(content["item"], export)
    for key in ("eval", "run", "runs", "output_items", "items", "data"):
        _collect(content.get(key), export)


def _add(item: Mapping[str, Any], export: _Export) -> None:
    inner = item.get("item") if set(item) == {"item"} else item
    if not isinstance(inner, Mapping):
        return
    key = json.dumps(inner, sort_keys=True)
    if key not in export.seen:
        export.seen.add(key)
        export.items.append(inner)


def _source(source: Mapping[str, Any], export: _Export) -> None:
    """The data source of a run: its items, its prompt, its model."""
    rows = source.get("source")
    if isinstance(rows, Mapping):
        for one in listed(rows.get("content")):
            if isinstance(one, Mapping) and isinstance(one.get("item"), Mapping):
                _add(one["item"], export)
        if rows.get("type") == "file_id" and not export.items:
            export.lost.append(
                f"the data of file {rows.get('id')}: download it and put it into the folder as items.jsonl"
            )
    asked = source.get("input_messages")
    if isinstance(asked, Mapping) and not export.messages:
        export.messages = [
            (str(one.get("role", "user")), _content(one)) for one in map(mapping, listed(asked.get("template")))
        ]
        reference = asked.get("item_reference")
        export.item_reference = reference.removeprefix("item.") if isinstance(reference, str) else None
    if isinstance(source.get("model"), str):
        export.models.append(f"openai/{source['model']}")


def _content(message: Mapping[str, Any]) -> str:
    """The text of a message of a template."""
    content = message.get("content", "")
    parts = content if isinstance(content, list) else [content]
    return "\n".join(str(part.get("text", "")) if isinstance(part, Mapping) else str(part) for part in parts)


def _output_item(item: Mapping[str, Any], export: _Export) -> None:
    _add(item["datasource_item"], export)
    results = [one for one in listed(item.get("results")) if isinstance(one, Mapping)]
    if results:
        export.results.append(all(bool(one.get("passed")) for one in results))


# -- the draft --------------------------------------------------------------------------------------------------------


def _draft(export: _Export, where: str) -> Draft:
    if not export.items:
        lost = f" {export.lost[0]}." if export.lost else ""
        remedy = "Put the runs, their output items or the data file beside it (docs/moving-off-openai-evals.md)."
        raise refuse(where, f"the export has no items, so there is nothing to ask.{lost}", remedy)
    if not export.criteria:
        raise refuse(where, "the export has no testing_criteria.", "Put the eval itself beside it, as eval.json.")
    rows = [{"item": item} for item in export.items]
    checks = [[check for one in export.criteria for check in _checks(one, row, export)] for row in rows]
    combined = combine(checks)
    if combined is None:
        told = "; ".join(dict.fromkeys(export.lost)) or "they judge no output"
        what = f"none of its {counted(len(export.criteria), 'grader')} can be taken over ({told})."
        raise refuse(where, what, "Write a scorer of your own; docs/scorers.md says how.")
    kept = [rows[position] for position in combined.kept]
    instructions, inputs, guesses = _asked(export, kept)
    examples = tuple(
        Example(
            text,
            target,
            f"{where}, item {position + 1}",
            fields={**_metadata(row["item"], f"{text}\n{target}"), **fields},
        )
        for text, target, fields, row, position in zip(
            inputs, combined.targets, combined.fields, kept, combined.kept, strict=True
        )
    )
    return Draft(
        "an export of OpenAI Evals",
        examples,
        instructions,
        combined.measure,
        combined.known,
        models=tuple(dict.fromkeys(export.models)),
        pass_rate=sum(export.results) / len(export.results) if export.results else None,
        guesses=(*guesses, *combined.guesses),
        lost=(*combined.lost, *(f"{one}." for one in dict.fromkeys(export.lost))),
    )


def _metadata(item: Mapping[str, Any], said: str) -> dict[str, Any]:
    """What the item says beside its input and target."""
    return {name: value for name, value in item.items() if name not in OWN_FIELDS and str(value) not in said}


def _asked(export: _Export, rows: Sequence[Mapping[str, Any]]) -> tuple[str | None, Sequence[str], list[Guess]]:
    """Instructions and inputs: by the template, by the conversation in the item, or by what no grader refers to."""
    check = "Read them as a model will: the system message, then the input."
    if export.messages:
        asked = take_apart(export.messages, rows)
        renamed = ", with [name] where a field stood" if asked.renamed else ""
        return (
            asked.instructions,
            asked.inputs,
            [Guess("instructions", "the run's messages", f"its template{renamed}", check)],
        )
    if export.item_reference is not None:
        return _conversations(export.item_reference, rows)
    graded = {name for one in export.criteria for name in places(json.dumps(one)) if name.startswith("item.")}
    names = [f"item.{name}" for name in rows[0]["item"] if f"item.{name}" not in graded]
    names = [name for name in names if isinstance(look_up(name, rows[0]), str)] or [
        f"item.{name}" for name in rows[0]["item"]
    ]
    chosen = next(
        (name for name in names if name.rpartition(".")[2] in ("input", "question", "prompt", "text")), names[0]
    )
    why = "the export has no run with a template; no grader compares with this field"
    guess = Guess("input", chosen, why, "Is this what was asked? Export a run, too, to have its prompt.")
    return None, [look_up(chosen, row) or "" for row in rows], [guess]


def _conversations(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str | None, Sequence[str], list[Guess]]:
    """The conversation that each item holds: its system message, and the rest as the input."""
    systems: list[str] = []
    inputs: list[str] = []
    for row in rows:
        messages = listed(row["item"].get(name))
        found = [(str(one.get("role")), _content(one)) for one in messages if isinstance(one, Mapping)]
        systems.append("\n\n".join(text for role, text in found if role in ("system", "developer")))
        turns = [(role, text) for role, text in found if role not in ("system", "developer")]
        inputs.append(
            turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role.capitalize()}: {text}" for role, text in turns)
        )
    same = len(set(systems)) == 1
    if not same:
        inputs = [f"{system}\n\n{text}".strip() for system, text in zip(systems, inputs, strict=True)]
    guess = Guess("input", f"item.{name}", "the run takes the conversation from there", "")
    return (systems[0] or None) if same else None, inputs, [guess]


# -- graders ----------------------------------------------------------------------------------------------------------


def _checks(grader: Mapping[str, Any], row: Mapping[str, Any], export: _Export) -> Iterator[Check]:
    """The demand of one grader on one row; what cannot be taken over is told."""
    kind, name = grader.get("type"), grader.get("name") or grader.get("type")
    found: Check | None = None
    if kind in ("string_check", "text_similarity"):
        found = _compared(grader, row, export)
    elif kind in ("score_model", "label_model"):
        found = _judged(grader, row)
    elif kind == "python":
        export.lost.append(
            f"the grader {name}: it is Python code, which is neither run nor translated; write it as a scorer"
        )
    elif kind == "multi":
        export.lost.append(f"the grader {name}: it is a formula of other graders")
    else:
        export.lost.append(f"the grader {name}: there is no kind {kind!r} here")
    if found is not None:
        yield found


def _compared(grader: Mapping[str, Any], row: Mapping[str, Any], export: _Export) -> Check | None:
    name = grader.get("name") or grader.get("type")
    if places(str(grader.get("input", ""))) != [_OUTPUT]:
        export.lost.append(
            f"the grader {name}: it looks at {grader.get('input')!r}, and only the answer's text can be scored"
        )
        return None
    reference = fill(str(grader.get("reference", "")), row)
    if not reference.strip() or places(reference):
        export.lost.append(f"the grader {name} on rows without its reference {grader.get('reference')!r}")
        return None
    if grader["type"] == "string_check":
        kind, negated = _STRINGS.get(str(grader.get("operation")), ("equals", False))
        return Check(kind, reference, negated)
    return _similarity(grader, reference, export)


def _similarity(grader: Mapping[str, Any], reference: str, export: _Export) -> Check | None:
    metric, threshold = str(grader.get("evaluation_metric")), grader.get("pass_threshold")
    at_least = float(threshold) if isinstance(threshold, int | float) and 0 < threshold <= 1 else 0.5
    value = {"text": reference, "at_least": at_least}
    if metric == "cosine":
        return Check(SIMILAR, value)
    if metric not in _SIMILARITIES:
        export.lost.append(f"the grader {grader.get('name')}: there is no metric {metric!r} here")
        return None
    if metric not in _ALIKE:
        export.lost.append(
            f"the metric {metric} itself: {_SIMILARITIES[metric]} stands in, and its threshold must be judged anew"
        )
    return Check(_SIMILARITIES[metric], value)


def _judged(grader: Mapping[str, Any], row: Mapping[str, Any]) -> Check:
    """A judge whose rubric is the grader's own prompt; places of the item are filled in."""
    texts = [_content(one) for one in listed(grader.get("input")) if isinstance(one, Mapping)]
    rubric = fill("\n\n".join(texts), {**row, "sample": {"output_text": "(the answer)"}})
    if grader["type"] == "label_model":
        passing = ", ".join(map(str, listed(grader.get("passing_labels"))))
        rubric += f"\n\nPass the answer when it deserves one of these labels: {passing}. Fail it otherwise."
    elif isinstance(grader.get("pass_threshold"), int | float):
        span = listed(grader.get("range"))
        low, high = span if len(span) == 2 and all(isinstance(end, int | float) for end in span) else (0, 1)
        least = f"{grader['pass_threshold']:g} on a scale from {low:g} to {high:g}"
        rubric += f"\n\nPass the answer when it deserves at least {least}."
    model = grader.get("model")
    return Check(JUDGED, rubric.strip(), model=f"openai/{model}" if isinstance(model, str) else None)


def goal_from(pass_rate: float) -> float:
    """A target of the goal that stands for `no worse than now`: the pass rate less the usual margin."""
    return round(min(0.96, max(0.5, pass_rate - _MARGIN)), 2)
