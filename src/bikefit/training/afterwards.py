"""What is measured once, when a stack has trained, at the members' selected epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from bikefit.nn.losses import Loss
from bikefit.nn.randomness import DropoutNoise
from bikefit.training.data import CHUNK, PIECE
from bikefit.training.module import StackModule
from bikefit.training.strengths import dropped_units


@torch.no_grad()
def predictions(module: StackModule) -> Tensor:
    """Return every member's prediction of all rows (bikes/hour), ``(M, N)``."""
    loss = Loss(module.loss_name, module.rows.target_mean, module.rows.target_std)
    chunks = range(0, len(module.rows.target), CHUNK)
    parts = [loss.predict(module.outputs(start)) for start in chunks]
    return torch.cat(parts, dim=1)


@torch.no_grad()
def constant_losses(module: StackModule) -> dict[str, Tensor]:
    """Measure a constant prediction, the mean of the member's training rows.

    Returns:
        ``constant/train/loss`` and ``constant/val/loss``, ``(M,)`` each: what a network must
        undercut to have learned anything.
    """
    rows = module.rows
    loss = Loss(module.loss_name, rows.target_mean, rows.target_std)
    sums = torch.zeros_like(rows.counts)
    for start in range(0, len(rows.target), CHUNK):
        target, masks = rows.chunk(start)
        values = loss.rows(torch.zeros_like(target), target)
        sums += (masks * values).sum(-1, dtype=torch.float64)
    means = sums / rows.counts
    return {"constant/train/loss": means[0], "constant/val/loss": means[1]}


# Times as far as a look ahead went. With a tenth of the epochs at a tenth of the learning rate, a
# hundred is about as far as training went.
AHEAD = tuple(2**power for power in range(11))


@torch.no_grad()
def unfinished(module: StackModule, end: Mapping[str, Tensor]) -> Tensor:
    """Measure by how much the loss would still fall if members trained on.

    A learning-rate schedule that ends at almost nothing flattens every loss curve, so that its
    last slope says nothing; training on for a little while does. Where a learning rate was far
    too low, a little while is too short to see much: steps of growing length are taken on along
    the straight line that it went, as long as each finds a lower objective. The train loss alone
    would not do there: a penalty or dropout keeps it up, so that many a line lowers it.

    Args:
        module: with the parameters to which a look ahead has led.
        end: :meth:`bikefit.nn.stacking.Stack.state` at the end of the training itself.

    Returns:
        The fall of the train loss in the look ahead, or the largest one of the objective on the
        line if that is more, as a share of the train loss, ``(M,)``; 0 where neither falls. The
        stack is left at the last step.
    """
    stack, there = module.stack, module.stack.state()
    train = losses(module, "train")
    stack.load(end)
    here = losses(module, "train")
    first = lowest = _objective(module)
    going = torch.ones_like(here, dtype=torch.bool)
    for step in AHEAD:
        # running variances of batch norm must not become negative
        stack.load({
            name: value.lerp(there[name], step).clamp_min(0.0 if "var" in name else -torch.inf)
            for name, value in end.items()
        })  # fmt: skip
        found = _objective(module)
        going &= found < lowest  # each member by itself, whoever else goes on
        if not going.any():
            break
        lowest = torch.where(going, found, lowest)
    return torch.maximum(here - train, first - lowest).clamp_min(0.0) / here


def _objective(module: StackModule) -> Tensor:
    """What members train for, ``(M,)``; the noise of dropout is the same at every call."""
    return losses(module, "train", noisy=True) + module.penalty_values()["train/penalty"]


@torch.no_grad()
def losses(module: StackModule, part: Literal["train", "val"], noisy: bool = False) -> Tensor:
    """Return the members' mean loss on their training or validation rows, ``(M,)``.

    Args:
        module: of the members.
        part: which rows.
        noisy: with units dropped, as dropout trains; else in evaluation mode.
    """
    rows, which = module.rows, ("train", "val").index(part)
    loss = Loss(module.loss_name, rows.target_mean, rows.target_std)
    noise = _noise(module, purpose="unfinished") if noisy else None
    size = PIECE if noise is not None and noise.widths else CHUNK
    total = torch.zeros_like(rows.counts[which])
    for start in range(0, len(rows.target), size):
        piece = slice(start, min(start + size, len(rows.target)))
        target, mask = rows.target[piece], rows.masks[which][rows.fold_of, piece]
        if not mask.any():
            continue
        drawn = noise.draw(len(target)) if noise is not None else None
        values = loss.rows(module.evaluate(piece, drawn), target)
        total += torch.where(mask > 0, values, 0.0).sum(-1, dtype=torch.float64)
    return total / rows.counts[which]


def _noise(module: StackModule, purpose: str) -> DropoutNoise:
    widths = dropped_units(module.stack, module.rows.features.shape[1])
    return DropoutNoise(module.seeds, widths, purpose)


@torch.no_grad()
def average(module: StackModule, samples: int) -> dict[str, Tensor]:
    """Measure the mean prediction of ``samples`` thinned networks of each member.

    Monte-Carlo model averaging, on validation rows. A network with dropout stands for an ensemble
    of all its thinned networks; scaling at test time approximates their average, sampling
    computes it (Gal and Ghahramani 2016).

    Returns:
        ``averaged/val/loss``, ``…/rmse`` (bikes/hour), ``…/deviance`` of the mean prediction, and
        ``averaged/val/spread``, the mean standard deviation over the samples (bikes/hour);
        ``(M,)`` each.
    """
    rows = module.rows
    loss = Loss(module.loss_name, rows.target_mean, rows.target_std)
    noise = _noise(module, purpose="averaging")
    sums = torch.zeros(4, module.stack.size, dtype=torch.float64, device=rows.features.device)
    for start in range(0, len(rows.target), CHUNK):
        target, masks = rows.chunk(start)
        chunk = slice(start, start + len(target))
        drawn = torch.stack(
            [loss.predict(module.evaluate(chunk, noise.draw(len(target)))) for _ in range(samples)]
        )
        mean, spread = drawn.mean(dim=0), drawn.std(dim=0, correction=0)
        output = loss.output(mean)
        values = (
            loss.rows(output, target), (mean - target) ** 2, loss.deviance(output, target), spread,
        )  # fmt: skip
        sums += torch.where(masks[1] > 0, torch.stack(values), 0.0).sum(-1, dtype=torch.float64)
    means = sums / rows.counts[1]
    names = ("loss", "rmse", "deviance", "spread")
    found = {f"averaged/val/{name}": value for name, value in zip(names, means, strict=True)}
    return found | {"averaged/val/rmse": means[1].sqrt()}
