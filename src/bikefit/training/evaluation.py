"""Evaluation of a trained stack: predictions, losses, model averaging, unfinished training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bikefit.nn.losses import ROOTS
from bikefit.training.data import CHUNK, PIECE
from bikefit.training.module import StackModule

# Distances from the state before the probe, in units of the distance that the probe moved. A probe
# has a tenth of the epochs and of the learning rate, so training moves about 100 units.
LINE_STEPS = tuple(2**power for power in range(11))


@torch.no_grad()
def predictions(module: StackModule) -> Tensor:
    """Return the predictions of all rows by each member, ``(M, N)``."""
    parts = [module.loss.predict(module.outputs(rows)) for rows in module.rows.pieces()]
    return torch.cat(parts, dim=1)


@torch.no_grad()
def constant_losses(module: StackModule) -> dict[str, Tensor]:
    """Return the losses of predicting the mean of each member's training rows.

    Returns:
        ``constant/train/loss`` and ``constant/val/loss``, ``(M,)`` each.
    """
    sums = torch.zeros_like(module.rows.counts)
    for rows in module.rows.pieces():
        target = module.rows.target[rows]
        values = module.loss.rows(torch.zeros_like(target), target)
        sums += (module.rows.member_masks(rows) * values).sum(-1, dtype=torch.float64)
    train, val = sums / module.rows.counts
    return {"constant/train/loss": train, "constant/val/loss": val}


@torch.no_grad()
def remaining_decrease(module: StackModule, end: Mapping[str, Tensor]) -> Tensor:
    """Estimate how much further training would lower the loss, as a fraction of the train loss.

    The estimate is the larger of two values: the decrease of the train loss during the probe, and
    the largest decrease of the objective on the line through the states before and after the
    probe. The line is followed in doubling steps while the objective falls, which detects a
    learning rate that was far too low.

    Args:
        module: Module after the probe; its parameters change.
        end: State of the stack before the probe.

    Returns:
        Estimates, ``(M,)``, at least 0.
    """
    stack, probed = module.stack, module.stack.state()
    after = train_losses(module)
    stack.load(end)
    before = train_losses(module)
    start = lowest = _objective(module)
    falls = torch.ones_like(before, dtype=torch.bool)
    for step in LINE_STEPS:
        # Running variances of batch norm must not become negative.
        line = {
            name: value.lerp(probed[name], step).clamp_min(0.0 if "var" in name else -torch.inf)
            for name, value in end.items()
        }
        stack.load(line)
        objective = _objective(module)
        falls &= objective < lowest  # each member independently of the others
        if not falls.any():
            break
        lowest = torch.where(falls, objective, lowest)
    return torch.maximum(before - after, start - lowest).clamp_min(0.0) / before


def _objective(module: StackModule) -> Tensor:
    """Return the objective of each member, ``(M,)``, with the same dropout noise in each call."""
    return train_losses(module, noisy=True) + module.penalty_values()["train/penalty"]


@torch.no_grad()
def train_losses(module: StackModule, noisy: bool = False) -> Tensor:
    """Return the mean loss of each member on its training rows, ``(M,)``.

    Args:
        module: Module of the stack.
        noisy: Whether to drop units as in training.
    """
    rows = module.rows
    noise = module.make_noise("unfinished") if noisy else None
    total = torch.zeros_like(rows.counts[0])
    for piece in rows.pieces(PIECE if noise is not None and noise.widths else CHUNK):
        target, mask = rows.target[piece], rows.member_masks(piece)[0]
        if not mask.any():
            continue
        drawn = noise.draw(len(target)) if noise is not None else None
        values = module.loss.rows(module.outputs(piece, drawn), target)
        total += torch.where(mask > 0, mask * values, 0.0).sum(-1, dtype=torch.float64)
    return total / rows.counts[0]


@torch.no_grad()
def evaluate_average(module: StackModule, samples: int) -> dict[str, Tensor]:
    """Return metrics of the mean prediction of ``samples`` thinned networks of each member.

    This is Monte-Carlo model averaging: a network with dropout is an ensemble of its thinned
    networks. Scaling at test time approximates their mean; sampling estimates it (Gal and
    Ghahramani 2016).

    Returns:
        ``averaged/val/loss`` and the other measures of the loss for the mean prediction, and
        ``averaged/val/spread``, the mean standard deviation over the samples, in the unit of the
        target; ``(M,)`` each.
    """
    rows, loss = module.rows, module.loss
    noise = module.make_noise("averaging")
    sums: dict[str, Tensor] = {}
    for piece in rows.pieces():
        target, mask = rows.target[piece], rows.member_masks(piece)[1]
        drawn = [module.outputs(piece, noise.draw(len(target))) for _ in range(samples)]
        predicted = loss.predict(torch.stack(drawn))
        mean, spread = predicted.mean(dim=0), predicted.std(dim=0, correction=0)
        output = loss.output(mean)
        values = {name: value(loss, output, target) for name, value in loss.measures.items()}
        for name, value in {**values, "spread": spread}.items():
            total = torch.where(mask > 0, value, 0.0).sum(-1, dtype=torch.float64)
            sums[name] = sums.get(name, 0.0) + total
    means = {name: total / rows.counts[1] for name, total in sums.items()}
    return {
        f"averaged/val/{name}": mean.sqrt() if name in ROOTS else mean
        for name, mean in means.items()
    }
