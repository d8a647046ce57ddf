"""What a comparison leaves in a folder: tables, numbers for DVC, and the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bikefit import tracking
from bikefit.comparison.ranking import measure, winner
from bikefit.comparison.verdicts import counts
from bikefit.data.files import replacing, write_json

if TYPE_CHECKING:
    from bikefit.comparison.compared import Comparison

PARTS = {"train": "train", "val": "validation"}
WINNER = (
    "train_loss", "val_loss", "val_loss_std", "val_loss_se", "gap", "val_rmse", "val_deviance",
)  # fmt: skip


def write_reports(found: Comparison, folder: Path) -> None:
    """Write the comparison of a sweep, and attach its table and its pictures to the sweep's run.

    Args:
        found: what was compared.
        folder: where to write.

    Raises:
        TrackingError: no run of the sweep has a result.
    """
    from bikefit.comparison.figures import save

    table, ranking = found.runs, found.ranking
    if winner(ranking) is None:
        reasons = "; ".join(table["failure"].dropna().astype(str).head(3)) or "none is recorded"
        raise tracking.TrackingError(
            f"sweep {found.sweep}: no run has a result; reasons: {reasons}"
        )  # fmt: skip
    write_csv(folder / "comparison.csv", table)
    write_json(folder / "metrics.json", metrics(ranking) | {"verdicts": counts(ranking)})
    write_csv(folder / "plots/losses.csv", losses(ranking))
    write_csv(folder / "plots/learning_curves.csv", found.learning_curves)
    pictures = {"comparison.png": found.train_against_validation(), "curves.png": found.curves()}
    for name, figure in pictures.items():
        with replacing(folder / name) as temporary:
            save(figure, temporary)
    written = ("comparison.csv", *pictures)
    tracking.log_files(found.sweep, [folder / name for name in written])


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def metrics(ranking: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers for `dvc metrics show`: the winner, and the best of each kind."""
    best = ranking.dropna(subset=[f"val_{measure(ranking)}"]).drop_duplicates("kind")
    return {
        "runs": int(ranking["runs"].sum()),
        "failed": int(ranking["failed"].sum()),
        "winner": {"seeds": int(ranking["seeds"].iloc[0])} | _numbers(ranking.iloc[0], WINNER),
        "best": {
            row["kind"]: _numbers(row, ("val_loss", "val_rmse")) for _, row in best.iterrows()
        },
    }


def _numbers(row: pd.Series, names: Sequence[str]) -> dict[str, Any]:
    """A configuration and its measures; one that is undefined is left out."""
    values = {name: float(row[name]) for name in names if math.isfinite(row[name])}
    return {"configuration": row["configuration"], **values}


def losses(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return mean train and validation loss of each configuration, best first."""
    name = measure(ranking)
    columns = {
        "configuration": "configuration",
        f"train_{name}": "train",
        f"val_{name}": "validation",
    }
    return ranking[list(columns)].rename(columns=columns).dropna()


def learning_curves(table: pd.DataFrame, ranking: pd.DataFrame) -> pd.DataFrame:
    """Return losses epoch by epoch of three configurations that show the recipe's step 6.

    Returns:
        One row an epoch, means over seeds up to the epoch that all of them reached: columns
        ``winner train``, ``winner validation``; the same of ``unregularized``, the one without
        regularization that has the lowest train loss; and of ``most underfitting``, the one with
        the highest train loss. Without any unregularized run its columns are absent.
    """
    finished = ranking.dropna(subset=["train_loss"])
    free = finished[finished["kind"] == "none"]
    chosen = {"winner": finished.index[0]}
    if len(free):
        chosen["unregularized"] = free["train_loss"].idxmin()
    chosen["most underfitting"] = finished["train_loss"].idxmax()
    columns: dict[str, pd.Series] = {}
    for role, place in chosen.items():
        runs = table[table["configuration"] == ranking["configuration"][place]]
        runs = runs.dropna(subset=["train_loss"])
        for part, words in PARTS.items():
            histories = [history(run, f"{part}/loss") for run in runs["run_id"]]
            columns[f"{role} {words}"] = pd.DataFrame(histories).T.mean(axis=1, skipna=False)
    curves = pd.DataFrame(columns).dropna(how="all")
    return curves.rename_axis("epoch").rename(lambda epoch: epoch + 1).reset_index()


def history(run: str, metric: str) -> list[float]:
    """A run's loss by epoch; of a run that only holds folds, the mean of what they all reached."""
    own = tracking.read_history(run, metric)
    if own:
        return own
    folds = [
        tracking.read_history(fold, metric) for fold in tracking.read_runs(run).get("run_id", [])
    ]
    return [sum(values) / len(values) for values in zip(*folds, strict=False)]
