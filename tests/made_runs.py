"""Made-up runs in the shape that `tracking.reading.read_runs` returns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bikefit.comparison.ranking import rank
from bikefit.comparison.runs import run_table
from bikefit.comparison.verdicts import verdicts, with_verdicts

SETTINGS: dict[str, Any] = yaml.safe_load("""
  {data.name: full, data.fraction: 1.0, loss: poisson, optimizer.name: adam, optimizer.lr: 0.001,
   training.epochs: 40, validation.name: holdout, validation.folds: 1, regularization.name: none,
   regularization.l1: 0.0, regularization.l2: 0.0, regularization.lp: 0.0,
   regularization.p_norm: 1.5, regularization.on: all, regularization.weight_decay: 0.0,
   regularization.dropout: 0.0, regularization.batch_norm: none}
""")


def make_table(rows: Sequence[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Return the run table of rows of `read_runs`, with the losses by day if they have them."""
    runs = pd.DataFrame(rows)
    return run_table(runs).join(runs[runs.columns.intersection(["days"])])


def make_ranking(table: pd.DataFrame) -> pd.DataFrame:
    """Return the ranking of a run table, with verdicts."""
    return with_verdicts(rank(table), verdicts(table))


def make_run(
    method: str = "none",
    hidden: str = "[256,256]",
    seed: int = 0,
    train: float = 5.0,
    val: float = 7.0,
    failure: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return one row of `read_runs`; without losses if there is a failure."""
    network = "mlp" if hidden != "[]" else "linear"
    label = f"{network} {hidden.strip('[]').replace(',', '×')}".strip()
    kinds = (re.sub(r" (λ=|p=|before|after|\d).*", "", part) for part in method.split(" + "))
    row: dict[str, Any] = SETTINGS | {
        "tags.method.kind": " + ".join(dict.fromkeys(kinds)),
        "tags.network.label": label,
        "tags.data.target": "rentals",
        "tags.data.unit": "bikes/hour",
        "run_id": f"{method}-{hidden}-{seed}",
        "name": f"{method} · {label} · seed {seed}",
        "status": "FAILED" if failure else "FINISHED",
        "method": method,
        "seed": seed,
        "network.name": network,
        "network.hidden": hidden,
        "network.activation": "gelu" if network == "mlp" else "identity",
    }
    if failure:
        return row | {"tags.failure": failure} | more
    row |= {"gap": val - train, "best/epoch": 40.0}
    for part, loss in (("train", train), ("val", val)):
        names = (f"best/{part}/{name}" for name in ("loss", "rmse", "deviance"))
        row |= dict(zip(names, (loss, 10 * loss, 2 * loss), strict=True))
    return row | more


# Mean train and validation loss of configurations: of methods with the large network, of networks.
METHODS: dict[str, list[float]] = yaml.safe_load("""
  {none: [2.6, 9.4], l1 λ=0.0001: [3.4, 8.5], l1 λ=0.001: [5.4, 7.2], l1 λ=0.01: [14.0, 14.6],
   l2 λ=0.0001: [3.0, 8.9], l2 λ=0.001: [4.1, 7.7], l2 λ=0.01: [7.1, 8.4],
   weight decay λ=0.01: [2.8, 9.1], weight decay λ=0.1: [3.5, 8.3], weight decay λ=1: [5.9, 7.4],
   dropout p=0.1: [3.2, 7.3], dropout p=0.2: [3.9, 6.9], dropout p=0.3: [4.6, 6.95],
   dropout p=0.5: [7.2, 8.0], batch norm before: [2.3, 8.1], batch norm after: [2.4, 8.0],
   early stopping 5: [4.4, 7.6], early stopping 10: [3.9, 7.8],
   l2 λ=0.0001 + dropout p=0.2: [4.2, 6.8], dropout p=0.2 + batch norm before: [3.7, 7.05]}
""")
NETWORKS: dict[str, list[float]] = yaml.safe_load("""
  {"[]": [33.0, 34.0], "[4]": [19.0, 20.1], "[16]": [10.2, 11.4], "[64]": [6.3, 8.9],
   "[64,64]": [4.4, 8.8], "[1024,1024]": [1.6, 10.4]}
""")


def make_sweep() -> pd.DataFrame:
    """Return a run table of 26 configurations with three seeds each, as in a full comparison."""
    random = np.random.default_rng(0)
    configurations = [(method, "[256,256]", losses) for method, losses in METHODS.items()]
    configurations += [("none", hidden, losses) for hidden, losses in NETWORKS.items()]
    rows = []
    for method, hidden, (train, val) in configurations:
        for seed in range(3):
            noise = random.normal(0, 0.02, 2) + np.array([0, 0.01 * (seed - 1)])
            rows.append(
                make_run(method, hidden, seed, train * (1 + noise[0]), val * (1 + noise[1]))
            )
    return make_table(rows)
