"""Three scenarios of different kinds behind a metered endpoint that answers at the lengths at which models write.

The lengths are those of what models answer to these prompts and know nothing of the estimate: sentences of 8 to 20
words, one to three of them for a thought, answers with a word or two too many now and then. Examples and thoughts make
answers better, as they do for models of middling size.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.openai_server import Json

MODEL, EMBEDDER = "stub/gpt-4o-mini", "stub/text-embedding-3-small"
_WORDS = re.findall(
    r"\w+",
    "the first second customer order says that it was because of what we know from text and so there is one more thing "
    "to look at before number twelve can be told with reason a different answer would need several other facts which "
    "are not given here but follow from line three",
)
_QUEUES = {
    "billing": ["invoice", "charged", "receipt", "price"],
    "delivery": ["parcel", "courier", "late", "address"],
    "returns": ["refund", "broken", "exchange", "label"],
    "account": ["password", "login", "profile", "email"],
    "other": ["press", "job", "partner", "visit"],
}
_CITIES = ["Lisbon", "Oslo", "Gdansk", "Porto", "Leipzig", "Turin", "Ghent", "Aarhus", "Split", "Bergen"]


@dataclass(frozen=True)
class Kind:
    """One scenario: its rows and keys, and how its model answers."""

    name: str
    row: Callable[[random.Random, int], dict[str, str]]
    keys: dict[str, Any]
    vary: Callable[[random.Random, str, bool], str]
    """What the model writes in place of the target, rightly or wrongly."""


def sentence(rng: random.Random, fewest: int = 8, most: int = 20) -> str:
    """Plain words, as many as sentences have."""
    return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(fewest, most))).capitalize() + "."


def sentences(rng: random.Random, fewest: int, most: int) -> str:
    """Several."""
    return " ".join(sentence(rng) for _ in range(rng.randint(fewest, most)))


def _message(rng: random.Random, number: int) -> dict[str, str]:
    queue = rng.choice(sorted(_QUEUES))
    words = f"{sentence(rng)} About my {rng.choice(_QUEUES[queue])}, ticket {number}. {sentences(rng, 0, 2)}"
    return {"input": words, "target": queue}


def _question(rng: random.Random, number: int) -> dict[str, str]:
    city, year = rng.choice(_CITIES), rng.randint(1850, 2020)
    facts = " ".join(f"Line {n} of {rng.choice(_CITIES)} opened in {rng.randint(1850, 2020)}." for n in range(1, 5))
    asked = f"{facts} The tram of {city} (file {number}) was opened in {year}. {sentences(rng, 1, 2)}"
    return {"input": f"{asked}\nWhen and where was the tram of file {number} opened?", "target": f"in {year} in {city}"}


def _order(rng: random.Random, number: int) -> dict[str, str]:
    found = {"city": rng.choice(_CITIES), "items": rng.randint(1, 40), "name": f"Customer {number}", "rush": False}
    if rng.random() < 0.5:
        found["note"] = sentence(rng, 3, 8)
    text = f"{sentence(rng)} {found['name']} of {found['city']} wants {found['items']} pieces. {found.get('note', '')}"
    return {"input": text, "target": json.dumps(found, sort_keys=True)}


def _label(rng: random.Random, target: str, wrong: bool) -> str:
    return rng.choice([queue for queue in sorted(_QUEUES) if queue != target]) if wrong else target


def _free(rng: random.Random, target: str, wrong: bool) -> str:
    if wrong:
        target = f"in {rng.randint(1850, 2020)} in {rng.choice(_CITIES)}"
    return rng.choice([target, target, f"{target.capitalize()}.", f"It was opened {target}."])


def _json(rng: random.Random, target: str, wrong: bool) -> str:
    found = json.loads(target)
    if wrong:
        found |= {"items": found["items"] + 1, "city": rng.choice(_CITIES)}
    return json.dumps(found, separators=rng.choice([(",", ":"), (", ", ": ")]))


_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "city": {"type": "string"},
        "items": {"type": "integer"},
        "rush": {"type": "boolean"},
        "note": {"type": "string"},
    },
    "required": ["name", "city", "items", "rush"],
    "additionalProperties": False,
}
KINDS = {
    "labels": Kind(
        "labels",
        _message,
        {
            "instructions": "Sort the message into the queue that handles it: billing, delivery, returns, account, "
            "other. Answer with the queue's name only.",
            "labels": sorted(_QUEUES),
            "scorer": "exact",
            "techniques": ["zero_shot", "few_shot", "knn_few_shot"],
            "goal": {"target": 0.75, "margin": 0.1},
        },
        _label,
    ),
    "questions": Kind(
        "questions",
        _question,
        {
            "instructions": "Answer the question from the lines before it, in a few words.",
            "scorer": "token_f1",
            "techniques": ["zero_shot", {"name": "few_shot", "k": 4}, "chain"],
            "goal": {"target": 0.8, "margin": 0.08},
        },
        _free,
    ),
    "orders": Kind(
        "orders",
        _order,
        {
            "instructions": "Write down what is ordered as JSON.",
            "output_schema": "schema.json",
            "scorer": "json_fields",
            "techniques": ["zero_shot", "structured_output", "few_shot"],
            "goal": {"target": 0.85, "margin": 0.08},
        },
        _json,
    ),
}


def scenario(folder: Path, kind: Kind, n_test: int = 50, **changes: Any) -> tuple[Path, dict[str, str]]:
    """Write the scenario; returns its file and the targets by input."""
    folder.mkdir(parents=True)
    rng = random.Random(f"rows of {kind.name}")
    targets: dict[str, str] = {}
    number = 0
    for split, n in (("train", 60), ("dev", 36), ("test", n_test)):
        rows = [{"id": f"{split}-{i}", **kind.row(rng, number + i)} for i in range(n)]
        number += n
        targets |= {row["input"]: row["target"] for row in rows}
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "schema.json").write_text(json.dumps(_SCHEMA), "utf-8")
    found = {
        "name": kind.name,
        "data": {split: f"{split}.jsonl" for split in ("train", "dev", "test")},
        "models": [MODEL],
        "embedder": EMBEDDER,
        "fine_tune": {"when": "never"},
        **kind.keys,
        **changes,
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(found, sort_keys=False), "utf-8")
    return path, targets


def model(kind: Kind, targets: dict[str, str]) -> Callable[[Json], str]:
    """How the endpoint's model answers a request of one of our techniques."""
    inputs = sorted(targets, key=len, reverse=True)

    def answer(body: Json) -> str:
        rng = random.Random(json.dumps(body["messages"]))
        text, system = body["messages"][-1]["content"], body["messages"][0]["content"]
        thought = _thought(rng, text, system)
        if thought is not None:
            return thought
        shown = "\n".join(message["content"] for message in body["messages"] if message["role"] == "user")
        found = next((one for one in inputs if one in text), None) or next(one for one in inputs if one in shown)
        said = kind.vary(rng, targets[found], rng.random() >= _right(body, system))
        return _formed(rng, body, system, said)

    return answer


