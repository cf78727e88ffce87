"""Fine-tuning on this machine: an adapter or all weights, resumable, the same bits for the same job on one CPU."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backends.errors import BackendUnavailable, InputError, Problem
from backends.local.catalog import PREFIX, Place, locate, require
from backends.local.device import device, hourly_price
from backends.local.files import hash_of, write_text
from backends.local.heap import give_back
from backends.local.identity import content_hash
from backends.local.launch import fit_in_processes, in_processes
from backends.local.rates import rates_key, training_rate
from backends.local.recipe import Recipe
from backends.local.start import check as check_start
from backends.local.start import weights_hash
from backends.local.tuned import FILE, read_tuned
from backends.types import ChatRequest, Message, Parity, TunedModel, TuneJob, TuneObserver


@dataclass(frozen=True, slots=True)
class Work:
    """A job with all that names it and what it starts from."""

    job: TuneJob
    recipe: Recipe
    place: Place
    base_content: str
    """Hash of the base model's weights, tokenizer and template."""
    key: str
    """Hash of base content, data, recipe, seed and of the weights that it starts from."""

    @property
    def name(self) -> str:
        """Name of the tuned model."""
        kind = "full" if self.recipe.is_full else "lora"
        return f"{self.job.base}+{kind}-{self.key[:8]}"


class LocalTuner:
    """Implements Tuner. The result folder holds a plain PEFT adapter (or model) and, written last, `tuned.json`."""

    def __init__(self, *, usd_per_hour: float | None = None) -> None:
        self._device = device()
        self._usd_per_hour = usd_per_hour
        # Two trainings at once would only slow each other down.
        self._one_at_a_time = threading.Lock()

    async def tune(self, job: TuneJob, observe: TuneObserver | None = None) -> TunedModel:
        """Run the job to its end; a cancelled one stops after the step at hand and can be run again."""
        stop = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(None, self._run, job, observe, stop)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([running])
            running.exception()
            raise

    async def parity(self, base: str, model: TunedModel, requests: Sequence[ChatRequest]) -> Parity | None:
        """Compare adapter, merged model and merged model saved and loaded, in a thread; None without an adapter."""
        if model.recipe.get("method") == "full":
            return None
        from backends.local.parity import parity

        return await asyncio.to_thread(parity, base, model, requests)

    def quote(self, job: TuneJob) -> None:
        """Nothing leaves this machine."""

    def left_running(self, job: TuneJob) -> None:
        """A training that is cut off stops."""

    def _run(self, job: TuneJob, observe: TuneObserver | None, stop: threading.Event) -> TunedModel:
        recipe = Recipe.parse(job.recipe)
        _check_answers(job)
        place = locate(job.base)
        require(job.base, place, tuning=True)
        if place.adapter is not None:
            raise InputError(Problem(job.base, "is itself an adapter.", "Tune its base model."))
        content = content_hash(place)
        if job.start is not None:
            check_start(job.base, recipe, content, job.start)
        work = Work(job, recipe, place, content, _key(job, recipe, content))
        with self._one_at_a_time:
            return _finished(work) or self._train(work, observe, stop)

    def _train(self, work: Work, observe: TuneObserver | None, stop: threading.Event) -> TunedModel:
        from backends.local.fitting import fit

        recipe = in_processes(work.recipe, len(work.job.train), self._device)
        work, count = dataclasses.replace(work, recipe=recipe), recipe.processes or 1
        try:
            with told_clearly(work):
                work.job.folder.mkdir(parents=True, exist_ok=True)
                fitted = (fit if count == 1 else fit_in_processes)(work, self._device, observe, stop)
                seconds, tokens = fitted.standing.seconds, fitted.trained_tokens
                key = rates_key(work.place, str(fitted.recipe.dtype), self._device, count)
                rate = training_rate(key, work.job.base, tokens, seconds)
                usd_per_hour = hourly_price(self._device, self._usd_per_hour, gpus=count)
                tuned = TunedModel(
                    name=work.name,
                    folder=work.job.folder,
                    trained_tokens=tokens,
                    seconds=seconds,
                    cost_usd=None if usd_per_hour is None else tokens / rate * usd_per_hour / 3600,
                    losses=tuple(fitted.standing.losses),
                    dev_losses=tuple(fitted.standing.dev_losses),
                    recipe=asdict(fitted.recipe),
                )
                _finish(work, tuned)
        finally:
            give_back()
        return tuned


