"""Callbacks: which epoch of a member counts, who has diverged, how far the work is."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from bikefit.training.checkpoints import Checkpoint, CheckpointDir
from bikefit.training.members import Failure, Stopped
from bikefit.training.module import StackModule
from bikefit.training.optimizers import with_prefix

log = logging.getLogger(__name__)
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
        self.failure: list[Failure | None] = [None] * len(self.patience)
        self.done = [False] * len(self.patience)
        self.state: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Update the selection with the epoch just evaluated."""
        assert isinstance(pl_module, StackModule)
        metrics = pl_module.history[-1]
        losses = torch.stack([metrics["train/loss"], metrics["val/loss"]], dim=1).tolist()
        epoch = trainer.current_epoch + 1
        selected = [self._update(m, epoch, *pair) for m, pair in enumerate(losses)]
        if not self.state or all(selected):
            self.state = pl_module.stack.state()
        elif any(selected):
            mask = torch.tensor(selected, device=pl_module.device)
            for name, value in pl_module.stack.state().items():
                self.state[name][mask] = value[mask]
        trainer.should_stop = all(self.done)

    def _update(self, member: int, epoch: int, train: float, val: float) -> bool:
        """Record the losses of a member; return whether the epoch is selected for now."""
        if self.done[member]:
            return False
        self.last[member] = epoch
        for name, value in (("training", train), ("validation", val)):
            if not math.isfinite(value):
                self.failure[member] = Failure(f"{name} loss became {value} in epoch {epoch}")
                self.done[member] = True
                return False
        patience = self.patience[member]
        if patience is None or val < self.best[member]:
            self.best[member], self.selected[member] = val, epoch
            return True
        self.done[member] = epoch - self.selected[member] >= patience
        return False

    def checkpoint(self) -> dict[str, Tensor]:
        """Return the selection except failures, ``(M, ...)`` by name."""
        best = {"best": torch.tensor(self.best, dtype=torch.float64)}
        numbers = {name: torch.tensor(getattr(self, name)) for name in ("selected", "last", "done")}
        return best | numbers | {f"state/{name}": value for name, value in self.state.items()}

    def restore(
        self, values: Mapping[str, Tensor], failures: Sequence[str | None], device: torch.device
    ) -> None:
        """Set the selection to the result of :meth:`checkpoint` and the reasons of failures."""
        for name in ("best", "selected", "last", "done"):
            setattr(self, name, values[name].tolist())
        self.failure = [None if reason is None else Failure(reason) for reason in failures]
        self.state = {k: v.to(device) for k, v in with_prefix(values, "state").items()}

    def stop(self) -> None:
        """Record that the members still in training were stopped from outside."""
        for member, done in enumerate(self.done):
            if not done:
                reason = f"stopped after {self.last[member]} epochs"
                self.failure[member] = Failure(reason, killed=True)


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
        values = {name: torch.from_numpy(value) for name, value in checkpoint.values.items()}
        state = with_prefix(values, "selection")
        self.selection.restore(state, checkpoint.failures, pl_module.device)
        self.directory.timestamps = checkpoint.timestamps
        pl_module.restore(values)
        _restore_global(values)
        # Lightning sets these when it resumes; its own checkpoints are pickled.
        progress: Any = trainer.fit_loop.epoch_progress.current
        progress.processed = progress.completed = checkpoint.epoch
        trainer.should_stop = all(self.selection.done)
        log.debug(f"{pl_module.stack.size} members resume after epoch {checkpoint.epoch}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a checkpoint if one is due."""
        assert isinstance(pl_module, StackModule)
        start, epoch = time.monotonic(), trainer.current_epoch + 1
        self.directory.timestamps.append(int(time.time() * 1000))
        last = trainer.should_stop or epoch == trainer.max_epochs
        if start < (self.first if last else self.due) or not self.directory.exists:
            return
        self.directory.save(self._checkpoint(pl_module, epoch))
        end = time.monotonic()
        self.due = end + (max(self.interval, (end - start) / SHARE) if self.interval else 0.0)

    def _checkpoint(self, module: StackModule, epoch: int) -> Checkpoint:
        values = module.state() | _global_state()
        values |= {f"selection/{k}": v for k, v in self.selection.checkpoint().items()}
        size = module.stack.size
        return Checkpoint(
            epoch,
            self.directory.timestamps,
            [None if failure is None else failure.reason for failure in self.selection.failure],
            {
                k: (v if k not in GLOBAL else v.expand(size, -1)).detach().cpu().numpy()
                for k, v in values.items()
            },
        )


# Layers that draw for themselves train alone; what they draw comes from torch's own generators.
GLOBAL = ("generator/cpu", "generator/cuda")


def _global_state() -> dict[str, Tensor]:
    state = {GLOBAL[0]: torch.get_rng_state()}
    return state | ({GLOBAL[1]: torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def _restore_global(values: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(values[GLOBAL[0]][0].clone())
    if GLOBAL[1] in values and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(values[GLOBAL[1]][0].clone())


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
