"""What enters the first layer that learns, computed once for each example: the layers below never change.

The lower layers are kept in the model and only stepped over: the last of them gives what is remembered, the others
what they are given. So embeddings, positions, masks and the choice of kinds of layers stay transformers' own, and
whatever a model does beside its layers' plain chain shows in the self-check, after which nothing is stepped over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from backends.local.adapters import layer_list
from backends.local.examples import Example, by_tokens
from backends.local.group import ALONE, Group
from backends.local.loss import PART_TOKENS, padded
from backends.local.memory import is_out_of_memory

FILE = ".frozen.bin"
_TOLERANCE = 1e-3
_CHECKED = 3
"""Examples in the self-check: rows of different lengths."""


class Frozen:
    """Hidden states of examples below the first layer that learns; `forget` removes what lies on the disk."""

    def __init__(self, layers: Sequence[nn.Module], states: torch.Tensor, starts: dict[tuple[int, ...], int]) -> None:
        self._lower = layers
        self._states = states
        self._starts = starts

    @classmethod
    def of(
        cls,
        model: Any,
        first: int,
        examples: Sequence[Example],
        *,
        folder: Path,
        memory: int | None = None,
        group: Group = ALONE,
    ) -> Self | None:
        """Compute them all, or this process's share of them.

        Args:
            model: With its adapter.
            first: Index of the lowest layer that learns, at least 1.
            examples: Everything that will be asked.
            folder: Where a file is made when they take more than `memory`.
            memory: Bytes that they may take in memory; None for no limit.
            group: Several processes share one file, since each epoch gives an example to another of them.

        Returns:
            None when this model's lower layers cannot be stepped over.

        Raises:
            OSError: The disk is full.
        """
        layers = list(layer_list(model))
        few = sorted(examples, key=lambda example: len(example.ids))[:: max(1, len(examples) // _CHECKED)][:_CHECKED]
        if not group.least(_can_step_over(model, layers, first, few)):
            return None
        distinct = list({example.ids: example for example in examples}.values())
        starts, size = {}, 0
        for example in distinct:
            starts[example.ids] = size
            size += len(example.ids)
        width = model.config.get_text_config().hidden_size
        states = _room((size, width), model.dtype, folder / FILE, memory, group)
        for part in group.share(by_tokens(distinct, PART_TOKENS)):
            entering = _entering(model, layers[first], part)
            for row, example in enumerate(part):
                length = len(example.ids)
                states[starts[example.ids] :][:length] = entering[row, :length].to(states.device)
        group.wait()
        return cls(layers[:first], states, starts)

    @contextmanager
    def feed(self, examples: Sequence[Example]) -> Iterator[None]:
        """Inside, the model must be asked exactly these examples, padded on the right."""
        rows = [self._states[self._starts[example.ids] :][: len(example.ids)] for example in examples]
        with _stepping_over(self._lower, nn.utils.rnn.pad_sequence(rows, batch_first=True)):
            yield


def forget(folder: Path) -> None:
    """Remove the file of hidden states, if there is one."""
    (folder / FILE).unlink(missing_ok=True)


class _Reached(Exception):
    """Ends a forward pass at the first layer that learns."""


def _room(shape: tuple[int, int], dtype: torch.dtype, path: Path, memory: int | None, group: Group) -> torch.Tensor:
    """An empty tensor, in memory or in a file that is mapped into that of all processes."""
    size = shape[0] * shape[1]
    if group.size == 1 and (memory is None or size * dtype.itemsize <= memory):
        return torch.empty(shape, dtype=dtype)
    if group.leads:
        with path.open("wb") as file:
            # A mapped file that the disk cannot hold would kill the process when it is written to.
            os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
    group.wait()
    states = torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(shape)
    group.wait()
    if group.size > 1 and group.leads:
        # All have it: the system keeps its content as long as one of them lives, however they end.
        path.unlink()
    return states


@torch.no_grad()
def _entering(model: Any, layer: nn.Module, examples: Sequence[Example]) -> torch.Tensor:
    """What enters a layer, of shape (examples, longest, width); the layers above are not computed."""
    found: list[torch.Tensor] = []

    def reach(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])
        raise _Reached

    handle = layer.register_forward_pre_hook(reach, with_kwargs=True)
    try:
        model(input_ids=padded(examples).to(model.device), use_cache=False, logits_to_keep=1)
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0]


@contextmanager
def _stepping_over(lower: Sequence[nn.Module], entering: torch.Tensor) -> Iterator[None]:
    """Replace the forward passes of the lower layers."""
    with ExitStack() as stack:
        for layer in lower[:-1]:
            stack.enter_context(_replaced(layer, lambda states, *args, **kwargs: states))
        stack.enter_context(_replaced(lower[-1], lambda states, *args, **kwargs: entering.to(states.device)))
        yield


@contextmanager
def _replaced(layer: nn.Module, forward: Callable[..., torch.Tensor]) -> Iterator[None]:
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


def _can_step_over(model: Any, layers: Sequence[nn.Module], first: int, examples: Sequence[Example]) -> bool:
    """Whether the model says the same with and without its lower layers, on a batch of different lengths."""
    ids = padded(examples).to(model.device)
    try:
        entering = _entering(model, layers[first], examples)
        with torch.no_grad():
            whole = model(input_ids=ids, use_cache=False, logits_to_keep=_CHECKED).logits
            with _stepping_over(layers[:first], entering):
                upper = model(input_ids=ids, use_cache=False, logits_to_keep=_CHECKED).logits
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        return False
    return torch.allclose(whole, upper, rtol=_TOLERANCE, atol=_TOLERANCE)
