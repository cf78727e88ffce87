"""How well documents are found on public data, without any chat model: dense, BM25 and hybrid.

The settings are the defaults of RetrievalSettings, which were set on train and dev questions; figures are of test.

    python benchmarks/rungs/retrieval.py

Data come from ADVISOR_DATA (default `../shared/data`); vectors are of local/all-minilm-l6-v2.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from advisor.retrieval.metrics import ndcg_at, recall_at, reciprocal_rank
from advisor.retrieval.retriever import Mode, RetrievalSettings, Retriever
from backends.local.embed import LocalEmbedder
from backends.meter import Helpers, Meter
from backends.scripted import ScriptedChat
from evals.documents import read_documents

DATA = Path(os.environ.get("ADVISOR_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
SCENARIOS = ("xquad_rag", "hotpot_multihop")
_DEPTH = 50
"""Passages read of each ranking; enough for ten documents however many of them share one."""


async def main() -> None:
    """Print the table."""
    print("| data | search | questions | recall@5 (95 %) | MRR | nDCG@10 | passages | index s | ms/question |")
    print("|" + "---|" * 9)
    embedder = LocalEmbedder.open("local/all-minilm-l6-v2")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in SCENARIOS:
                for mode in get_args(Mode):
                    print("| " + " | ".join(await row(name, mode, embedder, Path(folder))) + " |", flush=True)
    finally:
        await embedder.aclose()


async def row(name: str, mode: Mode, embedder: LocalEmbedder, folder: Path) -> tuple[str, ...]:
    """One line of the table. Seconds to index are those of what an earlier line did not leave behind."""
    documents, problems = read_documents(DATA / name / "documents.jsonl")
    if problems:
        raise SystemExit("\n".join(map(str, problems)))
    questions = [json.loads(line) for line in (DATA / name / "test.jsonl").read_text("utf-8").splitlines()]
    models = Meter(ScriptedChat("scripted/none", {}), helpers=Helpers(embedder))
    begun = time.perf_counter()
    retriever = await Retriever.build(documents, models, folder, RetrievalSettings(mode))
    built = time.perf_counter()
    found = await retriever.rankings([question["input"] for question in questions], models, _DEPTH)
    searched = time.perf_counter()
    ranked = [list(dict.fromkeys(passage.document_id for passage in passages)) for passages in found]
    return (
        name,
        mode,
        str(len(questions)),
        *_figures(ranked, questions),
        str(retriever.chunks),
        f"{built - begun:.1f}",
        f"{1000 * (searched - built) / len(questions):.1f}",
    )


def _figures(ranked: Sequence[Sequence[str]], questions: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    pairs = [(found, question["supporting_doc_ids"]) for found, question in zip(ranked, questions, strict=True)]
    recalls = np.array([recall_at(5, found, gold) for found, gold in pairs])
    draws = np.random.default_rng(1).integers(len(recalls), size=(10_000, len(recalls)))
    low, high = np.quantile(recalls[draws].mean(axis=1), (0.025, 0.975))
    mrr = np.mean([reciprocal_rank(found, gold) for found, gold in pairs])
    ndcg = np.mean([ndcg_at(10, found, gold) for found, gold in pairs])
    return f"{recalls.mean():.3f} ({low:.3f} to {high:.3f})", f"{mrr:.3f}", f"{ndcg:.3f}"


if __name__ == "__main__":
    asyncio.run(main())
