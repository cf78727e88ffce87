"""Answers 200 short prompts over a shared prefix with SmolLM2-135M, ours and its peers', in one run.

    python benchmarks/local_inference.py [--prompts 200] [--one 20] [--padded 64] [--repeats 3] [--threads 2]
        [--dtypes float32,bfloat16] [--peers FOLDER]

Every prompt is a chat: instructions with worked examples (about 480 tokens, the same for all) and a short message of
its own; the answer has at most 8 tokens, greedily. Beside them the same number of prompts without anything shared.

one        transformers `generate`, one prompt after another, on the first `--one` prompts
padded     transformers `generate` in batches of 32, sorted by length and padded on the left, on `--padded` prompts
ours       `backends.local.engine.Engine`, all prompts at once; once with an empty prefix store, median of `--repeats`
chat       the same through `LocalChat.complete`, all prompts concurrently: what a technique sees
labels     ours, the answer one of 7 labels, scored over a trie of their tokens
limit      prompt tokens that differ, each computed once, at the speed at which the bare decoder computes one long
           prompt: as transformers has it, and with our layout of the weights. Answer tokens are not counted.

Peers that need other packages are installed into environments of their own under `--peers` (nothing is compiled; a
peer that has no wheel for this machine is skipped with a line that says so). `equal` counts answers whose tokens, or
for peers with other weights whose text, are those of float32 `generate` on the prompts that both answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEW_TOKENS = 8
MODEL = "local/smollm2-135m"
TOPICS = ("health", "sport", "money", "travel", "food", "school", "music")
WORDS = {
    "health": ("my knee hurts", "the doctor called", "I sleep badly", "the pills make me dizzy"),
    "sport": ("we lost the match", "the goalkeeper was ill", "she ran a marathon", "the second half was dull"),
    "money": ("the loan was refused", "rent went up", "my card was charged twice", "the bank is closed"),
    "travel": ("our flight was late", "the hotel lost my booking", "the train stood still", "my passport expired"),
    "food": ("the soup was cold", "bread is sold out", "this cake needs sugar", "the cook left early"),
    "school": ("the exam was hard", "our teacher moved away", "homework took all night", "the lecture was cancelled"),
    "music": ("the band plays again", "her violin is broken", "the concert sold out", "he sings off key"),
}
WHERE = ("on Monday", "near the old station", "since last week", "after the rain", "with my sister", "in the morning")
WHY = ("and nobody told us why", "so we went home", "but I do not mind", "which was to be expected", "as usual", "")
EXAMPLES = 14


@dataclass(frozen=True)
class Figures:
    """What one way of answering took."""

    name: str
    seconds: float
    prompts: int
    texts: Sequence[str]
    ids: Sequence[tuple[int, ...]] = ()

    @property
    def rate(self) -> float:
        """Prompts a second."""
        return self.prompts / self.seconds


def messages(count: int, seed: int = 0) -> list[list[dict[str, str]]]:
    """Conversations over one shared instruction."""
    rng = random.Random(seed)

    def message() -> tuple[str, str]:
        topic = rng.choice(TOPICS)
        return f"{rng.choice(WORDS[topic])} {rng.choice(WHERE)} {rng.choice(WHY)}".strip(), topic

    examples = "\n\n".join("Message: {}\nTopic: {}".format(*message()) for _ in range(EXAMPLES))
    rules = " ".join(f"Say {topic} when the message is above all about {topic}." for topic in TOPICS)
    system = (
        "You read short messages that people wrote to a help desk and say what each is about, in one lower-case word "
        f"and nothing else. The topics are {', '.join(TOPICS)}. {rules} If a message touches two topics, take the one "
        "that made the writer write. Never explain, never apologise, never add a full stop, and never invent a topic "
        f"that is not in the list above. Some messages with their topics follow.\n\n{examples}"
    )
    ask = [message()[0] for _ in range(count)]
    return [
        [{"role": "system", "content": system}, {"role": "user", "content": f"Message {i}: {text}\nTopic:"}]
        for i, text in enumerate(ask)
    ]


def unshared(count: int, seed: int = 1) -> list[list[dict[str, str]]]:
    """Conversations that differ from their first word on, of 20 to 60 tokens."""
    rng = random.Random(seed)
    sentences = [f"{words} {where}" for topic in TOPICS for words in WORDS[topic] for where in WHERE]
    return [
        [{"role": "system", "content": f"{i}"}, {"role": "user", "content": ". ".join(rng.sample(sentences, 1 + i % 6))}]
        for i in range(count)
    ]


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median seconds of some runs, and what the last returned."""
    taken = []
    result = None
    for _ in range(repeats):
        begun = time.perf_counter()
        result = work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken), result


