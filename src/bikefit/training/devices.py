"""The device that a stack trains on: the CPU or a GPU of its machine."""

from __future__ import annotations

from typing import Any

from bikefit.config import ConfigError


def gpus(accelerator: str) -> int:
    """Return the number of GPUs of this machine that training may use; 0 means the CPU.

    Args:
        accelerator: ``cpu``, ``gpu`` (CUDA or ROCm), or ``auto`` for GPUs if there are any.

    Raises:
        ConfigError: ``gpu`` is requested and there is none.
    """
    if accelerator == "cpu":
        return 0
    import torch

    count = torch.cuda.device_count()
    if accelerator == "gpu" and not count:
        raise ConfigError(
            f"trainer.accelerator=gpu: torch {torch.__version__} finds no GPU here; "
            "use trainer.accelerator=auto to train on the CPU if there is no GPU"
        )
    return count


slot = 0  # number of this worker process among those of its command


def trainer_device(accelerator: str) -> dict[str, Any]:
    """Return Lightning's arguments for the device; each worker process has its own GPU."""
    if count := gpus(accelerator):
        return {"accelerator": "cuda", "devices": [slot % count]}
    return {"accelerator": "cpu", "devices": 1}
