"""Evaluate the fitted plans and the baselines once on the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import PoissonRegressor

from bikefit.data.columns import TARGET
from bikefit.data.features import Features
from bikefit.data.table import Table
from bikefit.data.transformer import Transformer
from bikefit.final.choose import RefitPlan
from bikefit.final.interval import Interval
from bikefit.final.model import Ensemble, average
from bikefit.final.scores import day_sums, lead, score
from bikefit.final.trees import TunedTrees

DELIVERED = "our model"
NETWORKS = "our networks alone"
WINNER = "the comparison's winner"
UNREGULARIZED = "our unregularized network"
LINEAR_PENALTY = 1e-4  # alpha of PoissonRegressor; without a penalty, unseen columns are undefined


@dataclass(frozen=True, eq=False)
class TestResult:
    """Content of ``reports/test.json``, and the predictions of the test rows, bikes/hour.

    The predictions have the columns ``timestamp``, ``rentals``, ``predicted`` (by our model) and
    one per model.
    """

    report: dict[str, Any]
    predictions: pd.DataFrame


def hourly_mean(hours: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Predict the mean of the same hour on working days or on other days, ``(N,)``, bikes/hour."""
    keys = ["working_day", "hour"]
    means = hours.groupby(keys)[TARGET].mean().rename("mean")
    return test[keys].join(means, on=keys)["mean"].fillna(hours[TARGET].mean()).to_numpy()


def linear_poisson(hours: pd.DataFrame, test: pd.DataFrame, features: Features) -> np.ndarray:
    """Predict by Poisson regression on the features of the networks, ``(N,)``, bikes/hour."""
    fitted = Transformer.fit(features, hours)
    regression = PoissonRegressor(alpha=LINEAR_PENALTY, solver="newton-cholesky", max_iter=100)
    regression.fit(fitted.transform(hours).astype(np.float64), hours[TARGET])
    return regression.predict(fitted.transform(test).astype(np.float64))


def predict_baselines(
    parts: Mapping[str, pd.DataFrame], features: Features, trees: Mapping[str, TunedTrees]
) -> dict[str, np.ndarray]:
    """Fit baselines on training and validation rows and predict the test rows.

    Args:
        parts: Clean rows by ``train``, ``validation`` and ``test``.
        features: Features of the networks, used by the linear regression.
        trees: Tuned boosted trees by name.

    Returns:
        Expected rentals by name of the baseline, ``(N,)``, bikes/hour.
    """
    hours = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
    test = parts["test"]
    return {
        "constant": np.full(len(test), hours[TARGET].mean()),
        "hourly mean by working day": hourly_mean(hours, test),
        "linear Poisson regression": linear_poisson(hours, test, features),
        **{name: tuned.fit(hours).predict(test) for name, tuned in trees.items()},
    }


def evaluate(
    plans: Mapping[str, RefitPlan],
    ensembles: Mapping[str, Ensemble],
    baselines: Mapping[str, np.ndarray],
    interval: Interval,
    test: pd.DataFrame,
    table: Table,
) -> TestResult:
    """Evaluate all models on the test rows.

    Args:
        plans: Plans by name. :data:`WINNER` is absent if its networks are delivered,
            :data:`UNREGULARIZED` if the sweep has none.
        ensembles: The plans, fitted on training and validation rows.
        baselines: Predictions of the baselines for the test rows, by name.
        interval: Prediction interval of the delivered model.
        test: Clean test rows.
        table: Table that the rows belong to.
    """
    plan, unregularized = plans[DELIVERED], plans.get(UNREGULARIZED)
    winner = plans.get(WINNER, plan)
    members, weights = ensembles[DELIVERED].members(test), ensembles[DELIVERED].weights
    mean, spread = average(members, weights)
    predicted = {**baselines, DELIVERED: mean}
    predicted |= {name: ensembles[name].predict(test)[0] for name in plans if name != DELIVERED}
    if plan.trees is not None:
        predicted[NETWORKS] = average(members[:-1], weights[:-1])[0]
    time, target = test["timestamp"].to_numpy(), test[TARGET].to_numpy()
    low, high = interval.bounds(mean, spread)
    report = {
        "table": table.name,
        "split": table.split_kind,
        "data_version": table.data_version,
        "rows": len(test),
        "days": int(test["timestamp"].dt.normalize().nunique()),
        "winner": winner.configuration,
        "unregularized": unregularized.configuration if unregularized else None,
        "seeds": len(winner.members),
        "delivered": plan.configuration,
        "epochs": sorted({member.training.epochs for member in plan.members}),
        "networks": len(plan.members),
        "share_of_trees": plan.trees_weight,
        "why": plan.reason,
        "interval": {
            "nominal": interval.nominal,
            "coverage": interval.coverage(target, mean, spread),
            "mean_width": float((high - low).mean()),
        },
        "models": _measure(time, target, predicted),
    }
    columns = {"timestamp": time, TARGET: target, "predicted": mean, **predicted}
    return TestResult(report, pd.DataFrame(columns))


