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

Peers with other packages get environments of their own under `--peers`, made by pip from wheels or pure Python; a
peer that does not install or run here is skipped with a line that says so. `equal` counts answers whose tokens, or
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
    cpu_seconds: float
    """Of all threads: what to trust when the machine has other work."""
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
        [
            {"role": "system", "content": f"{i}"},
            {"role": "user", "content": ". ".join(rng.sample(sentences, 1 + i % 6))},
        ]
        for i in range(count)
    ]


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, float, Any]:
    """Median seconds and CPU seconds of some runs, and what the last returned."""
    walls, cpus = [], []
    result = None
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        result = work()
        walls.append(time.perf_counter() - begun)
        cpus.append(time.process_time() - used)
    return statistics.median(walls), statistics.median(cpus), result


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
        *seconds, ids = timed(lambda: [self._generate([prompt])[0] for prompt in prompts])
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

        *seconds, ids = timed(work)
        return self._figures("HF generate, batches of 32", seconds, ids)

    def ours(self, prompts: Sequence[tuple[int, ...]], repeats: int) -> Figures:
        """Our engine; every repeat begins with nothing remembered."""
        from backends.local.decoder import Job

        def work() -> list[Any]:
            self.engine.decoder.forget()
            return self.engine.answer([Job(ids, NEW_TOKENS) for ids in prompts])

        *seconds, answers = timed(work, repeats)
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

        with asyncio.Runner() as runner:
            runner.run(model.complete(requests[0]))
            wall, cpu, texts = timed(lambda: runner.run(work()), repeats)
            runner.run(model.aclose())
        name = "ours, 7 labels by trie, LocalChat" if choices else "ours, LocalChat"
        return Figures(name, wall, cpu, len(chats), [] if choices else texts)

    def speeds(self) -> list[tuple[float, float]]:
        """Prompt tokens a second, and a CPU second, of the bare decoder: plain, and with our layout of weights."""
        import torch

        ids = torch.arange(477)[None] * 37 % 40_000 + 100
        models = [self.plain.get_decoder(), self.engine.decoder.model.get_decoder()]
        with torch.inference_mode():
            runs = [
                [timed(lambda model=model: model(input_ids=ids, use_cache=False))[:2] for _ in range(5)]
                for model in models
            ]
        return [(477 / min(wall for wall, _ in taken), 477 / min(cpu for _, cpu in taken)) for taken in runs]

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

    def _figures(self, name: str, seconds: Sequence[float], ids: Sequence[tuple[int, ...]]) -> Figures:
        return Figures(name, *seconds, len(ids), [self.prompts.decode(answer) for answer in ids], ids)