class Ways:
    """The ways to answer that run in this process, in one precision."""

    def __init__(self, dtype: str, threads: int) -> None:
        import torch

        from backends.local.catalog import locate
        from backends.local.engine import Engine
        from backends.local.loading import load

        torch.set_num_threads(threads)
        place = locate(MODEL)
        self.plain: Any
        self.plain, self.prompts = load(MODEL, place, dtype, "cpu")
        self.engine = Engine.load(MODEL, place, dtype, "cpu")
        self.dtype = dtype

    def encode(self, chats: Sequence[list[dict[str, str]]]) -> list[tuple[int, ...]]:
        """Token ids by the chat template."""
        encode = self.prompts.tokenizer.apply_chat_template
        return [tuple(encode(chat, add_generation_prompt=True, return_dict=False)) for chat in chats]

    def one(self, prompts: Sequence[tuple[int, ...]]) -> Figures:
        """Transformers, one by one."""
        seconds, ids = timed(lambda: [self._generate([prompt])[0] for prompt in prompts])
        return self._figures("HF generate, one by one", seconds, ids)

    def padded(self, prompts: Sequence[tuple[int, ...]]) -> Figures:
        """Transformers, in padded batches."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))

        def work() -> list[tuple[int, ...]]:
            found: dict[int, tuple[int, ...]] = {}
            for first in range(0, len(order), 32):
                part = order[first : first + 32]
                found |= dict(zip(part, self._generate([prompts[i] for i in part]), strict=True))
            return [found[i] for i in range(len(prompts))]

        seconds, ids = timed(work)
        return self._figures("HF generate, batches of 32", seconds, ids)

    def ours(self, prompts: Sequence[tuple[int, ...]], repeats: int) -> Figures:
        """Our engine; every repeat begins with nothing remembered."""
        from backends.local.decoder import Job

        def work() -> list[Any]:
            self.engine.decoder.forget()
            return self.engine.answer([Job(ids, NEW_TOKENS) for ids in prompts])

        seconds, answers = timed(work, repeats)
        return self._figures("ours", seconds, [answer.ids for answer in answers])

    def chat(self, chats: Sequence[list[dict[str, str]]], repeats: int, choices: tuple[str, ...] = ()) -> Figures:
        """Our chat model, asked concurrently."""
        from backends.local.chat import LocalChat
        from backends.types import ChatRequest, Message

        model = LocalChat.open(MODEL, dtype=self.dtype)
        requests = [
            ChatRequest(
                tuple(Message(turn["role"], turn["content"]) for turn in chat),  # type: ignore[arg-type]
                max_tokens=NEW_TOKENS,
                choices=choices,
            )
            for chat in chats
        ]

        async def work() -> list[str]:
            model._engine().decoder.forget()
            return [answer.text for answer in await asyncio.gather(*map(model.complete, requests))]

        async def all_of_it() -> tuple[float, list[str]]:
            await model.complete(requests[0])
            taken = []
            for _ in range(repeats):
                begun = time.perf_counter()
                texts = await work()
                taken.append(time.perf_counter() - begun)
            await model.aclose()
            return statistics.median(taken), texts

        seconds, texts = asyncio.run(all_of_it())
        name = "ours, 7 labels by trie, LocalChat" if choices else "ours, LocalChat"
        return Figures(name, seconds, len(chats), texts)

    def speeds(self) -> tuple[float, float]:
        """Prompt tokens a second of the bare decoder on one prompt of 477: plain, and with our layout of weights."""
        import torch

        ids = torch.arange(477)[None] * 37 % 40_000 + 100
        models = [self.plain.get_decoder(), self.engine.decoder.model.get_decoder()]
        with torch.inference_mode():
            plain, laid_out = (
                min(timed(lambda model=model: model(input_ids=ids, use_cache=False))[0] for _ in range(7))
                for model in models
            )
        return 477 / plain, 477 / laid_out

    def _generate(self, prompts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        import torch

        longest = max(map(len, prompts))
        pad = self.prompts.eos_ids[0]
        ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            output = self.plain.generate(
                ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=pad
            )
        return [self._until_end(row[longest:].tolist()) for row in output]

    def _until_end(self, ids: list[int]) -> tuple[int, ...]:
        ends = [i for i, token in enumerate(ids) if token in self.prompts.eos_ids]
        return tuple(ids[: ends[0] + 1] if ends else ids)

    def _figures(self, name: str, seconds: float, ids: Sequence[tuple[int, ...]]) -> Figures:
        return Figures(name, seconds, len(ids), [self.prompts.decode(answer) for answer in ids], ids)


def unique_tokens(prompts: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Length of what all prompts begin with, and the tokens to compute when that is computed once."""
    shared = next(i for i, column in enumerate(zip(*prompts, strict=False)) if len(set(column)) > 1)
    return shared, shared + sum(len(prompt) - shared for prompt in prompts)


