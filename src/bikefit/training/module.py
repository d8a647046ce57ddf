"""The LightningModule: a stack of members, trained and evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from bikefit.config import Optimizer as OptimizerSettings
from bikefit.nn.fused import Fused, fuse
from bikefit.nn.losses import Loss, LossName
from bikefit.nn.penalties import LpPenalty, soft_threshold
from bikefit.nn.randomness import DropoutNoise, Noise
from bikefit.nn.stacking import Stack
from bikefit.training.data import CHUNK, PIECE, Rows
from bikefit.training.optimizers import (
    StackSlices,
    make_optimizer,
    make_schedule,
    optimizer_state,
    restore_optimizer,
    restore_schedule,
)
from bikefit.training.strengths import Strengths, dropped_units, penalties, proximal_penalty

METRICS = (
    "train/loss", "val/loss", "train/rmse", "val/rmse", "train/deviance", "val/deviance",
)  # fmt: skip
AT_ONCE = 16  # members measured at once: bounds memory


class StackModule(pl.LightningModule):
    """M members side by side; a plain run is a stack of one.

    The objective of a member is its mean data loss over the batch plus its penalties; objectives
    are summed over members, so that no member's gradient depends on another. After each epoch
    every member is measured in evaluation mode, without penalties, on its own training rows and
    its own validation rows. ``halfway`` keeps what members are when half of their epochs are done,
    in the form of :meth:`bikefit.nn.stacking.Stack.state`.

    Args:
        stack: the M networks.
        rows: features and targets on the device.
        streams: stream of batches that each member reads, ``(M,)``.
        seeds: seed of each member.
        strengths: of each member.
        optimizer: what the members share (name, momentum).
        lr: learning rate of each member.
        loss: mse or poisson.
    """

    def __init__(
        self, stack: Stack, rows: Rows, streams: Sequence[int], seeds: Sequence[int],
        strengths: Sequence[Strengths], optimizer: OptimizerSettings, lr: Sequence[float],
        loss: LossName,
    ) -> None:  # fmt: skip
        super().__init__()
        self.automatic_optimization = False
        self.stack, self.rows = stack, rows
        self.seeds, self.strengths = list(seeds), list(strengths)
        self.optimizer_settings, self.lr, self.loss_name = optimizer, list(lr), loss
        first = sorted({stream: i for i, stream in reversed(list(enumerate(streams)))}.items())
        self.stream_of = list(streams)
        self.register_buffer("streams", torch.tensor(self.stream_of), persistent=False)
        self.register_buffer("stream_fold", rows.fold_of[[i for _, i in first]], persistent=False)
        self.history: list[dict[str, Tensor]] = []
        self.halfway: dict[str, Tensor] = {}  # empty before that epoch

    streams: Tensor  # (M,)
    stream_fold: Tensor  # (S,)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make one optimizer over the slices of the stack (called on the device)."""
        decay = {
            name: [strengths.weight_decay[name] for strengths in self.strengths]
            for name in self.stack.stacked_parameters()
        }
        self.slices = StackSlices(self.stack, self.lr, decay)
        optimizer = make_optimizer(self.slices, self.optimizer_settings)
        steps = int(self.trainer.estimated_stepping_batches)
        self.schedule = make_schedule(optimizer, self.optimizer_settings, steps)
        return optimizer

    def on_fit_start(self) -> None:
        """Prepare on the device what every step needs."""
        self.loss = Loss(self.loss_name, self.rows.target_mean, self.rows.target_std)
        self.penalties: list[LpPenalty] = penalties(self.strengths, self.device)
        self.proximal = proximal_penalty(self.strengths, self.device)
        self.parameters_by_name = self.stack.stacked_parameters()
        widths = dropped_units(self.stack, self.rows.features.shape[1])
        self.noise = DropoutNoise(self.seeds, widths)
        self.fused = fuse(self.stack)

    def training_step(self, rows: Tensor, batch_index: int) -> None:
        """Take one step of every member on its stream's rows ``(S, B)``."""
        features, target = self._gather(rows)
        noise = self.noise.draw(rows.shape[1])
        if self.fused is None:
            shared = len(rows) == 1
            output = self.stack(features[0] if shared else features[self.streams], noise)
            objective = self.loss.rows(output, target if shared else target[self.streams])
            self.manual_backward(objective.mean(dim=1).sum())
        else:
            self._fused_gradients(self.fused, features, target, noise)
        for penalty in self.penalties:
            penalty.add_gradient(self.parameters_by_name)
        self.slices.take_gradients()
        self.optimizers().step()  # type: ignore[union-attr]
        self._shrink()
        if self.schedule is not None:
            self.schedule.step()

    @torch.no_grad()
    def _fused_gradients(
        self, fused: Fused, features: Tensor, target: Tensor, noise: Mapping[str, Noise]
    ) -> None:
        """Give parameters the gradient of the data loss, some members at a time."""
        for part in fused.parts(target.shape[1]):
            output = fused.forward(features, self.stream_of, noise, part)
            slope = self.loss.members(part).slope(output, target[self.streams[part]])
            fused.backward(slope.div_(target.shape[1]))

    @torch.no_grad()
    def outputs(self, start: int) -> Tensor:
        """Return the members' outputs in evaluation mode ``(M, C)`` for a chunk of rows."""
        rows = self.rows
        end = min(start + CHUNK, len(rows.target))
        if self.fused is not None:
            seen = (rows.shift[rows.fold_of], rows.scale[rows.fold_of]) if rows.refit else None
            return self.fused.evaluate(rows.features[start:end], seen, PIECE)
        self.stack.eval()
        starts = range(start, end, PIECE)
        return torch.cat([self.stack(rows.seen(slice(s, s + PIECE))) for s in starts], dim=1)

    @torch.no_grad()
    def _shrink(self) -> None:
        """Take the proximal step of the L1 penalties that ask for it."""
        for name, strength in self.proximal.strengths.items():
            parameter = self.parameters_by_name[name]
            parameter.copy_(soft_threshold(parameter, strength * self.member_lr()))

    def member_lr(self) -> Tensor:
        """Return each member's learning rate as the schedule has it now, ``(M,)``."""
        base = torch.tensor(self.lr, device=self.device)
        if self.schedule is None:
            return base
        first = self.schedule.optimizer.param_groups[0]
        return base * (first["lr"] / first["max_lr"])

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Fetch the features ``(S, B, D)`` and targets ``(S, B)`` of each stream."""
        shape = (*rows.shape, -1)
        features = self.rows.features.index_select(0, rows.flatten()).view(shape)
        return self.rows.standardized(features, self.stream_fold), self.rows.target[rows]

    def state(self) -> dict[str, Tensor]:
        """Return what the next epochs depend on and what was measured, ``(M, ...)`` by name."""
        steps = self.schedule.last_epoch if self.schedule is not None else 0
        parts = {
            "stack": self.stack.state(),
            "optimizer": optimizer_state(self.stack, self.slices, self._optimizer()),
            "noise": self.noise.state(),
            "history": self.measured(),
            "halfway": self.halfway,
            "schedule": {"steps": torch.full((self.stack.size,), steps)},
        }
        return {f"{part}/{k}": v for part, values in parts.items() for k, v in values.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where :meth:`state` was asked of the same members, whoever stood beside them."""
        self.stack.load(below(state, "stack"))
        moments = below(state, "optimizer")
        restore_optimizer(self.stack, self.slices, self._optimizer(), moments)
        self.noise.restore(below(state, "noise"))
        self.halfway = {k: v.to(self.device) for k, v in below(state, "halfway").items()}
        measured = below(state, "history")  # with the penalties of members that are gone
        names = [*METRICS, *self.penalty_values(), "zeros"]
        epochs = measured[METRICS[0]].shape[1]
        self.history = [
            {name: measured[name][:, epoch].to(self.device) for name in names}
            for epoch in range(epochs)
        ]
        if self.schedule is not None:
            restore_schedule(self.schedule, int(state["schedule/steps"][0]))

    def measured(self) -> dict[str, Tensor]:
        """Return what was measured so far, ``(M, E)`` by name."""
        return {
            name: torch.stack([epoch[name] for epoch in self.history], dim=1)
            for name in self.history[0]
        }

    def _optimizer(self) -> torch.optim.Optimizer:
        found: Any = self.optimizers()
        return found.optimizer

    def on_validation_epoch_start(self) -> None:
        """Start the sums over rows: loss, squared error, deviance on training and validation."""
        self._sums = torch.zeros(3, 2, self.stack.size, dtype=torch.float64, device=self.device)

    def validation_step(self, start: int, batch_index: int) -> None:
        """Add the rows of one chunk."""
        target, masks = self.rows.chunk(start)
        output = self.outputs(start)
        for part in (slice(m, m + AT_ONCE) for m in range(0, self.stack.size, AT_ONCE)):
            loss = self.loss.members(part)
            values = torch.stack(
                [
                    loss.rows(output[part], target),
                    (loss.predict(output[part]) - target) ** 2,
                    loss.deviance(output[part], target),
                ]
            )  # (3, m, C)
            # A member that overflows on rows it does not count must not spoil its sums with 0·∞.
            counted = torch.where(masks[:, part] > 0, values.unsqueeze(1), 0.0)
            self._sums[:, :, part] += counted.sum(-1, dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        """Turn sums into the metrics of the epoch, ``(M,)`` each, and keep them in memory."""
        assert self.trainer.max_epochs is not None
        loss, squared, deviance = self._sums / self.rows.counts
        values = (*loss, *squared.sqrt(), *deviance)
        measured = dict(zip(METRICS, values, strict=True))
        self.history.append(measured | self.penalty_values() | {"zeros": self.zero_share()})
        if len(self.history) == self.trainer.max_epochs // 2:
            self.halfway = self.stack.state()

    @torch.no_grad()
    def penalty_values(self) -> dict[str, Tensor]:
        """Return the members' penalty in total and by layer (``train/penalty/hidden1``)."""
        total = torch.zeros(self.stack.size, dtype=torch.float64, device=self.device)
        values: dict[str, Tensor] = {}
        for penalty in (*self.penalties, self.proximal):
            # asked anew: moving between devices may have replaced them
            for name, value in penalty(self.stack.stacked_parameters()).items():
                key = f"train/penalty/{name.split('.', 1)[0]}"
                values[key] = values.get(key, 0.0) + value.double()
                total = total + value
        return {"train/penalty": total, **values}

    @torch.no_grad()
    def zero_share(self) -> Tensor:
        """Return the share of each member's weights that are exactly zero, ``(M,)``."""
        weights = [p.flatten(1) for p in self.parameters_by_name.values() if p.dim() > 2]
        return (torch.cat(weights, dim=1) == 0).double().mean(dim=1)


def below(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the values of one part of a state, by their names in it."""
    prefix = f"{part}/"
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
