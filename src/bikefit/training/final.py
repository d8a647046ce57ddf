"""What is measured once, when a stack has trained, at the members' selected epochs."""

from __future__ import annotations

from collections.abc import Mapping

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


# Times as far as a look ahead went. With a tenth of the epochs at a tenth of the learning rate, a
# hundred is about as far as training went.
AHEAD = tuple(2**power for power in range(11))


@torch.no_grad()
def unfinished(module: StackModule, end: Mapping[str, Tensor]) -> Tensor:
    """Measure how much lower the train loss would become if members trained on.

    A learning-rate schedule that ends at almost nothing flattens every loss curve, so that its
    last slope says nothing; training on for a little while does. Where it finds less, steps of
    growing length are taken on along the straight line that it went, as long as each finds less:
    where a learning rate was far too low, a little while is too short to see much.

    Args:
        module: with the parameters to which a look ahead has led.
        end: :meth:`bikefit.nn.stacking.Stack.state` at the end of the training itself.

    Returns:
        The largest fall that a step found, as a share of the train loss, ``(M,)``; 0 where none
        lowers it. The stack is left at the last step.
    """
    stack, there = module.stack, module.stack.state()
    stack.load(end)
    here = lowest = _train_losses(module)
    going = torch.ones_like(here, dtype=torch.bool)
    for step in AHEAD:
        # running variances of batch norm must not become negative
        stack.load({
            name: value.lerp(there[name], step).clamp_min(0.0 if "var" in name else -torch.inf)
            for name, value in end.items()
        })  # fmt: skip
        found = _train_losses(module)
        going &= found < lowest  # each member by itself, whoever else goes on
        if not going.any():
            break
        lowest = torch.where(going, found, lowest)
    return (here - lowest) / here


def _train_losses(module: StackModule) -> Tensor:
    """Return the members' mean loss on their training rows in evaluation mode, ``(M,)``."""
    rows = module.rows
    loss = Loss(module.loss_name, rows.target_mean, rows.target_std)
    total = torch.zeros_like(rows.counts[0])
    for start in range(0, len(rows.target), CHUNK):
        target, masks = rows.chunk(start)
        if not masks[0].any():
            continue
        values = loss.rows(module.outputs(start), target)
        total += torch.where(masks[0] > 0, values, 0.0).sum(-1, dtype=torch.float64)
    return total / rows.counts[0]


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
    widths = dropped_units(module.stack, rows.features.shape[1])
    noise = DropoutNoise(module.seeds, widths, purpose="averaging")
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
