"""LoRA fine-tuning of SmolLM2-135M on 200 short samples: ours and its peers', in one run.

    ADVISOR_DATA=FOLDER python benchmarks/local_training.py [--data wikisql_short] [--examples 200] [--dev 40]
        [--methods trl,ours] [--steps 0] [--seeds 1] [--threads 2] [--venvs FOLDER] [--install]

All learn the same samples with the same adapter (rank 16, alpha 32, all linear layers), batches of 8, AdamW, the same
learning rate, cosine with 5 % warm-up, clipping at 1, loss on the answers only. Each runs in a process of its own; only
the training is timed. `dev loss` is that of the saved adapter over float32 weights, per answer token, by one function
for all. CPU seconds are steadier than seconds where a machine is shared; both ratios are to TRL's defaults.

trl             SFTTrainer as it comes: bfloat16 autocast, gradient checkpointing
trl_tuned       bfloat16 weights, no checkpointing
trl_packed      the same, packed into rows of 640 tokens, three rows a step
hf, hf_bf16     transformers' Trainer with peft, float32, and with bfloat16 weights
ours, ours_fp32 our loop, bfloat16 (frozen) weights, and float32
ours_upper      our loop, upper third, three epochs over remembered lower layers

`--steps N` stops every method after N steps (0: one whole epoch): enough for its speed, not for its loss.
`--install` makes the environment with trl under `--venvs`, over this one's torch. With a GPU a second table follows,
for a random model of 1.2 billion weights, with the share of the card's matrix throughput as measured here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
MODEL = "local/smollm2-135m"
VENVS = Path("~/.cache/advisor/bench-venvs").expanduser()
RATE, BATCH, WARMUP, RANK = 4e-4, 8, 0.05, 16
METHODS = ("trl", "trl_tuned", "trl_packed", "hf", "hf_bf16", "ours_fp32", "ours", "ours_upper")
PACKED_ROW = 640
"""Tokens of a packed row: with three rows a step about as many tokens as three batches."""

Rows = list[tuple[str, str]]
Timed = dict[str, float]


class Stopwatch:
    """Seconds and CPU seconds of the steps after the first two, which warm up."""

    def __init__(self) -> None:
        self.begun = (time.perf_counter(), time.process_time())

    def restart(self) -> None:
        """Count from now."""
        self.begun = (time.perf_counter(), time.process_time())

    def read(self) -> Timed:
        """What has been counted."""
        return {"s": time.perf_counter() - self.begun[0], "cpu_s": time.process_time() - self.begun[1]}


def rows(data: str, split: str, count: int) -> Rows:
    """Questions with their answers."""
    path = Path(os.environ["ADVISOR_DATA"]) / data / f"{split}.jsonl"
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
    return [(row["input"], _text(row["target"])) for row in found]


def _text(target: Any) -> str:
    return target if isinstance(target, str) else json.dumps(target)


def encoded(prompts: Any, pairs: Rows) -> list[Any]:
    """Samples as token ids, as our tuner makes them."""
    from backends.local.examples import encode
    from backends.types import Message

    chats = [(Message("user", question), Message("assistant", answer)) for question, answer in pairs]
    return encode(prompts, chats, "data", None)


# --- one method, in its own process ---------------------------------------------------------------------------------


def ours(options: argparse.Namespace, folder: Path, *, dtype: str, layers: str = "all", epochs: int = 1) -> Timed:
    """Our loop."""
    from backends.local.fitting import train
    from backends.local.heap import keep_freed_memory
    from backends.local.recipe import Recipe
    from backends.local.training import Training

    keep_freed_memory()
    model, prompts = _loaded(options, dtype)
    examples = encoded(prompts, options.pairs)
    recipe = Recipe(
        rank=RANK,
        alpha=2 * RANK,
        learning_rate=RATE,
        batch_size=BATCH,
        epochs=epochs,
        warmup=WARMUP,
        dtype=dtype,
        layers=layers,
    )
    training = Training(model, recipe, examples, (), options.seed, folder, "benchmark")
    watch = Stopwatch()
    standing = train(training, None, threading.Event())
    timed = watch.read()
    training.model.save_pretrained(str(folder), save_embedding_layers=False)
    return timed | {
        "examples": epochs * len(examples),
        "tokens": epochs * sum(len(example.ids) for example in examples),
        "first_loss": standing.losses[0][1],
    }


def hf(options: argparse.Namespace, folder: Path, *, dtype: str) -> Timed:
    """Transformers' Trainer over a peft model."""
    import torch
    from peft import get_peft_model
    from transformers import Trainer, TrainingArguments

    model, prompts = _loaded(options, dtype)
    examples = encoded(prompts, options.pairs)
    model.train()
    tuned = get_peft_model(model, _lora())

    def collate(batch: list[Any]) -> dict[str, torch.Tensor]:
        longest = max(len(example["ids"]) for example in batch)
        shape = (len(batch), longest)
        ids, mask, labels = torch.zeros(shape).long(), torch.zeros(shape).long(), torch.full(shape, -100)
        for i, example in enumerate(batch):
            size = len(example["ids"])
            ids[i, :size], mask[i, :size] = torch.tensor(example["ids"]), 1
            labels[i, size - example["answer"] : size] = ids[i, size - example["answer"] : size]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    arguments = TrainingArguments(**_arguments(options, folder), bf16=False, remove_unused_columns=False)
    data: Any = [{"ids": list(example.ids), "answer": example.answer} for example in examples]
    trainer = Trainer(model=tuned, args=arguments, train_dataset=data, data_collator=collate)
    return _trained(trainer, tuned, folder, sum(len(example.ids) for example in examples), len(examples))


