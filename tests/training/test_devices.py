"""The device of a stack on machines without GPU, with one, and with several."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from bikefit.config import ConfigError
from bikefit.training import devices
from bikefit.training.devices import gpus, trainer_device
from conftest import ROOT


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Machine with the number of GPUs of the test's parameter."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)


@pytest.mark.parametrize("count", [0], indirect=True)
def test_without_a_gpu_training_is_on_the_cpu(count: None) -> None:
    assert (gpus("cpu"), gpus("auto")) == (0, 0)
    assert trainer_device("auto") == {"accelerator": "cpu", "devices": 1}
    message = "torch .* finds no GPU here; use trainer.accelerator=auto"
    with pytest.raises(ConfigError, match=message):
        trainer_device("gpu")


@pytest.mark.parametrize("count", [1, 4], indirect=True)
def test_a_single_process_takes_the_first_gpu(count: None) -> None:
    assert trainer_device("cpu") == {"accelerator": "cpu", "devices": 1}
    for accelerator in ("auto", "gpu"):
        assert trainer_device(accelerator) == {"accelerator": "cuda", "devices": [0]}


@pytest.mark.parametrize("count", [2], indirect=True)
def test_each_slot_has_its_own_gpu(count: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for slot, gpu in enumerate([0, 1, 0]):
        monkeypatch.setattr(devices, "slot", slot)
        assert trainer_device("gpu")["devices"] == [gpu]


@pytest.mark.process
def test_the_process_that_workers_are_forked_from_does_not_use_a_gpu() -> None:
    # CUDA cannot be used in a process that was forked from one that has used it.
    watch = """
import torch
for name in ("is_available", "device_count", "_lazy_init"):
    setattr(torch.cuda, name, lambda *_, name=name: print("used", name))
import bikefit.training.preload, hydra
torch.cuda.device_count()
"""
    done = subprocess.run(
        [sys.executable, "-c", watch], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert re.findall("used .*", done.stdout) == ["used device_count"]  # by the last line alone
