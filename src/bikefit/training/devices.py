"""Where a stack trains: on the CPU, or on one of the GPUs of its machine."""

from __future__ import annotations

import multiprocessing
from typing import Any

from bikefit.config import ConfigError


def gpus(accelerator: str) -> int:
    """Count the GPUs of this machine that training may use; 0 means the CPU.

    Args:
        accelerator: ``cpu``, ``gpu`` (CUDA or ROCm), or ``auto`` for GPUs where there are any.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if accelerator == "cpu":
        return 0
    import torch

    found = torch.cuda.device_count()
    if accelerator == "gpu" and not found:
        raise ConfigError(
            f"trainer.accelerator=gpu: torch {torch.__version__} finds no GPU here; "
            "trainer.accelerator=auto takes the CPU where there is none"
        )
    return found


def place(accelerator: str) -> dict[str, Any]:
    """Return what tells Lightning's trainer where: the workers of a sweep take the GPUs in turn."""
    count = gpus(accelerator)
    if count == 0:
        return {"accelerator": "cpu", "devices": 1}
    workers = multiprocessing.current_process()._identity
    return {"accelerator": "cuda", "devices": [workers[-1] % count if workers else 0]}
