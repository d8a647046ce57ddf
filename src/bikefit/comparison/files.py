"""The files of a comparison: tables, numbers for DVC, pictures and the report."""

from __future__ import annotations

import math
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

BEST_METRICS = ["val_loss", "val_rmse"]
WINNER_METRICS = [
    "train_loss",
    "val_loss",
    "val_loss_std",
    "val_loss_se",
    "gap",
    "val_rmse",
    "val_deviance",
]


def write_reports(comparison: Comparison, folder: Path, address: str | None = None) -> None:
    """Write tables, pictures and the report, and attach them to the sweep's run.

    Args:
        comparison: Comparison of a sweep.
        folder: Folder to write to.
        address: Address of MLflow's pages in the report's links; the one in use if None.

    Raises:
        TrackingError: No run of the sweep has a result.
    """
    from bikefit.comparison.charts import save
    from bikefit.comparison.report import render_report

    table, ranking = comparison.runs, comparison.ranking
    if winner(ranking) is None:
        reasons = "; ".join(table["failure"].dropna().astype(str).head(3)) or "none is recorded"
        sweep = comparison.sweep
        raise TrackingError(f"sweep {sweep}: no run has a result; reasons: {reasons}")
    _write_csv(folder / "comparison.csv", table)
    write_json(folder / "metrics.json", _metrics(ranking) | {"verdicts": count_verdicts(ranking)})
    _write_csv(folder / "plots/losses.csv", _losses(ranking))
    _write_csv(folder / "plots/learning_curves.csv", comparison.learning_curves)
    for name, figure in (
        ("comparison.png", comparison.train_against_validation()),
        ("curves.png", comparison.curves()),
    ):
        with atomic_write(folder / name) as temporary:
            save(figure, temporary)
    with atomic_write(folder / "report.html") as temporary:
        temporary.write_text(render_report(comparison, address), encoding="utf-8")
    attached = ("comparison.csv", "comparison.png", "curves.png", "report.html")
    writing.log_files(comparison.sweep, [folder / name for name in attached])


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _metrics(ranking: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers for `dvc metrics show`: the winner, and the best of each kind."""
    by_kind = ranking.dropna(subset=[f"val_{ranking_metric(ranking)}"]).drop_duplicates("kind")
    return {
        "runs": int(ranking["runs"].sum()),
        "failed": int(ranking["failed"].sum()),
        "winner": {
            "seeds": int(ranking["seeds"].iloc[0]),
            **_numbers(ranking.iloc[0], WINNER_METRICS),
        },
        "best": {row["kind"]: _numbers(row, BEST_METRICS) for _, row in by_kind.iterrows()},
    }


def _numbers(row: pd.Series, names: list[str]) -> dict[str, Any]:
    """Return a configuration and its metrics without NaN."""
    values = {name: float(row[name]) for name in names if math.isfinite(row[name])}
    return {"configuration": row["configuration"], **values}


def _losses(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return mean train and validation loss of each configuration, best first."""
    metric = ranking_metric(ranking)
    names = {f"train_{metric}": "train", f"val_{metric}": "validation"}
    return ranking[["configuration", *names]].rename(columns=names).dropna()
