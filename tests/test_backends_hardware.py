import subprocess
import sys

import pytest

from backends import hardware
from backends.hardware import Hardware, default_price, detect


def test_this_machine_is_described_without_torch():
    machine = detect()
    assert machine.cores >= 1
    assert machine.cpu
    assert machine.memory_gb is None or machine.memory_gb > 0.1
    code = "import sys; from backends.hardware import detect; detect(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_a_cpu_hour_is_a_stated_assumption_by_core():
    price = default_price(Hardware("any", 8, 16.0), on_gpu=False)
    assert price.usd == pytest.approx(0.32)
    assert price.basis.startswith("assumption")


@pytest.mark.parametrize(
    ("gpu", "memory", "usd", "vendor"),
    [
        ("NVIDIA H100 80GB HBM3", 79.6, 3.99, "RunPod Secure"),
        ("NVIDIA A100-SXM4-80GB", 80.0, 2.4984, "Modal"),
        ("NVIDIA A100-PCIE-40GB", 40.0, 1.99, "Lambda"),
        ("NVIDIA L4", 22.5, 0.7992, "Modal"),
        ("Tesla T4", 15.0, 0.40, "Hugging Face"),
    ],
)
def test_a_known_gpu_has_the_median_price_and_names_its_row(gpu, memory, usd, vendor):
    price = default_price(Hardware("any", 8, 16.0, gpu, memory), on_gpu=True)
    assert price.usd == usd
    assert vendor in price.basis


@pytest.mark.parametrize(("gpu", "memory"), [("NVIDIA H200", 141.0), ("NVIDIA L40S", 46.0), ("NVIDIA H100 NVL", 94.0)])
def test_a_gpu_that_is_not_in_the_table_has_no_price(gpu, memory):
    price = default_price(Hardware("any", 8, 16.0, gpu, memory), on_gpu=True)
    assert price.usd is None
    assert "usd_per_hour" in price.basis


def test_nvidia_smi_is_read_and_its_failure_means_no_gpu(tmp_path, monkeypatch):
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034'\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert hardware._gpu() == ("NVIDIA L4", 22.5)
    command.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    assert hardware._gpu() == (None, None)
