"""Devices of worker processes, on machines with and without GPUs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bikefit.config import ConfigError
from bikefit.training import devices
from bikefit.training.devices import gpu_count, trainer_device, use_avx512
from conftest import ROOT


@pytest.mark.parametrize(
    ("accelerator", "count", "slot", "expected"),
    [
        ("cpu", 4, 0, []),
        ("auto", 0, 0, []),
        ("auto", 1, 0, [0]),
        ("gpu", 2, 0, [0]),
        ("gpu", 2, 1, [1]),
        ("gpu", 2, 2, [0]),
    ],
)
def test_each_worker_of_a_machine_has_its_own_gpu(
    accelerator: str, count: int, slot: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(devices, "slot", slot)
    assert gpu_count(accelerator) == (count if expected else 0)
    gpu = {"accelerator": "cuda", "devices": expected}
    assert trainer_device(accelerator) == (
        gpu if expected else {"accelerator": "cpu", "devices": 1}
    )


def test_a_gpu_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="no GPU here; use trainer"):
        trainer_device("gpu")


@pytest.mark.process
def test_the_process_that_workers_are_forked_from_does_not_use_a_gpu() -> None:
    # CUDA fails in a process whose parent used CUDA before the fork.
    watch = """
import torch
for name in ("is_available", "device_count", "_lazy_init"):
    setattr(torch.cuda, name, lambda *_, name=name: print("used", name))
import bikefit.training.preload, hydra
torch.cuda.device_count()
"""
    process = subprocess.run(
        [sys.executable, "-c", watch], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert re.findall("used .*", process.stdout) == [
        "used device_count"
    ]  # the call in the last line


@pytest.fixture
def precision() -> Iterator[Any]:
    """The settings of products, which are restored."""
    matmul: Any = torch.backends.mkldnn.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "ieee"
    yield matmul
    matmul.fp32_precision = before


@pytest.mark.usefixtures("precision")
def test_products_on_cpus_with_avx512_have_the_accuracy_of_float32() -> None:
    x, y = torch.rand(2, 256, 128), torch.rand(2, 128, 128)
    use_avx512()
    expected = torch.bmm(x.double(), y.double()).float()
    torch.testing.assert_close(torch.bmm(x, y), expected, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "amx_tile": False}, "bf16"),
        ({"avx512_f": True, "amx_tile": True}, "ieee"),  # would round to bfloat16
        ({"avx2": True, "avx512_f": False, "amx_tile": False}, "ieee"),
        ({"neon": True, "bf16": True}, "ieee"),
    ],
)
def test_only_cpus_that_round_to_float32_multiply_with_onednn(
    capabilities: dict[str, bool],
    expected: str,
    precision: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    use_avx512()
    assert precision.fp32_precision == expected
