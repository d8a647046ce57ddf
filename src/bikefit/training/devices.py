"""The device that a stack trains on: the CPU or a GPU of its machine."""

from __future__ import annotations

from typing import Any

from bikefit.config import ConfigError


def gpu_count(accelerator: str) -> int:
    """Return the number of GPUs of this machine for training; 0 means the CPU.

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
            "use trainer.accelerator=auto to train on the CPU"
        )
    return count


slot = 0  # index of this worker process among those of the command


def trainer_device(accelerator: str) -> dict[str, Any]:
    """Return Lightning's arguments for the device; worker processes use different GPUs."""
    if count := gpu_count(accelerator):
        return {"accelerator": "cuda", "devices": [slot % count]}
    return {"accelerator": "cpu", "devices": 1}


def use_avx512() -> None:
    """Multiply matrices with oneDNN on CPUs with AVX-512, in float32.

    torch's default is MKL, which uses AVX-512 on Intel's CPUs only. The setting permits oneDNN to
    round to bfloat16, which it does only with instructions (AMX) that exclude a CPU here.
    """
    import torch

    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("avx512_f") and not capabilities.get("amx_tile"):
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
