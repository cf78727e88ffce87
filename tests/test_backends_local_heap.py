"""Freed memory stays with a process that works and leaves it when a model closes."""

import platform
import subprocess
import sys

import pytest

KEPT = """
import torch
from backends.local.heap import give_back, keep_freed_memory

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 1e6

keep_freed_memory()
model = [torch.ones(2_000_000) for _ in range(50)]
above = torch.ones(2_000_000)
del model
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_what_a_closed_model_took_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 350  # of 400 MB
