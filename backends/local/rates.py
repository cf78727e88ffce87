"""What local tokens cost: how many a second this machine computes, times the price of its hour.

Measured once per machine, model and precision and remembered, so that two runs on one machine give the same dollars.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from backends import hardware
from backends.local.catalog import Place
from backends.local.files import cache_folder, hash_of, make_folder, read_json, write_text
from backends.local.identity import content_hash
from backends.types import Usage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH = 8
"""Rows that decode together when the decode rate is measured: a modest load, neither idle nor full."""

_METHOD = 2
"""Raised when models run faster or slower than before by our own doing: rates are then measured anew."""

_PROMPT = 512
_STEPS = 8
_TRIES = 3
_OWN = 0.9
"""Share of the time in which a thread that computes has a processor, below which other work shares it: on two cores
that do nothing else 0.99, beside a process of low priority 0.94, beside an equal one, which halves the rates, 0.67."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second."""

    prefill: float
    """Prompt tokens, one prompt at a time."""
    decode: float | None
    """Answer tokens, `BATCH` rows together; None for models that do not answer."""
    batch: int = BATCH
    is_shared: bool = False
    """Whether other work had part of the processors meanwhile, so that this machine computes more than was measured."""

    def seconds(self, usage: Usage) -> float:
        """Machine time of the usage.

        Every prompt token counts in full, although a batch computes a shared prefix only once: how much is shared
        depends on the evaluation, and production traffic need not share it.
        """
        decoding = usage.output_tokens / self.decode if self.decode else 0.0
        return usage.input_tokens / self.prefill + decoding

    def cost(self, usage: Usage, usd_per_hour: float | None) -> float | None:
        """Dollars for the usage on a machine of this price, None when the price is not known."""
        return None if usd_per_hour is None else self.seconds(usage) * usd_per_hour / 3600


def rates_key(place: Place, dtype: str, device: str, processes: int = 1) -> str:
    """Names machine, model and precision. A merged adapter computes what its base does, so it shares its rates."""
    machine = hardware.detect()
    where: list[Any] = [machine.cpu, machine.cores] if device == "cpu" else [machine.gpu]
    where += [processes] if processes > 1 else []
    return hash_of([where, content_hash(Place(place.path)), dtype, _METHOD])[:32]


def remembered(key: str) -> Rates | None:
    """The rates measured earlier, None when there are none."""
    known = read_json(cache_folder() / "rates" / f"{key}.json")
    try:
        return Rates(**known["rates"])
    except (TypeError, KeyError):
        return None


def remember(key: str, name: str, rates: Rates) -> Rates:
    """Keep measured rates; returns those that count, which are another process's if it was first."""
    folder = make_folder(cache_folder() / "rates")
    record = {"model": name, "machine": str(hardware.detect()), "rates": asdict(rates)}
    write_text(folder / f"{key}.json", json.dumps(record, indent=1), replace=False)
    return remembered(key) or rates


def training_rate(key: str, name: str, tokens: int, seconds: float) -> float:
    """Trained tokens a second: of the first job on this machine with this model and precision, for all later ones too.

    Dollars of training rest on tokens and this rate, so that a job priced twice costs the same twice.
    """
    folder = make_folder(cache_folder() / "rates")
    path = folder / f"{key}-train.json"
    record = {"model": name, "machine": str(hardware.detect()), "tokens_per_second": tokens / seconds}
    write_text(path, json.dumps(record, indent=1), replace=False)
    known = read_json(path)
    return float(known["tokens_per_second"]) if isinstance(known, dict) else tokens / seconds


def remembered_training_rate(key: str) -> float | None:
    """Trained tokens a second, None before the first training of this model on this machine."""
    known = read_json(cache_folder() / "rates" / f"{key}-train.json")
    return float(known["tokens_per_second"]) if isinstance(known, dict) else None


def measure(model: PreTrainedModel) -> Rates:
    """Time the model on made-up tokens; takes a few seconds, and a few more where other work gets in between."""
    return unshared(lambda: _timed(model), is_on_cpu=model.device.type == "cpu")


def unshared(timed: Callable[[], Rates], *, is_on_cpu: bool) -> Rates:
    """The first rates that were timed undisturbed, else the best of some tries, which say that they were not."""
    found = []
    for _ in range(_TRIES):
        begun, own = time.perf_counter(), time.thread_time()
        rates = timed()
        share = (time.thread_time() - own) / (time.perf_counter() - begun)
        if share >= _OWN or not is_on_cpu:
            return rates
        found.append(rates)
    return replace(max(found, key=lambda rates: rates.prefill), is_shared=True)


def _timed(model: PreTrainedModel) -> Rates:
    import torch
    from transformers import DynamicCache

    from backends.local.padded import forward

    anything: Any = model
    window = getattr(anything.config.get_text_config(), "max_position_embeddings", None) or _PROMPT
    length = max(1, min(_PROMPT, window - _STEPS))
    ids = (torch.arange(length) * 37 + 11) % anything.get_input_embeddings().weight.shape[0]

    def seconds(rows: int, tokens: int, cache: Any) -> float:
        batch = ids[:tokens].expand(rows, -1).to(model.device)
        start = cache.get_seq_length()
        positions = torch.arange(start, start + tokens, device=model.device).expand(rows, -1)
        mask = torch.ones(rows, start + tokens, dtype=torch.long, device=model.device)
        begun = time.perf_counter()
        # Reading one number back waits for the device.
        float(forward(model, batch, mask, positions, cache)[0, 0])
        return time.perf_counter() - begun

    with torch.inference_mode():
        seconds(1, min(64, length), DynamicCache(config=model.config))
        prefill = min(seconds(1, length, DynamicCache(config=model.config)) for _ in range(2))
        cache = DynamicCache(config=model.config)
        seconds(BATCH, min(64, length), cache)
        decode = sum(seconds(BATCH, 1, cache) for _ in range(_STEPS)) / _STEPS
    return Rates(prefill=length / prefill, decode=BATCH / decode)
