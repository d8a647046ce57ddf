"""What a comparison leaves in a folder: tables, numbers for DVC, and the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bikefit.comparison.ranking import winner
from bikefit.comparison.result import Comparison
from bikefit.comparison.runs import ranking_metric
from bikefit.comparison.verdicts import count_verdicts
from bikefit.data.files import atomic_write, write_json
from bikefit.tracking import writing
from bikefit.tracking.connection import TrackingError

WINNER = (
    "train_loss", "val_loss", "val_loss_std", "val_loss_se", "gap", "val_rmse", "val_deviance",
)  # fmt: skip


def write_reports(found: Comparison, folder: Path, address: str | None = None) -> None:
    """Write the comparison of a sweep, and attach its table and its pictures to the sweep's run.

    Args:
        found: what was compared.
        folder: Folder to write to.
        address: see :func:`bikefit.comparison.report.write_report`.

    Raises:
        TrackingError: no run of the sweep has a result.
    """
    from bikefit.comparison.figures import save
    from bikefit.comparison.report import write_report

    table, ranking = found.runs, found.ranking
    if winner(ranking) is None:
        reasons = "; ".join(table["failure"].dropna().astype(str).head(3)) or "none is recorded"
        raise TrackingError(
            f"sweep {found.sweep}: no run has a result; reasons: {reasons}"
        )  # fmt: skip
    write_csv(folder / "comparison.csv", table)
    write_json(folder / "metrics.json", metrics(ranking) | {"verdicts": count_verdicts(ranking)})
    write_csv(folder / "plots/losses.csv", losses(ranking))
    write_csv(folder / "plots/learning_curves.csv", found.learning_curves)
    pictures = {"comparison.png": found.train_against_validation(), "curves.png": found.curves()}
    for name, figure in pictures.items():
        with atomic_write(folder / name) as temporary:
            save(figure, temporary)
    write_report(found, folder / "report.html", address)
    written = ("comparison.csv", *pictures)
    writing.log_files(found.sweep, [folder / name for name in written])


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def metrics(ranking: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers for `dvc metrics show`: the winner, and the best of each kind."""
    best = ranking.dropna(subset=[f"val_{ranking_metric(ranking)}"]).drop_duplicates("kind")
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
    name = ranking_metric(ranking)
    columns = {
        "configuration": "configuration",
        f"train_{name}": "train",
        f"val_{name}": "validation",
    }
    return ranking[list(columns)].rename(columns=columns).dropna()
