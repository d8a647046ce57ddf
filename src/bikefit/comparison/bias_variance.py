"""Bias and variance of configurations that were trained on many training sets.

The expected loss of a prediction f of a target y is the sum of three terms::

    E D(y, f) = E D(y, μ) + D(μ, f*) + E D(f*, f)
                noise       bias       variance

μ is the expected target, and the central prediction f* is what the networks predict on average. For
the squared error, f* is the mean and D(μ, f*) the squared bias (Geman, Bienenstock and Doursat
1992). The sum is exact for every Bregman divergence D if f* is the mean in the dual space; for half
the Poisson deviance, f* is the exponential of the mean logarithm (Pfau 2013, "A generalized
bias-variance decomposition for Bregman divergences").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bikefit.comparison.charts import GREY, INK, ROLES
from bikefit.comparison.path_charts import Series, panel_chart, set_value_axis
from bikefit.comparison.runs import SETS
from bikefit.comparison.sentences import number
from bikefit.comparison.tables import markdown
from bikefit.data.bikes.known import EXPECTED, KNOWN
from bikefit.data.rows import in_order, read_rows
from bikefit.errors import DataError
from bikefit.losses import LOSSES
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError
from bikefit.trained import settings_and_table

BIAS, VARIANCE = ROLES["underfitting"], ROLES["overfitting"]  # colours
TOP = 4  # upper limit of a chart / lowest error: a useless network must not hide all others


def decompose(
    kind: str, target: np.ndarray, predicted: np.ndarray, expected: np.ndarray | None = None
) -> dict[str, float]:
    """Split the mean loss of predictions into bias, variance and noise.

    Estimates are free of the bias of order 1 / M by the jackknife (Efron and Tibshirani 1993); for
    the squared error, the variance is the unbiased one, with M - 1 in the denominator.

    Args:
        kind: Loss, one of :data:`bikefit.losses.LOSSES`; "mse" is the squared error.
        target: Target of each row, ``(N,)``.
        predicted: Predictions of networks of M training sets, ``(M, N)``.
        expected: Expected target of each row, ``(N,)``; None if unknown.

    Returns:
        ``error``, the mean loss; ``variance``; ``rest``, bias and noise, so that ``variance`` and
        ``rest`` sum to the error. With the expected target also ``bias``; ``noise``, the loss of
        the expected target; ``sum`` of the three, and ``sum_se``, the standard error of its
        difference from ``error``. ``error_se``, ``variance_se``, ``rest_se`` and ``bias_se`` are
        standard errors over training sets.
    """
    loss = LOSSES[kind]
    predicted, count = loss.valid(predicted), len(predicted)
    others = [_variance(kind, np.delete(predicted, i, axis=0)) for i in range(count)]
    losses = loss.rows(target, predicted)
    values = {"error": losses.mean(axis=1)}
    values["variance"] = count * _variance(kind, predicted) - (count - 1) * np.array(others)
    values["rest"] = values["error"] - values["variance"]
    known: dict[str, float] = {}
    if expected is not None:
        misfit, noise = loss.rows(expected, predicted), loss.rows(target, expected)
        values["bias"] = misfit.mean(axis=1) - values["variance"]
        known["noise"] = float(noise.mean())
        known["sum"] = float(misfit.mean() + noise.mean())
        # Zero in expectation, because the noise of a row does not depend on its predictions.
        crossed = losses.mean(axis=0) - misfit.mean(axis=0) - noise
        known["sum_se"] = float(crossed.std(ddof=1) / np.sqrt(len(target)))
    terms = pd.DataFrame(values)
    return {**terms.mean(), **terms.sem().add_suffix("_se"), **known}


def bias_variance_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the table of :meth:`bikefit.comparison.result.Comparison.bias_variance`.

    The terms are those of :func:`decompose`, in the unit of ``val_loss``; several seeds are
    averaged.

    Args:
        runs: of :func:`bikefit.comparison.runs.run_table`; those with drawn training sets count.

    Raises:
        DataError: No run has drawn training sets, or a table is missing or was changed.
        TrackingError: A run has no predictions.
    """
    runs = runs[(runs["repetition"] == SETS) & runs["val_loss"].notna()]
    if runs.empty:
        raise DataError("no run has several training sets: train with validation=resample")
    kind = runs["loss"].iloc[0] if runs["loss"].nunique() == 1 else "poisson"
    names = ["configuration", "configuration_id"]
    terms = pd.DataFrame([_terms(run, kind) for _, run in runs.iterrows()], runs.index)
    return runs[names].join(terms).groupby(names).mean().sort_values("error").reset_index()


