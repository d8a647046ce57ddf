"""The table of a cross-validated sweep: what each fold says of each configuration."""

from __future__ import annotations

import pandas as pd

from bikefit.comparison.parts import FOLDS
from bikefit.comparison.ranking import comparison
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError


def fold_deviances(runs: pd.DataFrame) -> pd.DataFrame:
    """Read the held-out deviance of every fold of every job of a cross-validated sweep.

    Args:
        runs: as :func:`bikefit.tracking.reading.read_runs` gives them.

    Returns:
        A row a job with ``configuration``, ``table``, ``seed``, ``train`` (mean deviance on the
        training rows) and one column a fold (0, 1, …), all in bikes/hour, in the order of `runs`.

    Raises:
        TrackingError: the sweep was not cross-validated, or no job of it finished.
    """
    table = comparison(runs)
    table = table[(table["status"] == "FINISHED") & (table["folds"] > 1)]
    if table.empty:
        raise TrackingError("no finished run with validation=kfold in this sweep")
    folds = pd.DataFrame(
        [reading.read_steps(run, FOLDS.format("deviance")) for run in table["run_id"]],
        index=table.index,
    )
    kept = table[["configuration", "table", "seed"]]
    return pd.concat([kept, table["train_deviance"].rename("train"), folds], axis=1)


def fold_table(runs: pd.DataFrame) -> str:
    """Write a cross-validated sweep as a Markdown table, configurations in their order.

    The mean is over folds and seeds, ± the standard deviation over seeds; each fold is a mean
    over seeds.
    """
    jobs = fold_deviances(runs)
    names = [column for column in jobs if isinstance(column, int)]
    lines = [
        "| configuration | table | seeds | mean | " + " | ".join(f"fold {n + 1}" for n in names)
        + " | on training rows |",
        "|:--|:--|--:|--:|" + "--:|" * (len(names) + 1),
    ]  # fmt: skip
    for (configuration, table), group in jobs.groupby(["configuration", "table"], sort=False):
        means = group[names].mean(axis=1)
        spread = f" ± {means.std():.2f}" if len(group) > 1 else ""
        folds = " | ".join(f"{group[n].mean():.2f}" for n in names)
        lines.append(
            f"| {configuration} | {table} | {len(group)} | **{means.mean():.2f}**{spread} "
            f"| {folds} | {group['train'].mean():.2f} |"
        )
    return "\n".join(lines)
