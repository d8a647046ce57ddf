"""Callbacks: selection of epochs, early stopping, checkpoints, stopping on request."""

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


class EpochSelection(pl.Callback):
    """Early stopping, selection of an epoch, and detection of failures, for each member.

    A member with ``patience`` stops if its validation loss has not fallen for that many epochs,
    and its best epoch is selected (Prechelt 1998). A member without patience trains all epochs,
    and the last one is selected. A member fails if one of its losses is not finite; the others
    continue.

    Args:
        patience: Patience in epochs of each of the M members; None for no early stopping.
    """

    def __init__(self, patience: Sequence[int | None]) -> None:
        self.patience = list(patience)
        self.best_loss = [float("inf")] * len(self.patience)
        self.selected = [0] * len(self.patience)
        self.last_epoch = [0] * len(self.patience)
        self.failure = [""] * len(self.patience)
        self.killed = [False] * len(self.patience)
        self.done = [False] * len(self.patience)
        self.selected_state: dict[str, Tensor] = {}
        self.timestamps: list[int] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Update the selection with the last epoch."""
        assert isinstance(pl_module, StackModule)
        self.timestamps.append(int(time.time() * 1000))
        selected = self._update(len(pl_module.history), pl_module.history[-1])
        if not self.selected_state:
            self.selected_state = pl_module.stack.state()
        elif any(selected):  # in place: a new copy in each epoch would fragment the memory
            members = torch.tensor(selected, device=pl_module.device)
            pl_module.stack.copy_members(members, self.selected_state)
        trainer.should_stop = all(self.done)

    def _update(self, epoch: int, metrics: Mapping[str, Tensor]) -> list[bool]:
        """Record the losses of an epoch; return for each member whether it is the best so far."""
        improved = [False] * len(self.patience)
        losses = torch.stack([metrics["train/loss"], metrics["val/loss"]], dim=1).tolist()
        for m, (train, val) in enumerate(losses):
            if self.done[m]:
                continue
            self.last_epoch[m], patience = epoch, self.patience[m]
            if not (math.isfinite(train) and math.isfinite(val)):
                name, value = ("validation", val) if math.isfinite(train) else ("training", train)
                self.failure[m] = f"{name} loss became {value} in epoch {epoch}"
                self.done[m] = True
            elif patience is None or val < self.best_loss[m]:
                self.best_loss[m], self.selected[m], improved[m] = val, epoch, True
            else:
                self.done[m] = epoch - self.selected[m] >= patience
        return improved

    def state(self) -> dict[str, Tensor]:
        """Return the tensors from which, with the history, :meth:`restore` sets the selection."""
        state = {f"selected/{name}": value for name, value in self.selected_state.items()}
        return state | {
            LAST: torch.tensor(self.last_epoch),
            TIMESTAMPS: torch.tensor(self.timestamps),
        }

    def restore(self, module: StackModule, values: Mapping[str, Tensor]) -> None:
        """Restore the selection from the result of :meth:`state` and the history of the module."""
        for epoch, metrics in enumerate(module.history, start=1):
            self._update(epoch, metrics)
        self.selected_state = {
            k: v.to(module.device) for k, v in with_prefix(values, "selected").items()
        }
        self.timestamps = values[TIMESTAMPS].tolist()

    def stop(self) -> None:
        """Mark members that are still in training as killed."""
        for member, done in enumerate(self.done):
            if not done:
                self.failure[member] = f"stopped after {self.last_epoch[member]} epochs"
                self.killed[member] = True


class CheckpointCallback(pl.Callback):
    """Write checkpoints of a stack, and resume from the last one.

    The first checkpoint is due after some seconds (``BIKEFIT_CHECKPOINT``, default 10), so short
    stacks write none. The next ones are due after the same time, or after 50 times the duration of
    the last write if that is longer. The last epoch is written if the first checkpoint was due.
    With 0 seconds every epoch is written.
    """

    def __init__(self, directory: CheckpointDir, selection: EpochSelection) -> None:
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
        _random_state_module(pl_module).set_rng_state(values["generator"])
        # Lightning would set these from its own checkpoints, which are pickled.
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
        values = pl_module.state() | self.selection.state()
        values["generator"] = _random_state_module(pl_module).get_rng_state()
        self.directory.save({name: value.cpu().numpy() for name, value in values.items()})
        end = time.monotonic()
        self.due = end + (max(self.interval, (end - start) / SHARE) if self.interval else 0.0)


def _random_state_module(module: StackModule) -> Any:
    """Return ``torch`` or ``torch.cuda``: the generator of layers without noise of bikefit."""
    return torch.cuda if module.device.type == "cuda" else torch


class StopCheck(pl.Callback):
    """Stop training after a step if ``stopping`` returns True."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self.stopping = stopping

    def on_train_batch_end(self, *_: object) -> None:
        """Raise :class:`Stopped` if training is to stop."""
        if self.stopping():
            raise Stopped
