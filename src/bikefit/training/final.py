"""What is measured once, when a stack has trained, at the members' selected epochs."""

from __future__ import annotations

import torch
from torch import Tensor

from bikefit.nn.losses import Loss
from bikefit.nn.randomness import DropoutNoise
from bikefit.training.data import CHUNK
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
    widths = dropped_units(stack, rows.features.shape[1])
    noise = DropoutNoise(module.seeds, widths, purpose="averaging")
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
