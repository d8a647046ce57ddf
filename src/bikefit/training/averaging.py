"""Monte-Carlo model averaging: the mean prediction of many thinned networks, and their spread."""

from __future__ import annotations

import torch
from torch import Tensor

from bikefit.nn.losses import Loss
from bikefit.nn.randomness import DropoutNoise
from bikefit.training.data import CHUNK
from bikefit.training.members import dropped_units
from bikefit.training.module import StackModule


@torch.no_grad()
def average(module: StackModule, samples: int) -> dict[str, Tensor]:
    """Measure the average of ``samples`` thinned networks of each member on validation rows.

    A network with dropout stands for an ensemble of all its thinned networks; scaling at test
    time approximates their average, sampling computes it.

    Returns:
        ``averaged/val/loss``, ``…/rmse`` (bikes/hour), ``…/deviance`` of the mean prediction, and
        ``averaged/val/spread``, the mean standard deviation over the samples (bikes/hour);
        ``(M,)`` each.
    """
    rows, stack = module.rows, module.stack
    loss = Loss(module.loss_name, rows.target_mean, rows.target_std)
    widths = dropped_units(stack, rows.features.shape[1])
    noise = DropoutNoise(module.seeds, widths, rows.features.device, purpose="averaging")
    sums = torch.zeros(4, stack.size, dtype=torch.float64, device=rows.features.device)
    for start in range(0, len(rows.target), CHUNK):
        features, target, masks = rows.chunk(start)
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
    means = sums / rows.masks[1, rows.fold_of].sum(-1, dtype=torch.float64)
    names = ("loss", "rmse", "deviance", "spread")
    found = {f"averaged/val/{name}": value for name, value in zip(names, means, strict=True)}
    return found | {"averaged/val/rmse": means[1].sqrt()}