def trl(options: argparse.Namespace, folder: Path, *, dtype: str, **settings: Any) -> Timed:
    """TRL's SFTTrainer on prompts and completions."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, prompts = _loaded(options, dtype)
    turn: Callable[[str, str], list[dict[str, str]]] = lambda role, text: [{"role": role, "content": text}]  # noqa: E731
    data = Dataset.from_list(
        [{"prompt": turn("user", q), "completion": turn("assistant", a)} for q, a in options.pairs]
    )
    arguments = SFTConfig(**(_arguments(options, folder) | settings))
    trainer = SFTTrainer(
        model=model.train(), args=arguments, train_dataset=data, processing_class=prompts.tokenizer, peft_config=_lora()
    )
    tokens = sum(len(example.ids) for example in encoded(prompts, options.pairs))
    return _trained(trainer, trainer.model, folder, tokens, len(options.pairs))


def _trained(trainer: Any, model: Any, folder: Path, tokens: int, examples: int) -> Timed:
    watch = Stopwatch()
    result = trainer.train()
    timed = watch.read()
    model.save_pretrained(str(folder))
    share = trainer.state.epoch
    first = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    del result
    return timed | {"examples": examples * share, "tokens": tokens * share, "first_loss": first}


def _arguments(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    steps = -(-len(options.pairs) // BATCH)
    return {
        "output_dir": str(folder / "trainer"),
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, round(WARMUP * steps)),
        "num_train_epochs": 1,
        "max_steps": options.steps or -1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "seed": options.seed,
        "disable_tqdm": True,
        "max_grad_norm": 1.0,
        "use_cpu": options.device == "cpu",
    }


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")


def _loaded(options: argparse.Namespace, dtype: str) -> tuple[Any, Any]:
    import torch

    from backends.local.catalog import locate
    from backends.local.loading import load

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    return load(options.base, locate(options.base), dtype, options.device)


HOW: dict[str, Callable[[argparse.Namespace, Path], Timed]] = {
    "trl": lambda options, folder: trl(options, folder, dtype="float32"),
    "trl_tuned": lambda options, folder: trl(
        options, folder, dtype="bfloat16", bf16=False, gradient_checkpointing=False
    ),
    "trl_packed": lambda options, folder: trl(
        options,
        folder,
        dtype="bfloat16",
        bf16=False,
        gradient_checkpointing=False,
        packing=True,
        max_length=PACKED_ROW,
        per_device_train_batch_size=3,
        max_steps=-(-options.steps // 3) or -1,
    ),
    "hf": lambda options, folder: hf(options, folder, dtype="float32"),
    "hf_bf16": lambda options, folder: hf(options, folder, dtype="bfloat16"),
    "ours": lambda options, folder: ours(options, folder, dtype="bfloat16"),
    "ours_fp32": lambda options, folder: ours(options, folder, dtype="float32"),
    "ours_upper": lambda options, folder: ours(options, folder, dtype="bfloat16", layers="upper_third", epochs=3),
}


def one(options: argparse.Namespace) -> None:
    """Run one method and print its figures as one line of JSON."""
    if options.steps:
        options.pairs = options.pairs[: options.steps * BATCH]
    with tempfile.TemporaryDirectory() as temporary:
        figures = HOW[options.one](options, Path(temporary))
        figures["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        figures["dev_loss"] = _dev_loss(options, temporary)
    print("FIGURES " + json.dumps(figures))


def _dev_loss(options: argparse.Namespace, adapter: str) -> float:
    from peft import PeftModel

    from backends.local.loss import mean_loss, summed_loss

    model, prompts = _loaded(options, "float32" if options.device == "cpu" else "bfloat16")
    tuned = PeftModel.from_pretrained(model, adapter).eval()
    return mean_loss(lambda part: summed_loss(tuned, part), encoded(prompts, options.held_out))


# --- all of them ----------------------------------------------------------------------------------------------------


def install(folder: Path) -> None:
    """An environment with trl beside this one's packages, which are reused."""
    python = folder / "bin" / "python"
    if python.exists():
        return
    import torch

    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "reuse.pth").write_text(str(Path(torch.__file__).parent.parent), encoding="utf-8")
    pins = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run([str(python), "-m", "pip", "install", "-q", *pins, "trl==1.16.0"], check=True)


