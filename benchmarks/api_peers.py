"""One peer of benchmarks/api_overhead.py, in the peer's own environment: the standard library and the peer, no more.

    PYTHON api_peers.py PEER URL CALLS CONCURRENCY LATENCY [FOLDER]

prints {"cpu_ms_per_call": ..., "seconds": ...}. Each peer asks the stub at URL the same prompts as we do, as its
documentation says to, and every answer is checked. Caches are off; what it writes down by default it writes down. CPU
is user and system time of all its threads. What a run of five calls takes is start-up and subtracted.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROMPT = "Sort the message into one of the labels. " * 20
MODEL, KEY = "gpt-4o-mini", "none"
WARM = 5

Messages = list[dict[str, str]]
Asked = list[str]
"""The answers."""
Used = tuple[float, float]
"""CPU seconds and seconds."""


def messages(number: int) -> Messages:
    """The prompt of one call."""
    return [{"role": "system", "content": PROMPT}, {"role": "user", "content": f"message {number}"}]


def litellm(url: str, calls: int, concurrency: int) -> Asked:
    """`acompletion` under a semaphore."""
    import litellm

    async def everything() -> Asked:
        places = asyncio.Semaphore(concurrency)

        async def one(number: int) -> str:
            async with places:
                found = await litellm.acompletion(
                    model=f"openai/{MODEL}",
                    api_base=url,
                    api_key=KEY,
                    messages=messages(number),
                    max_tokens=20,
                    temperature=0.0,
                    num_retries=0,
                )
                return str(found.choices[0].message.content)

        return await asyncio.gather(*(one(number) for number in range(calls)))

    return asyncio.run(everything())


def dspy(url: str, calls: int, concurrency: int) -> Asked:
    """`Evaluate` with a module that asks the model."""
    import dspy

    model = dspy.LM(
        f"openai/{MODEL}", api_base=url, api_key=KEY, cache=False, temperature=0.0, max_tokens=20, num_retries=0
    )

    class Ask(dspy.Module):  # type: ignore[misc, name-defined]
        def forward(self, number: int) -> Any:
            return dspy.Prediction(label=model(messages=messages(number))[0])

    data = [dspy.Example(number=number, label="label").with_inputs("number") for number in range(calls)]
    evaluate = dspy.Evaluate(
        devset=data, metric=lambda example, found, trace=None: found.label == example.label, num_threads=concurrency
    )
    return [str(found.label) for _, found, _ in evaluate(Ask()).results]


def inspect(url: str, calls: int, concurrency: int) -> Asked:
    """`eval` of a task with its log."""
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import exact
    from inspect_ai.solver import generate, system_message

    data = MemoryDataset([Sample(input=f"message {number}", target="label") for number in range(calls)])
    with tempfile.TemporaryDirectory() as folder:
        (log,) = evaluate(
            Task(dataset=data, solver=[system_message(PROMPT), generate()], scorer=exact()),
            model=f"openai-api/stub/{MODEL}",
            model_base_url=url,
            model_args={"api_key": KEY},
            max_connections=concurrency,
            max_samples=concurrency,
            max_retries=0,
            max_tokens=20,
            temperature=0.0,
            display="none",
            log_dir=folder,
        )
        return [str(sample.output.completion) for sample in log.samples or ()]


def lm_eval(url: str, calls: int, concurrency: int) -> Asked:
    """`simple_evaluate` of a task."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lm_eval import simple_evaluate
    from lm_eval.api.task import ConfigurableTask

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "test.jsonl"
        data.write_text("".join(json.dumps({"n": number}) + "\n" for number in range(calls)), encoding="utf-8")
        task = ConfigurableTask(
            config={
                "task": "stub",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": folder},
                "test_split": "test",
                "output_type": "generate_until",
                "description": PROMPT,
                "doc_to_text": "message {{n}}",
                "doc_to_target": "label",
                "generation_kwargs": {"until": ["<end>"], "max_gen_toks": 20, "temperature": 0.0},
                "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            }
        )
        client = _lm_eval_client(url, concurrency)
        found = simple_evaluate(model=client, tasks=[task], apply_chat_template=True, bootstrap_iters=0)
    return [str(sample["filtered_resps"][0]) for sample in found["samples"]["stub"]]


def lm_eval_client(url: str, calls: int, concurrency: int) -> Asked:
    """`generate_until` of its chat client, without tasks, metrics and results."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.api_models import JsonChatStr

    settings = {"until": ["<end>"], "max_gen_toks": 20, "temperature": 0.0}
    asked = [
        Instance("generate_until", {}, (JsonChatStr(json.dumps(messages(number))), dict(settings)), number)
        for number in range(calls)
    ]
    return [str(found) for found in _lm_eval_client(url, concurrency).generate_until(asked, disable_tqdm=True)]


def _lm_eval_client(url: str, concurrency: int) -> Any:
    from lm_eval.models.openai_completions import LocalChatCompletion

    os.environ["OPENAI_API_KEY"] = KEY
    return LocalChatCompletion(
        base_url=f"{url}/chat/completions",
        model=MODEL,
        tokenizer_backend=None,
        tokenized_requests=False,
        num_concurrent=concurrency,
        max_retries=1,
        eos_string="<end>",
    )


PEERS: dict[str, Callable[[str, int, int], Asked]] = {
    "litellm": litellm,
    "dspy": dspy,
    "inspect": inspect,
    "lm_eval": lm_eval,
    "lm_eval_client": lm_eval_client,
}


def run(name: str, url: str, calls: int, concurrency: int) -> Used:
    """What so many calls of a peer that is a library take."""
    before, begun = _used(resource.RUSAGE_SELF), time.perf_counter()
    answers = PEERS[name](url, calls, concurrency)
    seconds, used = time.perf_counter() - begun, _used(resource.RUSAGE_SELF) - before
    _check(answers.count("label"), calls)
    return used, seconds


def promptfoo(url: str, calls: int, concurrency: int, folder: Path) -> Used:
    """Promptfoo's command line."""
    provider = {"apiBaseUrl": url, "apiKey": KEY, "max_tokens": 20, "temperature": 0}
    config = {
        "prompts": [json.dumps([{"role": "system", "content": PROMPT}, {"role": "user", "content": "message {{n}}"}])],
        "providers": [{"id": f"openai:chat:{MODEL}", "config": provider}],
        "tests": [{"vars": {"n": number}, "assert": [{"type": "equals", "value": "label"}]} for number in range(calls)],
    }
    modules = folder / "node_modules"
    entry = json.loads((modules / "promptfoo" / "package.json").read_text(encoding="utf-8"))["bin"]["promptfoo"]
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        options = ["--no-cache", "--no-table", "--no-progress-bar", "-j", str(concurrency), "-o", "out.json"]
        quiet = ("TELEMETRY", "UPDATE", "REMOTE_GENERATION", "SHARING")
        environment = os.environ | {f"PROMPTFOO_DISABLE_{what}": "1" for what in quiet}
        before, begun = _used(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [str(modules / ".bin" / "node"), str(modules / "promptfoo" / entry), "eval", "-c", "config.json", *options],
            cwd=temporary,
            env=environment | {"PROMPTFOO_CONFIG_DIR": temporary},
            check=False,
            stdout=subprocess.DEVNULL,
        )
        seconds, used = time.perf_counter() - begun, _used(resource.RUSAGE_CHILDREN) - before
        results = json.loads((Path(temporary) / "out.json").read_text(encoding="utf-8"))["results"]
    _check(results["stats"]["successes"], calls)
    return used, seconds


def _check(right: int, calls: int) -> None:
    if right != calls:
        raise SystemExit(f"{right} of {calls} answers are right")


def _used(who: int) -> float:
    found = resource.getrusage(who)
    return found.ru_utime + found.ru_stime


def main() -> None:
    """Measure the peer named on the command line."""
    name, url, calls, concurrency, latency, *folder = sys.argv[1:]

    def take(count: int) -> Used:
        if name == "promptfoo":
            return promptfoo(url, count, int(concurrency), Path(folder[0]))
        return run(name, url, count, int(concurrency))

    take(WARM)
    short, long = take(WARM), take(int(calls))
    cpu = (long[0] - short[0]) / (int(calls) - WARM)
    # The short run waits for one answer, beside starting up.
    seconds = long[1] - short[1] + float(latency)
    sys.stdout.write("\nFIGURES " + json.dumps({"cpu_ms_per_call": 1000 * cpu, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
