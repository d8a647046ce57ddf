"""Devices of worker processes, on machines with and without GPUs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from bikefit.config import ConfigError
from bikefit.training import devices
from bikefit.training.devices import gpu_count, trainer_device
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
