"""The refit: choose, fit, test once, fit on all rows, register."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from bikefit.data import calendar
from bikefit.data.files import write_json
from bikefit.data.table import Table, read_table
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from bikefit.final import baselines, fits
from bikefit.final.choice import Choice, HeldOut, choose, held_out, mix, select
from bikefit.final.interval import Interval, calibrate
from bikefit.final.model import Ensemble, Model
from bikefit.final.publish import REPORT, Tested, publish
from bikefit.final.report import DELIVERED, NETWORKS, UNREGULARIZED, WINNER, measure
from bikefit.final.rows import input_statistics
from bikefit.final.trees import PLAIN, SAME, FittedTrees, TunedTrees, tune

CLEAN_FILE = Path("data/clean/hours.parquet")
PLAIN_TREES, SAME_TREES = "LightGBM, plain columns", "LightGBM, same columns"
Fit = tuple[Ensemble, FittedTrees | None]


@dataclass(frozen=True)
class Options:
    """What the user may choose.

    Args:
        one_standard_error: choose the least flexible near the best.
        seeds: networks of a configuration that are averaged.
        ensemble: steps of the greedy selection among the sweep's networks; 0 for none.
        trees: average with boosted trees, if that is better.
        name: of the registered model.
        promote: move the alias in any case.
        processes: that fit side by side; None for one a core.
    """

    one_standard_error: bool = False
    seeds: int = 8
    ensemble: int = 0
    trees: bool = False
    name: str = "bikefit"
    promote: bool = False
    processes: int | None = None


def refit(sweep: str, reports: Path, options: Options) -> dict[str, Any]:
    """Make a registered model of a sweep; return and write the test's report.

    Raises:
        TrackingError: the sweep has no winner, or its runs do not hold what is needed.
        DataError: the table has no test rows, or the data are not there.
    """
    winner, plain = choose(sweep, options.seeds, options.one_standard_error)
    table = read_table(winner.members[0].data.path)
    parts = _parts(table)
    # before the fits: what is missing must be found out at once
    choice, held = (
        select(winner, options.ensemble) if options.ensemble else (winner, held_out(winner))
    )
    tuned = _tuned(parts)
    if options.trees:
        choice, held = _with_trees(choice, held, parts, tuned)
    print(choice.why)
    interval = calibrate(held.target, held.mean, held.spread)
    every = in_time(*parts.values())
    compared = {DELIVERED: choice, WINNER: winner, UNREGULARIZED: plain}
    tested, (networks, trees) = _fit(compared, table, parts, every, options.processes)
    final = networks.with_trees(trees, choice.share) if trees else networks
    test = _test(compared, table, parts, tested, interval, tuned)
    test.report["calendar_disagreements"] = calendar.disagreements(every)
    write_json(reports / REPORT, test.report)
    print(publish(choice, Model(final, interval, input_statistics(every)), test, options.name,
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


def _tuned(parts: dict[str, pd.DataFrame]) -> dict[str, TunedTrees]:
    """Tune boosted trees with each choice of columns; none if LightGBM cannot be loaded."""
    columns = {PLAIN_TREES: PLAIN, SAME_TREES: SAME}
    train, validation = parts["train"], in_time(parts["validation"])
    try:
        return {name: tune(names, train, validation) for name, names in columns.items()}
    except OSError as error:
        warnings.warn(f"LightGBM is left out because it cannot be loaded: {error}", stacklevel=2)
        return {}


def _with_trees(
    choice: Choice, held: HeldOut, parts: dict[str, pd.DataFrame], tuned: dict[str, TunedTrees]
) -> tuple[Choice, HeldOut]:
    """Mix boosted trees in if this machine can run them."""
    validation = in_time(parts["validation"])
    if not np.array_equal(held.target, validation["rentals"]):
        raise DataError(
            "--trees needs a sweep with holdout validation: boosted trees are tuned on the "
            "validation rows of the table, and mixed with what the networks predict for these"
        )
    if SAME_TREES not in tuned:
        why = f"{choice.why} No boosted trees are mixed in: LightGBM cannot be loaded."
        return replace(choice, why=why), held
    trees = tuned[SAME_TREES]
    return mix(choice, held, trees, trees.fit(parts["train"]).predict(validation))


def _fit(
    choices: dict[str, Choice | None], table: Table, parts: dict[str, pd.DataFrame],
    every: pd.DataFrame, processes: int | None,
) -> tuple[dict[str, Fit], Fit]:  # fmt: skip
    """Every choice without test rows, by its name, and the delivered one on all rows."""
    distinct = {name: one for name, one in choices.items() if one is not None}
    if distinct[WINNER].members == distinct[DELIVERED].members:
        del distinct[WINNER]  # the delivered networks themselves
    known = in_time(parts["train"], parts["validation"])
    tasks = [(distinct[DELIVERED], every), *((one, known) for one in distinct.values())]
    print(f"Fitting {sum(len(one.members) for one, _ in tasks)} networks …")
    found = joblib.Parallel(n_jobs=min(len(tasks), processes or joblib.cpu_count()))(
        joblib.delayed(fits.fit)(one, table, rows) for one, rows in tasks
    )
    return dict(zip(distinct, found[1:], strict=True)), found[0]


def _test(
    compared: dict[str, Choice | None], table: Table, parts: dict[str, pd.DataFrame],
    tested: dict[str, Fit], interval: Interval, tuned: dict[str, TunedTrees],
) -> Tested:  # fmt: skip
    """Measure everything on the test rows, once."""
    test = parts["test"]
    choice, winner, plain = (compared[name] for name in (DELIVERED, WINNER, UNREGULARIZED))
    assert choice is not None
    assert winner is not None
    features = Transformer.load(table.path / "transformer.json").features
    predicted = baselines.predict_all(parts, features, tuned)
    predicted |= {name: networks.predict(test)[0] for name, (networks, _) in tested.items()}
    delivered, trees = tested[DELIVERED]
    if trees is not None:
        predicted[NETWORKS] = predicted[DELIVERED]
        delivered = delivered.with_trees(trees, choice.share)
    mean, spread = delivered.predict(test)
    predicted[DELIVERED] = mean
    time, target = test["timestamp"].to_numpy(), test["rentals"].to_numpy()
    low, high = interval.bounds(mean, spread)
    report = {
        "table": table.name,
        "split": table.split_kind,
        "data_version": table.data_version,
        "rows": len(test),
        "days": int(test["timestamp"].dt.normalize().nunique()),
        "winner": winner.configuration,
        "unregularized": plain.configuration if plain else None,
        "seeds": len(winner.members),
        "delivered": choice.configuration,
        "epochs": list(choice.epochs),
        "networks": len(choice.members),
        "share_of_trees": choice.share,
        "why": choice.why,
        "interval": {
            "nominal": interval.nominal,
            "coverage": interval.coverage(target, mean, spread),
            "mean_width": float((high - low).mean()),
        },
        "models": measure(time, target, predicted),
    }
    rows = pd.DataFrame({"timestamp": time, "rentals": target, "predicted": mean} | predicted)
    return Tested(report, rows.sort_values("timestamp", ignore_index=True))