def _terms(run: pd.Series, kind: str) -> dict[str, float]:
    predictions, sets = reading.read_predictions(run["run_id"]), int(run["folds"])
    if predictions is None:
        raise TrackingError(
            f"run {run['run_id']} has no predictions: train with tracking.predictions=true"
        )
    target = predictions["target"].to_numpy(float).reshape(sets, -1)[0]
    predicted = predictions["predicted"].to_numpy(float).reshape(sets, -1)
    terms = decompose(kind, target, predicted, _expected_target(run["run_id"]))
    scale = run["val_loss"] / terms["error"]  # to the unit of the loss
    return {"sets": sets, **{name: value * scale for name, value in terms.items()}}


def _expected_target(run: str) -> np.ndarray | None:
    """Return the expected target of the validation rows, in order; None if it is not known."""
    _, table = settings_and_table(run)
    if table.source != KNOWN:
        return None
    return in_order(read_rows(table, "validation"))[EXPECTED].to_numpy()


def bias_variance_markdown(table: pd.DataFrame) -> str:
    """Return the terms of :func:`bias_variance_table`, ± their standard errors, in Markdown."""
    bias, label = _bias_column(table)
    columns = {"error": "measured loss", bias: label, "variance": "variance", "noise": "noise"}
    columns["sum"] = "their sum"
    strings, like = table[["configuration"]].copy(), table["error"].min()
    for key, name in columns.items():
        if key in table:
            strings[name] = [number(value, like) for value in table[key]]
        if f"{key}_se" in table:
            strings[name] += [f" ± {number(error, like)}" for error in table[f"{key}_se"]]
    return markdown(strings)


def bias_variance_chart(series: Sequence[Series], table: pd.DataFrame) -> Figure:
    """Draw the terms of :func:`bias_variance_table` along paths, a panel for each path.

    Bands are ± a standard error over training sets, bars ± the standard error of the difference
    between the sum of the terms and the measured loss.
    """
    return panel_chart(series, partial(_draw_terms, table=table.set_index("configuration_id")))


def _draw_terms(axes: Axes, series: Series, table: pd.DataFrame) -> None:
    terms, x = table.loc[list(series.path.configurations)], set_value_axis(axes, series)
    known = "noise" in terms
    for key, label, colour in (("variance", "variance", VARIANCE), (*_bias_column(table), BIAS)):
        axes.plot(x, terms[key], "o-", color=colour, label=label, linewidth=1.6, markersize=3)
        low, high = terms[key] - terms[f"{key}_se"], terms[key] + terms[f"{key}_se"]
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    if known:
        axes.plot(x, terms["noise"], "--", color=GREY, label="noise")
    axes.plot(x, terms["sum" if known else "error"], color=INK, label="their sum")
    bars = terms["sum_se"] if known else None
    axes.errorbar(x, terms["error"], bars, fmt="s", color=INK, label="measured", markersize=4)
    axes.set_ylim(0, min(1.05 * table["error"].max(), TOP * table["error"].min()))


def bias_variance_sentence(series: Series, table: pd.DataFrame) -> str:
    """Return a sentence with the terms at both ends of a path, from rigid to flexible."""
    terms = table.set_index("configuration_id").loc[list(series.path.configurations)]
    terms, values = terms[:: series.path.direction], series.path.values[:: series.path.direction]
    like = terms["error"].min()
    changes = [
        f"{label} from {number(terms[key].iloc[0], like)} to {number(terms[key].iloc[-1], like)}"
        for key, label in (_bias_column(table), ("variance", "variance"))
    ]
    lowest = values[int(terms["error"].argmin())]
    return (
        f"From {series.path.label} {values[0]:g} to {values[-1]:g}: {', '.join(changes)}. "
        f"Their sum is lowest at {lowest:g}."
    )


def _bias_column(table: pd.DataFrame) -> tuple[str, str]:
    """Return the column with the bias, and its name for readers."""
    return ("bias", "bias²") if "bias" in table else ("rest", "bias² + noise")


def _variance(kind: str, predicted: np.ndarray) -> float:
    """Return the mean of D(f*, f) over rows and the M predictions of each."""
    loss = LOSSES[kind]
    return float(loss.rows(loss.central(predicted), predicted).mean())
