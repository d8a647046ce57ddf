"""What regularization does to the weights: their distribution, and their path along a strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from bikefit.comparison.figures import GREY, ROLES, drawn, legend_below, panel, title

Weights = Mapping[str, np.ndarray]
PATHS = 40  # single weights that are followed along a strength
BINS = 60


def matrices(weights: Weights) -> dict[str, np.ndarray]:
    """Keep the weights of layers in the order of names; biases and norms are left out."""
    return {
        name.split(".")[0]: values
        for name, values in sorted(weights.items())  # files keep no order
        if name.endswith("weight") and values.ndim > 1
    }


def distribution(layer: str, runs: Mapping[str, np.ndarray]) -> Figure:
    """Draw how the weights of a layer are distributed, a curve for each role."""
    flat = {role: values.ravel() for role, values in runs.items()}
    reach = max(float(np.quantile(np.abs(values), 0.999)) for values in flat.values()) or 1.0
    edges = np.linspace(-reach, reach, BINS + 1)
    with panel(4.7, 3.3) as axes:
        for role, values in flat.items():
            counts, _ = np.histogram(np.clip(values, -reach, reach), edges)
            label = f"{role} (standard deviation {values.std():.2g})"
            axes.stairs(100 * counts / values.size, edges, color=ROLES[role], linewidth=1.5,
                        label=label)  # fmt: skip
        axes.set(xlabel=f"weight of {layer}", ylabel="share of the weights (%)", yscale="log")
        legend_below(axes, columns=1)
        narrow = min(flat, key=lambda role: float(flat[role].std()))
        title(axes, f"{layer}: the smallest weights are those of the {narrow} run")
    return drawn(axes)


def path(
    label: str, places: np.ndarray, values: Sequence[float], weights: Sequence[Weights],
    logarithmic: bool,
) -> Figure:  # fmt: skip
    """Draw how weights change along a strength: quantiles of all, and a sample one by one.

    Args:
        label: of the strength.
        places: of its values on the axis, as :func:`bikefit.comparison.curves.positions` says.
        values: of the strength.
        weights: one network a value, of equal shapes and from the same seed.
        logarithmic: whether the axis is.
    """
    all_weights = np.stack(
        [np.concatenate([w.ravel() for w in matrices(one).values()]) for one in weights]
    )
    chosen = np.linspace(0, all_weights.shape[1] - 1, PATHS).astype(int)
    with panel() as axes:
        if logarithmic:
            axes.set_xscale("log")
        for low, high, words in ((0.05, 0.95, "90 % of all weights"), (0.25, 0.75, "half of them")):
            bounds = np.quantile(all_weights, [low, high], axis=1)
            axes.fill_between(places, *bounds, color="#0072B2", alpha=0.18, linewidth=0,
                              label=words)  # fmt: skip
        axes.plot(places, all_weights[:, chosen], color=GREY, alpha=0.5, linewidth=0.7)
        axes.plot([], [], color=GREY, linewidth=0.7, label=f"{PATHS} single weights")
        if logarithmic:
            axes.set_xticks(places, [f"{value:g}" for value in values], minor=False)
            axes.minorticks_off()
        axes.set(xlabel=label, ylabel="weight")
        legend_below(axes)
        spread = all_weights.std(axis=1)
        title(axes, f"Along {label}, the weights' standard deviation goes from "
                    f"{spread[0]:.2g} to {spread[-1]:.2g}")  # fmt: skip
    return drawn(axes)