def measured(method: str, seed: int, options: argparse.Namespace) -> dict[str, float] | str:
    """Figures of one method in a process of its own, or why there are none."""
    python = options.venvs / "trl" / "bin" / "python" if method.startswith("trl") else Path(sys.executable)
    if not python.exists():
        return "not installed (give --install)"
    command = [str(python), __file__, "--one", method, "--seed", str(seed), *_passed_on(options)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    line = next((line for line in done.stdout.splitlines() if line.startswith("FIGURES ")), None)
    return json.loads(line.removeprefix("FIGURES ")) if line else f"failed: {done.stderr.strip()[-300:]}"


def _passed_on(options: argparse.Namespace) -> list[str]:
    names = ("data", "examples", "dev", "steps", "threads", "base", "device")
    return [part for name in names for part in (f"--{name}", str(getattr(options, name)))]


def table(options: argparse.Namespace, methods: list[str]) -> None:
    """Run the methods one after another and print a line for each."""
    print(f"{'':12}{'seed':>5}{'examples':>9}{'ex/s':>7}{'tok/s':>7}{'x trl':>7}{'CPU s/ex':>9}{'x trl':>7}", end="")
    print(f"{'first':>8}{'dev loss':>9}{'MB':>7}  load")
    trl: dict[str, float] | None = None
    for method in methods:
        for seed in range(options.seeds):
            found = measured(method, seed, options)
            if isinstance(found, str):
                print(f"{method:12} {found}", flush=True)
                break
            trl = found if method == "trl" else trl
            print(_line(method, seed, found, trl), flush=True)


def _line(method: str, seed: int, found: dict[str, float], trl: dict[str, float] | None) -> str:
    rate, cpu = found["examples"] / found["s"], found["cpu_s"] / found["examples"]
    ratios = [float("nan")] * 2
    if trl is not None:
        ratios = [rate * trl["s"] / trl["examples"], trl["cpu_s"] / trl["examples"] / cpu]
    return (
        f"{method:12}{seed:5}{found['examples']:9.0f}{rate:7.2f}{found['tokens'] / found['s']:7.0f}{ratios[0]:7.2f}"
        f"{cpu:9.3f}{ratios[1]:7.2f}{found['first_loss']:8.3f}{found['dev_loss']:9.4f}{found['rss_mb']:7.0f}"
        f"  {os.getloadavg()[0]:.1f}"
    )


def on_a_gpu(options: argparse.Namespace) -> None:
    """The same on a GPU, with a random model of 1.2 billion weights and longer made-up samples."""
    import torch

    if not torch.cuda.is_available():
        print("\nnot measured on a GPU: this machine has none")
        return
    size = 8192
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    left @ right
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(20):
        left @ right
    torch.cuda.synchronize()
    peak = 20 * 2 * size**3 / (time.perf_counter() - begun)
    print(f"\n{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s in bfloat16 products of {size} x {size}")
    del left, right
    with tempfile.TemporaryDirectory() as temporary:
        weights = _random_model(Path(temporary))
        options.base, options.device = f"local/{temporary}", "cuda"
        for method in ("hf_bf16", "ours", "ours_upper"):
            found = measured(method, 0, options)
            if isinstance(found, str):
                print(f"{method:12} {found}")
                continue
            speed = found["tokens"] / found["s"]
            # Forward 2 and gradients of activations 2 operations a weight and token; frozen weights have none.
            share = "" if method == "ours_upper" else f", {4 * weights * speed / peak:.2f} of the card's throughput"
            print(f"{method:12} {speed:.0f} tokens/s{share}")


def _random_model(folder: Path) -> int:
    """A Llama of the 1B class with random weights and SmolLM2's tokenizer; returns its number of weights."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from backends.local.catalog import locate
    from backends.local.loading import load

    prompts = load(MODEL, locate(MODEL), "bfloat16", "cpu")[1]
    prompts.tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        eos_token_id=prompts.tokenizer.eos_token_id,
    )
    factory: Any = AutoModelForCausalLM
    model = factory.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return int(sum(parameter.numel() for parameter in model.parameters()))


def main() -> None:
    """Run the benchmark and print its tables."""
    options = _options()
    if "ADVISOR_DATA" not in os.environ:
        raise SystemExit("Set ADVISOR_DATA to the folder of data sets.")
    options.pairs = rows(options.data, "train", options.examples)
    options.held_out = rows(options.data, "dev", options.dev)
    random.seed(options.seed)
    if options.one:
        one(options)
        return
    if options.install:
        install(options.venvs / "trl")
    print(f"{options.data}: {len(options.pairs)} samples, {options.threads} threads, {options.steps or 'all'} steps")
    table(options, options.methods.split(","))
    on_a_gpu(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="wikisql_short")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--dev", type=int, default=40)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--venvs", type=Path, default=VENVS)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--base", default=MODEL, help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