def _measure(
    timestamps: np.ndarray, target: np.ndarray, predicted: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Return the scores of each model, and the leads of :data:`DELIVERED` with standard errors."""
    sums = {name: day_sums(timestamps, target, values) for name, values in predicted.items()}
    figures = {name: score(by_day) for name, by_day in sums.items()}
    for name in set(sums) - {DELIVERED}:
        leads = lead(sums[DELIVERED], sums[name])
        for key in ("rmse", "deviance"):
            figures[name][f"lead_{key}"], figures[name][f"lead_{key}_se"] = leads[key]
    return figures


def report_table(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown: a paragraph and a table, our model first, then by deviance."""
    models, weight = report["models"], report["share_of_trees"]
    lines = [
        "| model | RMSE | mean Poisson deviance | MAE | lead of our model (deviance) |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name in sorted(models, key=lambda name: (name != DELIVERED, models[name]["deviance"])):
        figures, mark = models[name], "**" if name == DELIVERED else ""
        cells = [_cell(figures, "rmse", 1), _cell(figures, "deviance", 2), _cell(figures, "mae", 1)]
        gain = "" if mark else f"{figures['lead_deviance']:.2f} ± {figures['lead_deviance_se']:.2f}"
        lines.append(f"| {mark}{name}{mark} | {' | '.join(cells)} | {gain} |")
    trees = f" and boosted trees (weight {weight:.0%})" if weight else ""
    described = [f"{DELIVERED.capitalize()} is {_networks(report, report['delivered'])}{trees}."]
    for name, key in ((WINNER, "winner"), (UNREGULARIZED, "unregularized")):
        if name in models:
            described.append(f"{name.capitalize()} is {_networks(report, report[key])}.")
    interval = report["interval"]
    paragraph = (
        f"{report['rows']:,} test rows ({report['days']} days) of table {report['table']} "
        f"(split: {report['split']}); neither the sweep nor the selection read them. All models "
        f"are fitted on training and validation rows. {' '.join(described)} All values are in "
        "bikes/hour, with 95 % intervals in brackets and standard errors after ±, from a bootstrap "
        f"over whole days. The {interval['nominal']:.0%} interval of `predict` contains "
        f"{interval['coverage']:.1%} of the test rows."
    )
    return "\n".join([paragraph, "", *lines])


def _cell(figures: Mapping[str, float], key: str, digits: int) -> str:
    value, low, high = (f"{figures[key + end]:.{digits}f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def _networks(report: Mapping[str, Any], configuration: str) -> str:
    """Return "the mean of 8 networks of l2 λ=0.1 · mlp 128×128" or the name of the ensemble."""
    if configuration not in (report["winner"], report["unregularized"]):
        return f"an {configuration}"
    seeds = report["seeds"]
    return f"the mean of {seeds} networks of {configuration}" if seeds > 1 else configuration
