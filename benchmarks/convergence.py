"""Check whether training is finished: every network with the default epochs and with twice as many.

Networks of the default comparison, from linear to the largest, with three seeds each.
"""

from __future__ import annotations

import argparse
from itertools import product
from typing import Any

import joblib
import numpy as np
import pandas as pd
from benchmarks.common import fit, settings, table

from bikefit.comparison.verdicts import Thresholds, read_thresholds
from bikefit.config import regularization_label

PAGE = "benchmarks/convergence.md"
SEEDS = (0, 1, 2)
LARGE = "network.hidden=[128,128]"
STRENGTHS = {
    "l1": (0.01, 0.1),
    "l2": (0.1, 0.3, 1),
    "weight_decay": (1, 10),
    "dropout": (0.5, 0.7, 0.8, 0.9),
}
CASES = (
    ("network=linear",),
    *((f"network.hidden=[{width},{width}]",) for width in (3, 8, 32, 128, 256)),
    *((LARGE, f"regularization.{key}={value}") for key in STRENGTHS for value in STRENGTHS[key]),
)
HEAD = (
    *("table", "configuration", "learning rate", "train loss", "validation loss", "change"),
    *("`unfinished`", "longer training"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--tables", nargs="+", default=["rich", "full"])
    parser.add_argument("--processes", type=int, default=joblib.cpu_count())


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Train all cases in both lengths and return the table."""
    cases = pd.DataFrame(
        joblib.Parallel(options.processes)(
            joblib.delayed(measure_case)(name, case)
            for name, case in product(options.tables, CASES)
        )
    )
    best = cases[["val", "longer_val"]].min(axis=1)
    lowest = best.groupby(cases["table"]).transform("min")
    thresholds = read_thresholds()
    rows = [
        [
            case["table"],
            case["configuration"],
            f"{case['lr']:g}",
            f"{case['train']:.3f} → {case['longer_train']:.3f}",
            f"{case['val']:.3f} ± {case['spread']:.3f} → {case['longer_val']:.3f}",
            f"{case['longer_val'] - case['val']:+.3f}",
            f"{case['unfinished']:.1%}",
            effect(case, low, thresholds),
        ]
        for (_, case), low in zip(cases.iterrows(), lowest, strict=True)
    ]
    return {"convergence": table(HEAD, rows)}


def measure_case(name: str, case: tuple[str, ...]) -> dict[str, Any]:
    """Return the losses of a configuration on a table in both lengths, mean over the seeds."""
    base = settings(f"data={name}", *case)
    once, twice = (_train(f"data={name}", "optimizer=adamw", *case, factor=f) for f in (1, 2))
    network = "×".join(map(str, base.network.hidden)) or "linear"
    return {
        "table": name,
        "configuration": f"{regularization_label(base)} · {network}",
        "lr": base.optimizer.lr,
        "train": once["train/loss"].mean(),
        "longer_train": twice["train/loss"].mean(),
        "val": once["val/loss"].mean(),
        "spread": once["val/loss"].std(ddof=1),
        "longer_val": twice["val/loss"].mean(),
        "unfinished": once["unfinished"].mean(),
    }


def _train(*overrides: str, factor: int) -> dict[str, np.ndarray]:
    """Return the final losses of all seeds with `factor` times the default epochs, ``(S,)``."""
    base = settings(*overrides)
    training = base.training.model_copy(update={"epochs": factor * base.training.epochs})
    results = fit([base.model_copy(update={"training": training, "seed": seed}) for seed in SEEDS])
    last = {
        name: np.array([r.metrics[name][-1] for r in results])
        for name in ("train/loss", "val/loss")
    }
    return last | {"unfinished": np.array([r.final["unfinished"] for r in results])}


def effect(case: pd.Series, lowest: float, thresholds: Thresholds) -> str:
    """Return the effect of twice as many epochs as text; `benchmarks/convergence.md` explains it.

    Args:
        case: Result of `measure_case`.
        lowest: Validation loss of the table's best configuration in either length.
        thresholds: Thresholds of `conf/verdicts.yaml`.
    """
    change = case["longer_val"] - case["val"]
    if abs(change) <= 0.01 * case["val"]:
        return "finished"
    if abs(change) <= case["spread"]:
        return "within the noise"
    if change > 0:
        return "overfits more"
    behind = case["longer_val"] / lowest - 1
    reported = ", reported" if case["unfinished"] > thresholds.unfinished else ""
    rest = f"; still {behind:.0%} above the best" if behind > thresholds.close else ""
    return f"not finished{reported}{rest}"
