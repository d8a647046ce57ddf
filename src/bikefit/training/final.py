"""What is measured once, when a stack has trained, at the members' selected epochs."""

from __future__ import annotations

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


AHEAD = (0.25, 0.5, 1, 2, 4, 8, 16)  # steps, as shares of the way that the second half went


@torch.no_grad()
def unfinished(module: StackModule) -> dict[str, Tensor]:
    """Measure how much training would still gain if members went on as they went.

    From where a member stands, steps of growing length are taken, as long as each finds less, on
    along the straight line from its parameters in the middle of training to those at the end. A
    learning-rate schedule that ends at almost nothing flattens every loss curve, so that its last
    slope says nothing; but where training was cut short, the way that was gone still leads down.

    Args:
        module: with the parameters of the last epoch.

    Returns:
        ``unfinished``, ``(M,)``: the largest fall of the objective, the penalty included, that a
        step found, as a share of the train loss; 0 where none lowers it. Nothing for a single
        epoch, which has no middle.
    """
    if not module.halfway:
        return {}
    stack, end = module.stack, module.stack.state()
    train = _thinned_train_loss(module)
    here = lowest = train + _penalty(module)
    going = torch.ones_like(here, dtype=torch.bool)
    for step in AHEAD:
        # running variances of batch norm must not become negative
        ahead = {
            name: value.lerp(end[name], 1 + step).clamp_min(0.0 if "var" in name else -torch.inf)
            for name, value in module.halfway.items()
        }
        stack.load(ahead)
        found = _thinned_train_loss(module) + _penalty(module)
        # each member by itself, whoever else goes on
        going &= found < lowest
        if not going.any():
            break
        lowest = torch.where(going, found, lowest)
    stack.load(end)
    return {"unfinished": (here - lowest) / train}


def _penalty(module: StackModule) -> Tensor:
    return module.penalty_values()["train/penalty"]


def _thinned_train_loss(module: StackModule) -> Tensor:
    """Return the members' mean loss on their training rows with units dropped, ``(M,)``.

    That is what dropout trains for. The noise is the same at every call.
    """
    rows, stack = module.rows, module.stack
    loss = Loss(module.loss_name, rows.target_mean, rows.target_std)
    noise = _noise(module, purpose="unfinished")
    size = PIECE if noise.widths else CHUNK
    total = torch.zeros_like(rows.counts[0])
    for start in range(0, len(rows.target), size):
        piece = slice(start, start + size)
        target, mask = rows.target[piece], rows.masks[0][rows.fold_of, piece]
        if not mask.any():
            continue
        if noise.widths:
            output = stack.subnetworks(rows.seen(piece), noise.draw(len(target)))
        else:
            output = module.outputs(start)
        values = loss.rows(output, target)
        total += torch.where(mask > 0, values, 0.0).sum(-1, dtype=torch.float64)
    return total / rows.counts[0]


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
    rows, stack = module.rows, module.stack
    loss = Loss(module.loss_name, rows.target_mean, rows.target_std)
    noise = _noise(module, purpose="averaging")
    sums = torch.zeros(4, stack.size, dtype=torch.float64, device=rows.features.device)
    for start in range(0, len(rows.target), CHUNK):
        features, (target, masks) = rows.seen(slice(start, start + CHUNK)), rows.chunk(start)
        drawn = torch.stack(
            [
                loss.predict(stack.subnetworks(features, noise.draw(len(target))))
                for _ in range(samples)
            ]
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
