"""The refit: choose, fit, test once, fit on all rows, register."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import yaml

from bikefit import tracking
from bikefit.data.files import to_json, write_json
from bikefit.data.stage import DataError
from bikefit.data.table import Table, read_table
from bikefit.data.transformer import load
from bikefit.final import baselines, calendar, champion, fits
from bikefit.final.choice import Choice, choose
from bikefit.final.interval import Interval, calibrate
from bikefit.final.model import Ensemble, Model, spread_of
from bikefit.final.report import UNREGULARIZED, WINNER, measure
from bikefit.final.rows import OPTIONAL, learn

CLEAN_FILE = Path("data/clean/hours.parquet")
REPORT = "test.json"
PACKAGES = (
    "mlflow", "numpy", "pandas", "pydantic", "pyyaml", "safetensors", "scikit-learn", "scipy",
    "torch",
)  # fmt: skip
"""All that the registered model needs beside its own code."""

EXAMPLE = pd.DataFrame(
    {
        "at": ["2012-10-05T17:00", "2012-12-25T03:00"],
        "temp": [21.0, 4.5],
        "humidity": [60.0, 81.0],
        "windspeed": [12.0, 0.0],
        "weather": ["clear", "mist"],
        "feels_like": [21.5, 2.0],
        "holiday": ["no", "yes"],
    }
)


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
    hours, parts = _rows(table)
    known = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
    known = known.sort_values("timestamp", ignore_index=True)
    tested, final, free = _fit(choice, plain, table, known, hours, options)
    interval = _interval(choice)
    report, predictions = _test(choice, table, parts, tested, free, interval, options.seeds)
    report["calendar_disagreements"] = calendar.disagreements(hours)
    write_json(reports / REPORT, report)
    _register(sweep, choice, table, Model(final, interval, learn(hours)), report, predictions,
              options)  # fmt: skip
    return report


def _rows(table: Table) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Clean rows of the table in time order, all of them and by part."""
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
    every = pd.concat(parts.values(), ignore_index=True)
    return every.sort_values("timestamp", ignore_index=True), parts


def _fit(
    choice: Choice, plain: Choice | None, table: Table, known: pd.DataFrame, hours: pd.DataFrame,
    options: Options,
) -> tuple[Ensemble, Ensemble, Ensemble | None]:  # fmt: skip
    """The winner without test rows, the winner on all rows, the unregularized network."""
    tasks = [(choice, known), (choice, hours), *([(plain, known)] if plain else [])]
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
    free: Ensemble | None, interval: Interval, seeds: int,
) -> tuple[dict[str, Any], pd.DataFrame]:  # fmt: skip
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
        "seeds": seeds,
        "interval": {
            "nominal": interval.nominal,
            "coverage": interval.coverage(target, mean, spread),
            "mean_width": float((high - low).mean()),
        },
        "models": measure(time, target, predicted),
    }
    rows = pd.DataFrame({"timestamp": time, "rentals": target, "predicted": mean})
    return report, rows.sort_values("timestamp", ignore_index=True)


def _register(
    sweep: str, choice: Choice, table: Table, model: Model, report: dict[str, Any],
    predictions: pd.DataFrame, options: Options,
) -> None:  # fmt: skip
    name = f"refit · {choice.configuration}"
    run = tracking.start_refit(choice.settings, sweep, table.data_version, name)
    try:
        number = _log(run, sweep, choice, table, model, report, predictions, options)
        better, said = champion.decide(options.name, number, predictions, table.data_version)
        if better or options.promote:
            tracking.promote(options.name, number)
        print(f"{said}{' It was promoted on request.' if options.promote and not better else ''}")
    except BaseException as error:
        tracking.fail(run, repr(error))
        raise


def _log(
    run: str, sweep: str, choice: Choice, table: Table, model: Model, report: dict[str, Any],
    predictions: pd.DataFrame, options: Options,
) -> int:  # fmt: skip
    figures = {f"test/{key}": value for key, value in report["models"][WINNER].items()}
    figures["test/interval_coverage"] = report["interval"]["coverage"]
    settings = choice.settings.model_dump(mode="json", by_alias=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model.save(folder / "model")
        predictions.to_parquet(folder / champion.PREDICTIONS, index=False)
        (folder / REPORT).write_text(to_json(report), encoding="utf-8")
        tags = {
            "data.version": table.data_version,
            "sweep": sweep,
            "configuration": choice.configuration,
        }
        tags |= {key: f"{value:.6g}" for key, value in figures.items()}
        number = tracking.register(
            run, options.name, folder / "model", EXAMPLE, model.predict(EXAMPLE), OPTIONAL,
            requirements(PACKAGES), tags,
        )  # fmt: skip
        config = yaml.safe_dump(settings | {"epochs": choice.epochs}, sort_keys=False)
        files = [folder / champion.PREDICTIONS, folder / REPORT]
        tracking.finish_refit(run, figures, choice.why, config, files)
    return number


def requirements(packages: Sequence[str]) -> list[str]:
    """Pin packages to what is installed, without the mark of a build (``2.13.0+cpu``)."""
    return [f"{name}=={version(name).split('+')[0]}" for name in packages]
