"""The LightningModule: a stack of members, trained and evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from bikefit.config import Settings
from bikefit.nn.losses import CLASSES, ROOTS, Loss
from bikefit.nn.penalties import PROXIMAL, LpPenalty
from bikefit.nn.randomness import DropoutNoise, Noise
from bikefit.nn.stacking import Stack
from bikefit.training.checkpoints import with_prefix
from bikefit.training.data import CHUNK, PIECE, Batches, Rows
from bikefit.training.optimizers import StackOptimizer, make_schedule
from bikefit.training.strengths import make_network, make_penalties, proximal_strengths, strengths


class StackModule(pl.LightningModule):
    """A stack of M members as a LightningModule; a single run is a stack with M = 1.

    The objective of a member is its mean data loss over the batch plus its penalties. Objectives
    are summed over members, so that no member's gradient depends on another. After each epoch
    every member is evaluated, without penalties, on its validation rows and on as many of its
    training rows.

    Args:
        settings: Settings of each of the M members, with equal
            :func:`~bikefit.training.members.stack_key`.
        rows: Rows of the members.
    """

    streams: Tensor  # (M,): stream of batches of each member
    stream_fold: Tensor  # (S,)

    def __init__(self, settings: Sequence[Settings], rows: Rows) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings, self.rows = list(settings), rows
        self.stack = Stack([make_network(s, rows.features.shape[1]) for s in settings])
        self.seeds = [member.seed for member in settings]
        self.optimizer_settings = settings[0].optimizer
        self.lr = [member.optimizer.lr for member in settings]
        pairs = list(zip(self.seeds, rows.fold_of.tolist(), strict=True))
        distinct = list(dict.fromkeys(pairs))
        self.register_buffer("streams", torch.tensor([distinct.index(pair) for pair in pairs]))
        self.register_buffer("stream_fold", torch.tensor([fold for _, fold in distinct]))
        streams = [(seed, rows.train_rows[fold]) for seed, fold in distinct]
        self.batches = Batches(streams, settings[0].training.batch_size)
        self.history: list[dict[str, Tensor]] = []

    @property
    def loss(self) -> Loss:
        """The data loss of the members."""
        return CLASSES[self.settings[0].loss](self.rows.target_mean, self.rows.target_std)

    def train_dataloader(self) -> Batches:
        """Return the row numbers ``(S, B)`` of the training steps of an epoch."""
        return self.batches

    def val_dataloader(self) -> range:
        """Return a single batch, because a validation step evaluates all rows."""
        return range(1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create the optimizer and the schedule of the learning rate, and return the optimizer."""
        parameters = self.stack.stacked_parameters()
        decay = strengths(self.settings, parameters, "weight_decay")
        settings = self.optimizer_settings
        self.optimizer = StackOptimizer(settings, parameters, self.lr, decay)
        steps = int(self.trainer.estimated_stepping_batches)
        self.schedule = make_schedule(self.optimizer.optimizer, settings, steps)
        return self.optimizer.optimizer

    def on_fit_start(self) -> None:
        """Create what needs the device: penalties, proximal strengths, noise, sparse rows."""
        if self.device.type == "cpu" and self.stack.reads_sparse and self.rows.columns is None:
            self.rows.compress()
        self.parameters_by_name = self.stack.stacked_parameters()
        self.penalties = make_penalties(self.settings, self.parameters_by_name)
        self.proximal = proximal_strengths(self.settings, self.parameters_by_name)
        self.noise = self.make_noise("dropout")

    def make_noise(self, purpose: str) -> DropoutNoise:
        """Return new noise for the dropout layers in which a member drops units."""
        layers = self.stack.dropouts.items()
        widths = {name: layer.width for name, layer in layers if layer.p.any()}
        return DropoutNoise(self.seeds, widths, purpose)

    def training_step(self, rows: Tensor, batch_index: int) -> None:
        """Make one step with the rows ``(S, B)`` of the streams."""
        features = self.rows.read(rows, self.stream_fold, self.streams)
        target = self.rows.target[rows][self.streams]
        noise = self.noise.draw(rows.shape[1])
        output = self.stack(features, noise)
        self.manual_backward(self.loss.rows(output, target).mean(dim=1).sum())
        for penalty in self.penalties:
            penalty.add_gradient(self.parameters_by_name)
        self.optimizer.take_gradients()
        self.optimizers().step()  # type: ignore[union-attr]
        self._proximal_steps()
        if self.schedule is not None:
            self.schedule.step()

    @torch.no_grad()
    def _proximal_steps(self) -> None:
        for key, by_name in self.proximal.items():
            for name, strength in by_name.items():
                parameter = self.parameters_by_name[name]
                parameter.copy_(PROXIMAL[key](parameter, strength, self.member_lr()))

    def member_lr(self) -> Tensor:
        """Return the current learning rate of each member, ``(M,)``."""
        base = torch.tensor(self.lr, device=self.device)
        if self.schedule is None:
            return base
        first = self.schedule.optimizer.param_groups[0]
        return base * (first["lr"] / first["max_lr"])

    @torch.no_grad()
    def outputs(self, rows: Tensor, noise: Mapping[str, Noise] | None = None) -> Tensor:
        """Return outputs in evaluation mode for rows ``(C,)``, ``(M, C)``.

        With noise, units are dropped as in training: the outputs are those of a thinned network.
        """
        if noise:
            return self.stack.subnetworks(self.rows.member_features(rows), noise)
        self.stack.eval()
        pieces = [self.stack(self.rows.member_features(piece)) for piece in rows.split(PIECE)]
        return torch.cat(pieces, dim=1)

    @torch.no_grad()
    def measure(self, masks: Tensor) -> dict[str, Tensor]:
        """Return metrics ``(M,)`` by name, on the training and validation rows in ``(2, F, N)``."""
        measures = self.loss.measures
        shape = (len(measures), 2, self.stack.size)
        sums = torch.zeros(shape, dtype=torch.float64, device=self.device)
        for rows in masks.any(dim=1).any(dim=0).nonzero().flatten().split(CHUNK):
            output, target = self.outputs(rows), self.rows.target[rows]
            values = torch.stack([value(self.loss, output, target) for value in measures.values()])
            # Multiplying by the mask would give 0·∞ if a member overflows on rows of another fold.
            weights = masks[..., rows][:, self.rows.fold_of]
            counted = torch.where(weights > 0, weights * values.unsqueeze(1), 0.0)
            sums += counted.sum(-1, dtype=torch.float64)
        metrics: dict[str, Tensor] = {}
        counts = masks.sum(-1, dtype=torch.float64)[:, self.rows.fold_of]
        for name, mean in zip(measures, sums / counts, strict=True):
            train, val = mean.sqrt() if name in ROOTS else mean
            metrics |= {f"train/{name}": train, f"val/{name}": val}
        return metrics

    def validation_step(self, *_: int) -> None:
        """Append the metrics of the epoch, ``(M,)`` each, to the history."""
        metrics = self.measure(self.rows.epoch_masks) | self.penalty_values()
        self.history.append(metrics | self.weight_metrics())

    @torch.no_grad()
    def penalty_values(self) -> dict[str, Tensor]:
        """Return penalties ``(M,)``: ``train/penalty`` and, by layer, ``train/penalty/hidden1``.

        Values of a layer are NaN for members without a penalty of that layer.
        """
        parameters = self.stack.stacked_parameters()  # their device may have changed
        total = torch.zeros(self.stack.size, dtype=torch.float64, device=self.device)
        values: dict[str, Tensor] = {}
        applies: dict[str, Tensor] = {}
        for penalty in (*self.penalties, LpPenalty(1.0, self.proximal["l1"])):
            for name, value in penalty(parameters).items():
                key = f"train/penalty/{name.split('.', 1)[0]}"
                values[key] = values.get(key, 0.0) + value.double()
                applies[key] = applies.get(key, False) | (penalty.strengths[name] > 0)
                total = total + value
        by_layer = {key: v.masked_fill(~applies[key], torch.nan) for key, v in values.items()}
        return {"train/penalty": total, **by_layer}

    @torch.no_grad()
    def weight_metrics(self) -> dict[str, Tensor]:
        """Return metrics ``(M,)`` of each member's weights, without biases, scales and shifts.

        ``zeros`` is the fraction that is exactly zero, ``weights/norm`` is ‖W‖₂ = √ΣW².
        """
        weights = [p.flatten(1) for p in self.parameters_by_name.values() if p.dim() > 2]
        flat = torch.cat(weights, dim=1)
        norm = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)
        return {"zeros": (flat == 0).double().mean(dim=1), "weights/norm": norm}

    def state(self) -> dict[str, Tensor]:
        """Return the tensors from which :meth:`restore` continues training, and the history."""
        steps = 0 if self.schedule is None else self.schedule.last_epoch
        parts = {
            "stack": self.stack.state(),
            "optimizer": self.optimizer.state(),
            "noise": self.noise.state(),
            "history": self.metrics(),
        }
        state = {f"{part}/{k}": v for part, values in parts.items() for k, v in values.items()}
        return state | {"order": self.batches.state(), "steps": torch.tensor(steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the module to the result of :meth:`state` for the same members."""
        self.stack.load(with_prefix(state, "stack"))
        self.optimizer.restore(with_prefix(state, "optimizer"))
        self.noise.restore(with_prefix(state, "noise"))
        self.batches.restore(state["order"])
        history = {k: v.to(self.device) for k, v in with_prefix(state, "history").items()}
        epochs = history["val/loss"].shape[1]
        self.history = [{k: v[:, epoch] for k, v in history.items()} for epoch in range(epochs)]
        if self.schedule is not None:
            steps = int(state["steps"])
            self.schedule.load_state_dict({"last_epoch": steps - 1, "_step_count": steps + 1})
            self.schedule.step()

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics of all epochs, ``(M, E)`` by name."""
        names = self.history[0]
        return {name: torch.stack([epoch[name] for epoch in self.history], 1) for name in names}
