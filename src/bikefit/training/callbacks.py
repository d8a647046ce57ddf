"""Callbacks: which epoch of a member counts, who has diverged, how far the work is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from bikefit.training.members import Failure, Stopped
from bikefit.training.module import StackModule


class Selection(pl.Callback):
    """Early stopping and divergence, member by member.

    A member with ``patience`` stops once its validation loss has not become lower for that many
    epochs, and its best epoch is selected (Prechelt 1998). A member without patience trains all
    epochs, and the last one is selected: otherwise every run would be stopped early in effect. A
    member whose loss is not finite has failed; the others go on.

    Args:
        patience: of each member, None for none.
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
        """Look at the epoch just measured."""
        assert isinstance(pl_module, StackModule)
        metrics = pl_module.history[-1]
        losses = torch.stack([metrics["train/loss"], metrics["val/loss"]], dim=1).tolist()
        epoch = trainer.current_epoch + 1
        improved = [self._judge(m, epoch, *pair) for m, pair in enumerate(losses)]
        self._keep(pl_module, improved)
        trainer.should_stop = all(self.done)

    def _judge(self, member: int, epoch: int, train: float, val: float) -> bool:
        """Note the epoch of one member; return whether its parameters are to be kept."""
        if self.done[member]:
            return False
        self.last[member] = epoch
        for name, value in (("training", train), ("validation", val)):
            if not abs(value) < float("inf"):
                self.failure[member] = Failure(f"{name} loss became {value} in epoch {epoch}")
                self.done[member] = True
                return False
        patience = self.patience[member]
        if patience is None or val < self.best[member]:
            self.best[member], self.selected[member] = val, epoch
            return True
        self.done[member] = epoch - self.selected[member] >= patience
        return False

    def stop(self) -> None:
        """Note that the members still in training were stopped from outside."""
        for member, done in enumerate(self.done):
            if not done:
                reason = f"stopped after {self.last[member]} epochs"
                self.failure[member] = Failure(reason, killed=True)

    def _keep(self, module: StackModule, improved: Sequence[bool]) -> None:
        if not self.state or all(improved):
            self.state = module.stack.state()
            return
        if any(improved):
            mask = torch.tensor(improved, device=module.device)
            for name, value in module.stack.state().items():
                self.state[name][mask] = value[mask]


class Halfway(pl.Callback):
    """Keep what members are when half of their epochs are done.

    ``state`` is that of :meth:`bikefit.nn.stacking.Stack.state`, empty before that epoch.
    """

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the stack at the end of the epoch in the middle."""
        assert isinstance(pl_module, StackModule) and trainer.max_epochs is not None
        if trainer.current_epoch + 1 == trainer.max_epochs // 2:
            self.state = pl_module.stack.state()


class Progress(pl.Callback):
    """Report the number of member-epochs done, and stop where that is asked for.

    Args:
        report: called with the number of member-epochs that have just been added.
        stopping: says after each step whether to stop.
    """

    def __init__(self, report: Callable[[int], Any], stopping: Callable[[], bool]) -> None:
        self.report, self.stopping = report, stopping

    def on_train_batch_end(self, *_: object) -> None:
        """Stop between two steps."""
        if self.stopping():
            raise Stopped("stopped from outside")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count one epoch of every member."""
        assert isinstance(pl_module, StackModule)
        self.report(pl_module.stack.size)
