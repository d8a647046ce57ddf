"""A device beside the CPU for machines that have none: it computes on the CPU, but takes nothing
from it that has not been moved.

What it finds is code that mixes tensors of two devices. What a GPU computes, and how fast, it
cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretended")
DEVICE = torch.device("pretended:0")
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class There(Tensor):
    """A tensor on the device; ``here`` are its values."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        """Wrap values."""
        made: There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        function: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute with the values, where nothing else is among them."""
        return _compute(function, args, dict(kwargs or {}))

    def tolist(self) -> Any:
        """Return the values; torch's own knows no subclasses."""
        return self.here.tolist()


class Pretended(TorchDispatchMode):
    """While it is entered, ``device="pretended"`` works."""

    def __enter__(self) -> Pretended:
        """Let ``torch.tensor`` make its values on the CPU and move them."""
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Leave torch as it was."""
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute where the tensors are."""
        return _compute(function, args, dict(kwargs or {}))


def _compute(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    given = tree.tree_leaves((args, kwargs))
    there = any(isinstance(value, There) for value in given)
    if there and function not in MOVES:
        # A GPU takes numbers from the CPU, tensors without axes too.
        strays = [
            tuple(v.shape)
            for v in given
            if isinstance(v, Tensor) and not isinstance(v, There) and v.dim() > 0
        ]
        if strays:
            raise RuntimeError(f"{function}: tensors of the CPU beside those of {DEVICE}: {strays}")
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs["device"] = "cpu"
    here = tree.tree_map_only(There, lambda value: value.here, (args, kwargs))
    same = {id(h): g for h, g in zip(tree.tree_leaves(here), given, strict=True)}  # in-place

    def wrap(value: Tensor) -> Tensor:
        return same[id(value)] if id(value) in same else There(value) if there else value

    return tree.tree_map_only(Tensor, wrap, function(*here[0], **here[1]))


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Take any device."""


@contextmanager
def training() -> Iterator[None]:
    """Let stacks train on the device instead of the CPU."""
    real = pl.Trainer

    def trainer(accelerator: str, devices: int, **others: Any) -> pl.Trainer:
        assert (accelerator, devices) == ("cpu", 1)
        strategy = SingleDeviceStrategy(DEVICE, accelerator=_Accelerator())
        return real(strategy=strategy, **others)

    with pytest.MonkeyPatch.context() as patch, Pretended():
        patch.setattr(pl, "Trainer", trainer)
        yield
