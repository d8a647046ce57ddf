"""Runs of an MLflow experiment that another program recorded, as a run table.

Nothing is assumed of them but parameters and two metrics; see `docs/any_experiment.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bikefit.comparison.runs import run_table
from bikefit.errors import BikefitError

SEEDS = ("seed", "random_state", "random_seed")  # names of parameters that are repetitions
BOUNDS = (0.0, 1.0, 100.0)  # highest values of scores: negative losses, shares, percentages


class ExperimentError(BikefitError):
    """The runs of an experiment cannot be compared."""


@dataclass(frozen=True)
class Metrics:
    """How the runs of an experiment are read.

    Args:
        train, validation: Metrics on training and on validation rows; the last value counts.
        seed: Parameter whose values are repetitions; None for those of `SEEDS`.
        maximize: Whether higher is better.
    """

    train: str
    validation: str
    seed: str | None = None
    maximize: bool = False


def experiment_table(
    runs: pd.DataFrame, experiment: str, metrics: Metrics
) -> tuple[pd.DataFrame, list[str]]:
    """Return the finished runs of an experiment in the columns of a run table.

    Runs with equal parameters, except for the seed, have the same configuration.

    Args:
        runs: as returned by :func:`bikefit.tracking.reading.read_experiment`.
        experiment: Name of the experiment.
        metrics: How they are read.

    Returns:
        The table (see :func:`bikefit.comparison.runs.run_table`), and a sentence about each kind
        of runs that is left out.

    Raises:
        ExperimentError: No run has both metrics, or they are not losses that can be judged.
    """
    names = [f"metrics.{name}" for name in (metrics.train, metrics.validation)]
    for key in names:
        if key not in runs:
            logged = sorted(runs.filter(like="metrics.").columns.str.removeprefix("metrics."))
            raise ExperimentError(
                f"no run has the metric {key.removeprefix('metrics.')!r}; there are: "
                f"{', '.join(logged) or 'none'}"
            )
    runs, left_out = _usable(runs, names)
    parameters = runs.filter(regex=r"^params\.").rename(columns=lambda k: k.split(".", 1)[1])
    seeds = [k for k in parameters if k == metrics.seed or (not metrics.seed and k in SEEDS)]
    if metrics.seed and not seeds:
        raise ExperimentError(f"no run has the parameter {metrics.seed!r} of --seed")
    settings = parameters.drop(columns=seeds).fillna("none")
    settings = settings.loc[:, settings.nunique() > 1]
    text = pd.Series("", index=runs.index)
    for name, values in settings.items():
        text += f" · {name}=" + values
    configuration = text.str.removeprefix(" · ").replace("", "all runs")
    seed = parameters[seeds].agg(" ".join, axis=1) if seeds else runs.groupby(text).cumcount()
    losses, unit = _losses(runs[names], metrics)
    losses = losses.set_axis(["best/train/loss", "best/val/loss"], axis=1)
    numbers = settings.apply(_numbers).add_prefix("parameter.")
    columns = runs[["run_id", "experiment_id", "name", "status"]].assign(
        seed=seed, method=experiment
    )
    table = run_table(pd.concat([columns, losses, numbers], axis=1))
    return table.assign(configuration=configuration, unit=unit), left_out


def _usable(runs: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs that have finite losses, and sentences about the others."""
    finished = runs["status"] == "FINISHED"
    present = runs[names].notna().all(axis=1)
    values = runs[names].astype(float)
    finite = values.abs().max(axis=1, skipna=False) < np.inf
    shown = " and ".join(name.removeprefix("metrics.") for name in names)
    reasons = {
        "did not finish": ~finished,
        f"do not have {shown}": finished & ~present,
        "have a value that is not finite": finished & present & ~finite,
    }
    sentences = [
        f"{of.sum()} of {len(runs)} runs are left out: they {why}."
        for why, of in reasons.items()
        if of.any()
    ]
    if not (finished & finite).any():
        raise ExperimentError(f"no run can be compared. {' '.join(sentences)}")
    return runs[finished & finite].reset_index(drop=True), sentences


def _losses(values: pd.DataFrame, metrics: Metrics) -> tuple[pd.DataFrame, str]:
    """Return losses of 0 or more and their unit: scores are subtracted from their upper bound."""
    highest = float(values.to_numpy().max())
    if metrics.maximize:
        bound = next((bound for bound in BOUNDS if highest <= bound), None)
        if bound is None:
            raise ExperimentError(
                f"--maximize: the highest score is {highest:g}, but scores need a bound of "
                f"{', '.join(f'{bound:g}' for bound in BOUNDS)}; log a loss instead"
            )
        return bound - values, f"{bound:g} − {metrics.validation}"
    if float(values.to_numpy().min()) < 0:
        raise ExperimentError(
            "verdicts need losses of 0 or more; if higher is better, add --maximize"
        )
    return values, metrics.validation


def _numbers(values: pd.Series) -> pd.Series:
    """Return texts as numbers if at least two different ones are numbers; others become NaN."""
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.nunique() > 1 else values
