"""The refit: choose, fit, test once, fit on all rows, register."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from bikefit import tracking
from bikefit.data.files import write_json
from bikefit.data.stage import DataError
from bikefit.data.table import Table, read_table
from bikefit.data.transformer import load
from bikefit.final import baselines, calendar, fits
from bikefit.final.choice import Choice, choose
from bikefit.final.interval import Interval, calibrate
from bikefit.final.model import Ensemble, Model, spread_of
from bikefit.final.publish import REPORT, Tested, publish
from bikefit.final.report import UNREGULARIZED, WINNER, measure
from bikefit.final.rows import learn

CLEAN_FILE = Path("data/clean/hours.parquet")


@dataclass(frozen=True)
class Options:
    """What the user may choose.

    Args:
        one_standard_error: choose the least flexible near the best.
        seeds: members of the ensemble.
        name: of the registered model.
        promote: move the alias in any case.
        processes: that fit side by side; None for one a core.
    """

    one_standard_error: bool = False
    seeds: int = 8
    name: str = "bikefit"
    promote: bool = False
    processes: int | None = None


def refit(sweep: str, reports: Path, options: Options) -> dict[str, Any]:
    """Make a registered model of a sweep's winner; return and write the test's report.

    Raises:
        TrackingError: the sweep has no winner, or its runs do not hold what is needed.
        DataError: the table has no test rows, or the data are not there.
    """
    choice, plain = choose(sweep, options.one_standard_error)
    print(choice.why)
    table = read_table(choice.settings.data.path)
    parts = _parts(table)
    interval = _interval(choice)  # before the fits: what is missing must be found out at once
    known = in_time(parts["train"], parts["validation"])
    every = in_time(*parts.values())
    tested, final, free = _fit(choice, plain, table, known, every, options)
    test = _test(choice, table, parts, tested, free, interval)
    test.report["calendar_disagreements"] = calendar.disagreements(every)
    write_json(reports / REPORT, test.report)
    print(publish(choice, Model(final, interval, learn(every)), test, options.name,
                  options.promote))  # fmt: skip
    return test.report


def in_time(*parts: pd.DataFrame) -> pd.DataFrame:
    """Put clean rows of several parts together, in time order."""
    return pd.concat(parts).sort_values("timestamp", ignore_index=True)


def _parts(table: Table) -> dict[str, pd.DataFrame]:
    """Clean rows of the table by part."""
    if not CLEAN_FILE.exists():
        raise DataError(f"{CLEAN_FILE} not found: run `dvc repro clean`")
    parts = fits.parts(table, pd.read_parquet(CLEAN_FILE))
    if not len(parts["test"]):
        raise DataError(
            f"table {table.name} has no test rows: set featurize.tables.{table.name}.split.test "
            "in params.yaml above 0, or choose a sweep over another table"
        )
    for part, rows in parts.items():
        if len(rows) != table.rows[part]:
            raise DataError(f"{CLEAN_FILE} does not belong to {table.path}: run `dvc repro`")
    return parts


def _fit(
    choice: Choice, plain: Choice | None, table: Table, known: pd.DataFrame, every: pd.DataFrame,
    options: Options,
) -> tuple[Ensemble, Ensemble, Ensemble | None]:  # fmt: skip
    """The winner without test rows, the winner on all rows, the unregularized network."""
    tasks = [(choice, known), (choice, every), *([(plain, known)] if plain else [])]
    print(f"Fitting {len(tasks)} ensembles of {options.seeds} seeds …")
    processes = min(len(tasks), options.processes or joblib.cpu_count())
    found = joblib.Parallel(n_jobs=processes)(
        joblib.delayed(fits.fit)(one, table, rows, options.seeds) for one, rows in tasks
    )
    return found[0], found[1], found[2] if plain else None


def _interval(choice: Choice) -> Interval:
    """Calibrate on what the winner's runs predicted for rows that they were not trained on."""
    tables = [tracking.read_predictions(run) for run in choice.runs]
    if any(one is None for one in tables):
        raise tracking.TrackingError(
            f"a run of {choice.configuration} kept no predictions, which the interval is "
            "calibrated on: train with tracking.predictions=true"
        )
    seeds = [one.set_index("timestamp") for one in tables if one is not None]
    members = pd.concat([one["predicted"] for one in seeds], axis=1, join="inner")
    target = seeds[0]["rentals"].loc[members.index].to_numpy(np.float64)
    values = members.to_numpy(np.float64).T
    return calibrate(target, values.mean(axis=0), spread_of(values))


def _test(
    choice: Choice, table: Table, parts: dict[str, pd.DataFrame], tested: Ensemble,
    free: Ensemble | None, interval: Interval,
) -> Tested:  # fmt: skip
    """Measure everything on the test rows, once."""
    test = parts["test"]
    predicted = baselines.predict_all(parts, load(table.path / "transformer.json").features)
    if free is not None:
        predicted[UNREGULARIZED] = free.predict(test).mean(axis=0)
    members = tested.predict(test)
    mean, spread = members.mean(axis=0), spread_of(members)
    predicted[WINNER] = mean
    time, target = test["timestamp"].to_numpy(), test["rentals"].to_numpy()
    low, high = interval.bounds(mean, spread)
    report = {
        "table": table.name,
        "split": table.split_kind,
        "data_version": table.data_version,
        "rows": len(test),
        "days": int(test["timestamp"].dt.normalize().nunique()),
        "winner": choice.configuration,
        "epochs": choice.epochs,
        "seeds": len(members),
        "interval": {
            "nominal": interval.nominal,
            "coverage": interval.coverage(target, mean, spread),
            "mean_width": float((high - low).mean()),
        },
        "models": measure(time, target, predicted),
    }
    rows = pd.DataFrame({"timestamp": time, "rentals": target, "predicted": mean})
    return Tested(report, rows.sort_values("timestamp", ignore_index=True))
