"""A small scenario on scripted models, in a folder of its own: three labels that words give away."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

WORDS = {
    "fruit": ["apple", "pear", "plum", "cherry"],
    "metal": ["iron", "copper", "zinc", "nickel"],
    "river": ["rhine", "danube", "volga", "seine"],
}
LABELS = sorted(WORDS)


def rows(split: str, n: int, marker: str = "") -> list[dict[str, str]]:
    """`n` labelled messages; inputs differ in a number, and in `marker` when given."""
    rng = random.Random(split)
    found = []
    for number in range(n):
        label = LABELS[number % len(LABELS)]
        words = f"{marker} {split} message {number} about {rng.choice(WORDS[label])} and more".strip()
        found.append({"id": f"{split}-{number:04d}", "input": words, "target": label})
    return found


def rules(right: float, needs: str = "", seed: int = 0) -> list[dict[str, str]]:
    """Rules that answer rightly, except for about 1 - right of the message numbers, chosen by seed."""
    rng = random.Random(seed)
    wrong = [str(number) for number in range(1000) if rng.random() >= right]
    miss = [{"when": rf"message ({'|'.join(wrong)}) about", "needs": needs, "answer": "none of these"}] if wrong else []
    return miss + [{"when": "|".join(words), "needs": needs, "answer": label} for label, words in WORDS.items()]


def script(folder: Path, name: str, found: list[dict[str, str]], **settings: Any) -> str:
    """Write a script file; returns the model's name."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"rules": found, "default": "no idea", **settings}), encoding="utf-8")
    return f"scripted/{path}"


def scenario(folder: Path, model: str, *, n_test: int = 120, **changes: Any) -> Path:
    """Write a scenario that climbs on the given model; `changes` replace top-level keys."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, n in (("train", 60), ("dev", 15), ("test", n_test)):
        marker = "worked example" if split == "train" else ""
        lines = [json.dumps(row) for row in rows(split, n, marker)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = {
        "name": "toy",
        "description": "three labels",
        "data": {split: f"{split}.jsonl" for split in ("train", "dev", "test")},
        "instructions": "Sort the message.",
        "labels": LABELS,
        "scorer": "exact",
        "models": [model],
        "embedder": "scripted/words",
        "techniques": ["zero_shot", "few_shot", "knn_few_shot"],
        "goal": {"target": 0.7, "margin": 0.1},
        "traffic": {"requests_per_month": 10000, "months": 12},
        "fine_tune": {"when": "needed", "backend": "scripted", "base": model},
        **changes,
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")
    return path
