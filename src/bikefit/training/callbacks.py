"""Callbacks: which epoch of a member counts, who has diverged, how far the work is."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from bikefit.training.checkpoints import LAST, TIMESTAMPS, CheckpointDir, with_prefix
from bikefit.training.members import Stopped
from bikefit.training.module import StackModule

INTERVAL = "BIKEFIT_CHECKPOINT"  # environment variable: s between two checkpoints of a stack
SHARE = 0.02  # largest fraction of the time that writing checkpoints takes


class Selection(pl.Callback):
    """Selection of an epoch of each member, by early stopping or as the last, and of failures.

    A member with ``patience`` stops if its validation loss has not fallen for that many epochs,
    and its best epoch is selected (Prechelt 1998). A member without patience trains all epochs,
    and the last one is selected. A member fails if one of its losses is not finite; the others
    continue.

    Args:
        patience: Patience of each of the M members in epochs; None for no early stopping.
    """

    def __init__(self, patience: Sequence[int | None]) -> None:
        self.patience = list(patience)
        self.best = [float("inf")] * len(self.patience)
        self.selected = [0] * len(self.patience)
        self.last = [0] * len(self.patience)
        self.failure = [""] * len(self.patience)
        self.killed = [False] * len(self.patience)
        self.done = [False] * len(self.patience)
        self.state: dict[str, Tensor] = {}
        self.timestamps: list[int] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Update the selection with the epoch just evaluated."""
        assert isinstance(pl_module, StackModule)
        self.timestamps.append(int(time.time() * 1000))
        selected = self._update(len(pl_module.history), pl_module.history[-1])
        if not self.state or all(selected):
            self.state = pl_module.stack.state()
        elif any(selected):
            mask = torch.tensor(selected, device=pl_module.device)
            for name, value in pl_module.stack.state().items():
                self.state[name][mask] = value[mask]
        trainer.should_stop = all(self.done)

    def _update(self, epoch: int, metrics: Mapping[str, Tensor]) -> list[bool]:
        """Record the losses of an epoch; return whether it is selected for each member so far."""
        losses = torch.stack([metrics["train/loss"], metrics["val/loss"]], dim=1).tolist()
        return [self._update_member(m, epoch, *pair) for m, pair in enumerate(losses)]

    def _update_member(self, member: int, epoch: int, train: float, val: float) -> bool:
        if self.done[member]:
            return False
        self.last[member] = epoch
        for name, value in (("training", train), ("validation", val)):
            if not math.isfinite(value):
                self.failure[member] = f"{name} loss became {value} in epoch {epoch}"
                self.done[member] = True
                return False
        patience = self.patience[member]
        if patience is None or val < self.best[member]:
            self.best[member], self.selected[member] = val, epoch
            return True
        self.done[member] = epoch - self.selected[member] >= patience
        return False

    def checkpoint(self) -> dict[str, Tensor]:
        """Return what does not follow from the losses of all epochs, and the last epochs."""
        state = {f"selected/{name}": value for name, value in self.state.items()}
        return state | {LAST: torch.tensor(self.last), TIMESTAMPS: torch.tensor(self.timestamps)}

    def restore(self, module: StackModule, values: Mapping[str, Tensor]) -> None:
        """Set the selection to the result of :meth:`checkpoint`, for a restored module."""
        for epoch, metrics in enumerate(module.history, start=1):
            self._update(epoch, metrics)
        self.state = {k: v.to(module.device) for k, v in with_prefix(values, "selected").items()}
        self.timestamps = values[TIMESTAMPS].tolist()

    def stop(self) -> None:
        """Record that the members still in training were stopped from outside."""
        for member, done in enumerate(self.done):
            if not done:
                self.failure[member] = f"stopped after {self.last[member]} epochs"
                self.killed[member] = True


class Checkpoints(pl.Callback):
    """Write checkpoints of a stack, and resume from the last one.

    The first checkpoint is due after some seconds (``BIKEFIT_CHECKPOINT``, default 10), so that
    short stacks write none. Each further one is due after the same time, or after 50 times as long
    as the last one took to write. The last epoch is always written if the first checkpoint was due
    by then. With 0 seconds every epoch is written.

    Args:
        directory: Folder of the stack.
        selection: State of each member.
    """

    def __init__(self, directory: CheckpointDir, selection: Selection) -> None:
        self.directory, self.selection = directory, selection
        self.interval = float(os.environ.get(INTERVAL, "10"))
        self.first = self.due = time.monotonic() + self.interval

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Resume from the checkpoint, if there is one."""
        assert isinstance(pl_module, StackModule)
        checkpoint = self.directory.load()
        if checkpoint is None:
            return
        values = {name: torch.from_numpy(value) for name, value in checkpoint.items()}
        pl_module.restore(values)
        self.selection.restore(pl_module, values)
        _generator(pl_module).set_rng_state(values["generator"])
        # Lightning sets these when it resumes; its own checkpoints are pickled.
        progress: Any = trainer.fit_loop.epoch_progress.current
        progress.processed = progress.completed = len(pl_module.history)
        trainer.should_stop = all(self.selection.done)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a checkpoint if one is due."""
        assert isinstance(pl_module, StackModule)
        start = time.monotonic()
        last = trainer.should_stop or len(pl_module.history) == trainer.max_epochs
        if start < (self.first if last else self.due):
            return
        values = pl_module.state() | self.selection.checkpoint()
        values["generator"] = _generator(pl_module).get_rng_state()
        self.directory.save({name: value.cpu().numpy() for name, value in values.items()})
        end = time.monotonic()
        self.due = end + (max(self.interval, (end - start) / SHARE) if self.interval else 0.0)


def _generator(module: StackModule) -> Any:
    """Return the torch module with the random state of layers that draw for themselves."""
    return torch.cuda if module.device.type == "cuda" else torch


class StopCheck(pl.Callback):
    """Stop training between two steps if that is asked for.

    Args:
        stopping: Returns whether to stop.
    """

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self.stopping = stopping

    def on_train_batch_end(self, *_: object) -> None:
        """Raise Stopped if training is to stop."""
        if self.stopping():
            raise Stopped