@contextmanager
def told_clearly(work: Work) -> Iterator[None]:
    """Inside, a full disk and too little memory become errors that say what to do."""
    from safetensors import SafetensorError

    from backends.local.memory import is_out_of_memory

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise BackendUnavailable(
            f"cannot write to {str(work.job.folder)!r}: {error}. The last checkpoint is intact; free space and run it "
            "again."
        ) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise BackendUnavailable(
            f"not enough memory to tune {work.job.base}: {error}. Shorten the samples, lower the rank or take a "
            "smaller model; finished epochs are kept."
        ) from error


def _check_answers(job: TuneJob) -> None:
    if not job.train:
        raise InputError(Problem("train", "is empty; there is nothing to learn from.", "Add examples."))
    answers = {conversation[-1].content for conversation in job.train if conversation}
    if len(answers) == 1 and len(job.train) > 1 and (answer := answers.pop()).strip():
        what = (
            f"all {len(job.train)} answers are {answer[:60]!r}; a model would learn to say that whatever it is asked."
        )
        raise InputError(Problem("train", what, "Add samples with other answers."))


def _key(job: TuneJob, recipe: Recipe, base_content: str) -> str:
    """The same on every machine: automatic choices enter as automatic, and how many processes work does not enter."""

    def plain(conversations: tuple[tuple[Message, ...], ...]) -> list[list[list[str]]]:
        return [[[message.role, message.content] for message in conversation] for conversation in conversations]

    # Only where there is one: trainings that were done before jobs could have a start keep their names.
    start = [] if job.start is None else [weights_hash(job.start)]
    chosen = {name: value for name, value in asdict(recipe).items() if name != "processes"}
    return hash_of([base_content, plain(job.train), plain(job.dev), chosen, job.seed, *start])


def _finished(work: Work) -> TunedModel | None:
    """The model in the job's folder, when it is complete."""
    record = read_tuned(work.job.folder)
    if record is None:
        return None
    if record.get("key") != work.key:
        raise InputError(
            Problem(str(work.job.folder), f"holds another model, {record.get('name')!r}.", "Give another folder.")
        )
    known: dict[str, Any] = {name: record[name] for name in ("trained_tokens", "seconds", "cost_usd", "recipe")}
    for name in ("losses", "dev_losses"):
        known[name] = tuple((step, loss) for step, loss in record[name])
    return TunedModel(name=work.name, folder=work.job.folder, cached=True, **known)


def _finish(work: Work, tuned: TunedModel) -> None:
    """Write `tuned.json`, whose presence means that all else is there, and drop the checkpoint."""
    folder = work.job.folder
    record: dict[str, Any] = {k: v for k, v in asdict(tuned).items() if k not in {"folder", "cached"}}
    record |= {"key": work.key, "base": work.job.base, "base_content": work.base_content, "seed": work.job.seed}
    if work.job.start is not None:
        record["start"] = (read_tuned(work.job.start) or {}).get("name")
    write_text(folder / FILE, json.dumps(record, indent=1))
    from backends.local.checkpoint import FILE as CHECKPOINT

    (folder / CHECKPOINT).unlink(missing_ok=True)


def portable_base(name: str, place: Place) -> str:
    """What the adapter's configuration calls its base: the name, or the folder's full path."""
    rest = name.removeprefix(PREFIX)
    return str(place.path) if rest.startswith((".", "/", "~")) else str(Path(rest))
