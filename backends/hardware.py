"""What machine this is and what an hour of it costs when the user does not say; imports nothing heavy."""

from __future__ import annotations

import functools
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

CPU_USD_PER_CORE_HOUR = 0.04
"""An assumption, not a quote: about what the large clouds ask for one vCPU hour with its memory, on demand."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine as this process may use it."""

    cpu: str
    cores: int
    """Cores this process may run on, affinity and container limits respected."""
    memory_gb: float | None
    """Memory this process may use, container limits respected; None when the system does not tell."""
    gpu: str | None = None
    """Name of the first NVIDIA GPU, None without one."""
    gpu_memory_gb: float | None = None

    def __str__(self) -> str:
        memory = "unknown memory" if self.memory_gb is None else f"{self.memory_gb:.0f} GB"
        return f"{self.cpu}, {self.cores} cores, {memory}" + (f", {self.gpu}" if self.gpu else "")


@dataclass(frozen=True, slots=True)
class HourlyPrice:
    """Dollars for one hour of a machine and where the figure comes from."""

    usd: float | None
    """None when nobody told and the table has no row for it."""
    basis: str
    read: date | None = None
    """Day on which the source was read, None where it is an assumption or carries no date."""


@functools.cache
def detect() -> Hardware:
    """Describe this machine; looked up once per process."""
    gpu, gpu_memory = _gpu()
    return Hardware(cpu=_cpu_name(), cores=_cores(), memory_gb=_memory_gb(), gpu=gpu, gpu_memory_gb=gpu_memory)


@functools.cache
def gpu_count() -> int:
    """How many NVIDIA GPUs this process may use, as far as can be told without torch; looked up once per process."""
    if detect().gpu is None:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip()])
    return max(1, len(_listed_gpus()))


def default_price(hardware: Hardware, *, on_gpu: bool) -> HourlyPrice:
    """What an hour costs unless the user gives `usd_per_hour`."""
    if not on_gpu:
        usd = round(CPU_USD_PER_CORE_HOUR * hardware.cores, 6)
        return HourlyPrice(usd, f"assumption: {CPU_USD_PER_CORE_HOUR} USD per vCPU hour x {hardware.cores} cores")
    key = _price_key(hardware)
    rows = _gpu_rows().get(key, []) if key else []
    if not rows:
        return HourlyPrice(None, f"no price known for {hardware.gpu!r}; set usd_per_hour")
    middle = statistics.median_low(row["usd"] for row in rows)
    row = next(row for row in rows if row["usd"] == middle)
    read = f", read {row['read']}" if row["read"] else ""
    basis = f"median of {len(rows)} on-demand offers for {key}: {row['vendor']}{read}"
    return HourlyPrice(middle, basis, row["read"])


def _gpu_rows() -> dict[str, list[dict[str, Any]]]:
    text = resources.files("backends").joinpath("gpu_prices.yaml").read_text(encoding="utf-8")
    rows: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)["gpu_usd_per_hour"]
    return rows


def _price_key(hardware: Hardware) -> str | None:
    """The table's name of this GPU: `NVIDIA A100-SXM4-80GB` is `A100_80GB`; a size that is not sold has no price."""
    model = re.search(r"\b(H100|A100|L4|T4)\b", hardware.gpu or "")
    if model is None or hardware.gpu_memory_gb is None:
        return None
    sizes = {"H100": (80,), "A100": (40, 80), "L4": (24,), "T4": (16,)}[model[1]]
    # The driver reports a little less than the advertised size (a T4 of 16 GB shows 15).
    near = [size for size in sizes if 0.85 * size <= hardware.gpu_memory_gb <= 1.1 * size]
    return f"{model[1]}_{near[0]}GB" if near else None


def has_bfloat16() -> bool:
    """True when the CPU multiplies bfloat16 in hardware, so that it is faster than float32."""
    flags = re.search(r"^flags\s*:(.+)$", _cpu_info(), re.MULTILINE)
    return flags is not None and not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags[1].split())


def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpu_name() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _cpu_info(), re.MULTILINE)
    if match:
        return match[1].strip()
    return platform.processor() or platform.machine() or "unknown CPU"


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read_words("/sys/fs/cgroup/cpu.max")
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, math.ceil(int(quota[0]) / int(quota[1]))))
    return cores


def _memory_gb() -> float | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PAGE_SIZE" not in names or "SC_PHYS_PAGES" not in names:
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read_words("/sys/fs/cgroup/memory.max")
    if limit and limit[0].isdigit():
        memory = min(memory, int(limit[0]))
    return round(memory / 1e9, 1)


def _read_words(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").split()
    except OSError:
        return []


def _gpu() -> tuple[str | None, float | None]:
    try:
        name, memory = _listed_gpus()[0].rsplit(",", 1)
        return name.strip(), round(float(memory) / 1024, 1)
    except (ValueError, IndexError):
        return None, None


def _listed_gpus() -> tuple[str, ...]:
    """What the driver says of each GPU: name and MiB; nothing without a driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()
    return tuple(output.strip().splitlines())