def unique_tokens(prompts: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Length of what all prompts begin with, and the tokens to compute when that is computed once."""
    shared = next(i for i, column in enumerate(zip(*prompts, strict=False)) if len(set(column)) > 1)
    return shared, shared + sum(len(prompt) - shared for prompt in prompts)


def main() -> None:
    """Run the benchmark and print its tables."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    options = _arguments()
    if options.as_peer:
        _as_peer(*options.as_peer)
        return
    reference: Figures | None = None
    for dtype in options.dtypes.split(","):
        ways = Ways(dtype, options.threads)
        reference = _shared(options, ways, reference)
        _apart(options, ways)


def _shared(options: argparse.Namespace, ways: Ways, reference: Figures | None) -> Figures:
    """All ways over prompts that share their beginning; returns the answers that count as exact."""
    chats = messages(options.prompts)
    prompts = ways.encode(chats)
    shared, unique = unique_tokens(prompts)
    print(f"\n{ways.dtype}: {len(prompts)} prompts, {sum(map(len, prompts))} tokens, {shared} shared, {unique} unique")
    ways.ours(prompts[:40], 1)
    speeds = ways.speeds()
    one = ways.one(prompts[: options.one])
    ours = ways.ours(prompts, options.repeats)
    rows = [one, ways.padded(prompts[: options.padded]), ours]
    rows += [ways.chat(chats, options.repeats), ways.chat(chats, options.repeats, TOPICS)]
    _table(rows, one, reference or one)
    for name, (wall, cpu) in zip(("transformers'", "our layout of"), speeds, strict=True):
        shares = f"{unique / wall / ours.seconds:.2f} of it, by CPU seconds {unique / cpu / ours.cpu_seconds:.2f}"
        rate = wall * len(prompts) / unique
        print(f"limit with {name} weights: {wall:.0f} tokens/s, {rate:.1f} prompts/s; ours {shares}")
    if ways.dtype != "float32":
        exact = Ways("float32", options.threads).ours(prompts, 1)
        differing = sum(a != b for a, b in zip(ours.ids, exact.ids, strict=True))
        print(f"answers that differ from ours in float32: {differing} of {len(prompts)}")
    if options.peers:
        _peers(options, ways, chats, reference or one, one, ours)
    return reference or one


def _apart(options: argparse.Namespace, ways: Ways) -> None:
    """Ours and padded batches over prompts that share nothing."""
    prompts = ways.encode(unshared(options.prompts))
    print(f"{ways.dtype}, nothing shared: {len(prompts)} prompts, {sum(map(len, prompts))} tokens")
    alone = ways.one(prompts[: options.one])
    _table([alone, ways.padded(prompts), ways.ours(prompts, options.repeats)], alone, alone)


def _table(rows: Sequence[Figures], one: Figures, reference: Figures) -> None:
    print(f"{'':36}{'prompts':>8}{'s':>8}{'CPU s':>8}{'prompts/s':>11}{'x one':>7}{'by CPU':>8}  equal to one by one")
    for row in rows:
        _row(row, one, f"  {_equal(row, reference)}")


def _row(row: Figures, one: Figures, remark: str) -> None:
    by_cpu = one.cpu_seconds / one.prompts * row.prompts / row.cpu_seconds
    taken = f"{row.seconds:8.2f}{row.cpu_seconds:8.2f}{row.rate:11.2f}"
    print(f"{row.name:36}{row.prompts:8}{taken}{row.rate / one.rate:7.1f}{by_cpu:8.1f}{remark}", flush=True)


def _equal(row: Figures, reference: Figures) -> str:
    left, right = (row.ids, reference.ids) if row.ids and reference.ids else (row.texts, reference.texts)
    pairs = list(zip(left, right, strict=False))
    return f"{sum(a == b for a, b in pairs)} of {len(pairs)}" if pairs else "-"


@dataclass(frozen=True)
class Peer:
    """A peer with an environment of its own."""

    name: str
    packages: Sequence[str]
    prompts: int
    """On how many prompts it is timed."""
    answer: Callable[[dict[str, Any]], tuple[float, float, list[str]]]
    """Runs in that environment: seconds, CPU seconds and texts."""
    borrows: bool = False
    """Whether it may use the packages of this environment, torch and transformers above all."""


def llama_cpp(job: dict[str, Any]) -> tuple[float, float, list[str]]:
    """One slot whose prompt cache keeps what the prompt before had in common; the model as it is shipped, Q4_1."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = job["gguf"]
    params.n_ctx, params.n_parallel, params.verbosity = 2048, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    server = xllamacpp.Server(params)

    def answer(prompt: str) -> str:
        asked = {"prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0, "cache_prompt": True}
        return str(server.handle_completions(asked)["choices"][0]["text"])

    answer(job["prompts"][0])
    return timed(lambda: [answer(prompt) for prompt in job["prompts"]])


def lm_eval(job: dict[str, Any]) -> tuple[float, float, list[str]]:
    """The `hf` model of lm-evaluation-harness, batches of 32."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(job["threads"])
    model = HFLM(pretrained=job["folder"], device="cpu", dtype=job["dtype"], batch_size=32)
    until = {"until": ["<|im_end|>"], "max_gen_toks": NEW_TOKENS, "do_sample": False}
    asked = [Instance("generate_until", {}, (prompt, dict(until)), i) for i, prompt in enumerate(job["prompts"])]
    return timed(lambda: model.generate_until(asked, disable_tqdm=True))


PEERS = (
    Peer("llama.cpp", ["xllamacpp==2026.10.11549"], 200, llama_cpp),
    Peer("lm-eval", ["lm-eval==0.4.13"], 32, lm_eval, borrows=True),
)


def _peers(
    options: argparse.Namespace, ways: Ways, chats: Sequence[Any], reference: Figures, one: Figures, ours: Figures
) -> None:
    """Print what peers with environments of their own reach."""
    from backends.local.catalog import locate
    from backends.local.convert import converted

    path = locate(MODEL).path
    template = ways.prompts.tokenizer.apply_chat_template
    job = {"gguf": str(path), "folder": str(converted(path)), "dtype": ways.dtype, "threads": options.threads}
    for peer in PEERS:
        prompts = [template(chat, add_generation_prompt=True, tokenize=False) for chat in chats[: peer.prompts]]
        found = _peer(peer, Path(options.peers), job | {"prompts": prompts})
        if isinstance(found, str):
            print(found)
        else:
            _row(found, one, f"  {_equal(found, reference)}, ours is {ours.rate / found.rate:.1f} times as fast")


def _peer(peer: Peer, peers: Path, job: dict[str, Any]) -> Figures | str:
    python = peers.absolute() / peer.name / "bin" / "python"
    if not python.exists():
        _install(peer, python)
    task = peers / f"{peer.name}.json"
    task.write_text(json.dumps(job), encoding="utf-8")
    command = [str(python), __file__, "--as-peer", peer.name, str(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{peer.name}: skipped, it does not run here: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    wall, cpu, texts = json.loads(done.stdout.splitlines()[-1])
    return Figures(peer.name, wall, cpu, len(texts), texts)


def _install(peer: Peer, python: Path) -> None:
    folder = python.parent.parent
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if peer.borrows:
        (site,) = folder.glob("lib/python*/site-packages")
        own = [path for path in sys.path if path.endswith("site-packages")]
        (site / "borrowed.pth").write_text("\n".join(own), encoding="utf-8")
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--prefer-binary", *peer.packages], check=False)


def _as_peer(name: str, task: str) -> None:
    (peer,) = (peer for peer in PEERS if peer.name == name)
    print(json.dumps(peer.answer(json.loads(Path(task).read_text(encoding="utf-8")))))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--one", type=int, default=20)
    parser.add_argument("--padded", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--peers")
    parser.add_argument("--as-peer", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
