"""Keeps what transformers and peft say in passing off the terminal: only the command line prints."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


@contextmanager
def quiet() -> Iterator[None]:
    """Switch the progress bars of loading and saving off for a while."""
    import transformers
    from transformers import modeling_gguf_pytorch_utils

    logging: Any = transformers.utils.logging
    gguf: Any = modeling_gguf_pytorch_utils
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    # The GGUF reader has a bar of its own, which heeds no setting.
    silent = functools.partial(gguf.tqdm, disable=True)
    try:
        with mock.patch.object(gguf, "tqdm", silent):
            yield
    finally:
        if was_on:
            logging.enable_progress_bar()


@contextmanager
def peft_quiet() -> Iterator[None]:
    """Hide what peft 0.21 makes transformers warn of; nothing that a user or we could change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        # peft sees by itself that GPT-2's layers store their weights transposed, and says so.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False but the target module is `Conv1D`")
        # On saving it looks for the base model's configuration to compare vocabularies; LoRA leaves them as they are.
        warnings.filterwarnings("ignore", message="Could not find a config file in")
        yield