def _right(body: Json, system: str) -> float:
    """How often the answer is right."""
    shown = sum(message["role"] == "assistant" for message in body["messages"])
    has_thought = "think" in system or '"reasoning"' in system or "Notes:" in body["messages"][-1]["content"]
    return 0.58 + min(0.16, 0.03 * shown) + 0.12 * has_thought


def _thought(rng: random.Random, text: str, system: str) -> str | None:
    """What is written on the way to an answer; None where the answer is asked for."""
    if "questions that must be answered first" in text:
        return "\n".join(sentence(rng, 6, 14).replace(".", "?") for _ in range(rng.randint(1, 3)))
    if "Answer only this question" in text:
        return sentence(rng)
    if text.endswith("then give an answer."):
        return sentences(rng, 2, 5)
    if "Name the mistakes of the draft" in text:
        return "No mistakes." if rng.random() < 0.5 else sentences(rng, 1, 2)
    if "Do not give the answer yet" in system and text != "Now give the answer only.":
        return sentences(rng, 1, 3)
    return None


def _formed(rng: random.Random, body: Json, system: str, said: str) -> str:
    """The answer in the form that the request asks for."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    fields = schema.get("properties", {})
    if "last line that begins with Answer:" in system:
        return f"{sentences(rng, 1, 3)}\nAnswer: {said}"
    if "answer" not in fields:
        return said
    is_label = "enum" in fields["answer"] or re.search(r"ANSWER is one of", system)
    form: dict[str, Any] = {"reasoning": sentence(rng)} if "reasoning" in fields else {}
    return json.dumps({**form, "answer": said if is_label else json.loads(said)})