def main() -> None:
    """Run the benchmark and print its tables."""
    options = _arguments()
    chats, apart = messages(options.prompts), unshared(options.prompts)
    reference: Figures | None = None
    for dtype in options.dtypes.split(","):
        ways = Ways(dtype, options.threads)
        prompts = ways.encode(chats)
        shared, unique = unique_tokens(prompts)
        total = sum(map(len, prompts))
        print(f"\n{dtype}: {len(prompts)} prompts, {total} tokens, {shared} shared, {unique} of them unique")
        ways.ours(prompts[:40], 1)
        plain, laid_out = ways.speeds()
        one = ways.one(prompts[: options.one])
        rows = [one, ways.padded(prompts[: options.padded]), ways.ours(prompts, options.repeats)]
        rows += [ways.chat(chats, options.repeats), ways.chat(chats, options.repeats, TOPICS)]
        reference = reference or one
        _table(rows, one, reference, unique / plain / len(prompts))
        for name, speed in (("transformers'", plain), ("our layout of", laid_out)):
            rate = len(prompts) * speed / unique
            print(f"limit with {name} weights: {speed:.0f} tokens/s, {rate:.1f} prompts/s; ours {rows[2].rate / rate:.2f}")
        if dtype != "float32":
            exact = Ways("float32", options.threads).ours(prompts, 1)
            print(f"answers that differ from float32: {_differing(rows[2], exact)} of {len(prompts)}")
        distinct = ways.encode(apart)
        print(f"{dtype}, nothing shared: {sum(map(len, distinct))} tokens")
        alone = ways.one(distinct[: options.one])
        _table([alone, ways.padded(distinct), ways.ours(distinct, options.repeats)], alone, alone, None)
    _peers(options, chats, reference)


def _differing(left: Figures, right: Figures) -> int:
    return sum(a != b for a, b in zip(left.ids, right.ids, strict=True))


def _table(rows: Sequence[Figures], one: Figures, reference: Figures, limit: float | None) -> None:
    print(f"{'':36}{'prompts':>8}{'s':>8}{'prompts/s':>11}{'x one':>7}{'of limit':>10}  equal to float32 one by one")
    for row in rows:
        share = "" if limit is None else f"{row.rate * limit:.2f}"
        print(
            f"{row.name:36}{row.prompts:8}{row.seconds:8.2f}{row.rate:11.2f}{row.rate / one.rate:7.1f}{share:>10}"
            f"  {_equal(row, reference)}"
        )


def _equal(row: Figures, reference: Figures) -> str:
    left, right = (row.ids, reference.ids) if row.ids and reference.ids else (row.texts, reference.texts)
    pairs = list(zip(left, right, strict=False))
    return f"{sum(a == b for a, b in pairs)} of {len(pairs)}"


def _peers(options: argparse.Namespace, chats: Sequence[list[dict[str, str]]], reference: Figures | None) -> None:
    """Print what peers with environments of their own reach."""
    if options.peers is None or reference is None:
        print("\npeers with other packages: not run (give --peers FOLDER)")
        return
    print("\npeers with other packages")
    for name, packages, count in (("llama.cpp", ["xllamacpp"], 200), ("lm-eval", ["lm-eval[hf]==0.4.13"], 32)):
        print(_peer(options, name, packages, chats[:count], reference))


def _peer(
    options: argparse.Namespace,
    name: str,
    packages: Sequence[str],
    chats: Sequence[list[dict[str, str]]],
    reference: Figures,
) -> str:
    folder = Path(options.peers) / name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "-q", "--only-binary=:all:", *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            subprocess.run(["rm", "-rf", str(folder)], check=True)
            return f"{name}: skipped, no wheel installs here: {done.stderr.strip().splitlines()[-1]}"
    return f"{name}: {len(chats)} prompts, {reference.name}, {json.dumps(packages)}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--one", type=int, default=20)
    parser.add_argument("--padded", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--peers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
