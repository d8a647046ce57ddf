"""Evaluate our models and the baselines on the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import PoissonRegressor

from bikefit.data.bikes.columns import TARGET
from bikefit.data.rows import blocks
from bikefit.data.table import Table
from bikefit.data.transformer import Transformer
from bikefit.final.choose import OUR_MODEL, UNREGULARIZED, WINNER, RefitPlan
from bikefit.final.interval import NOMINAL, Interval
from bikefit.final.model import Ensemble, mean_and_spread
from bikefit.final.scores import block_sums, lead, score
from bikefit.final.trees import TunedTrees

NETWORKS = "our networks alone"
TREES = "LightGBM"
LINEAR_PENALTY = 1e-4  # alpha of PoissonRegressor; without a penalty, unseen columns are undefined


def hourly_mean(hours: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Predict test rows by the mean of the same hour on working days or on other days."""
    keys = ["working_day", "hour"]
    hours, test = (rows.assign(hour=rows["timestamp"].dt.hour) for rows in (hours, test))
    means = hours.groupby(keys)[TARGET].mean().rename("mean")
    return test[keys].join(means, on=keys)["mean"].fillna(hours[TARGET].mean()).to_numpy()


def linear_poisson(hours: pd.DataFrame, test: pd.DataFrame, transformer: Transformer) -> np.ndarray:
    """Predict test rows by Poisson regression on the features of the networks."""
    fitted = transformer.refit(hours)
    regression = PoissonRegressor(alpha=LINEAR_PENALTY, solver="newton-cholesky", max_iter=100)
    regression.fit(fitted.transform(hours).astype(np.float64), hours[TARGET])
    return regression.predict(fitted.transform(test).astype(np.float64))


def predict_baselines(
    hours: pd.DataFrame, test: pd.DataFrame, transformer: Transformer, trees: TunedTrees | None
) -> dict[str, np.ndarray]:
    """Return predictions of the test rows by baselines fitted on rows, ``(N,)`` by name."""
    baselines = {
        "constant": np.full(len(test), hours[TARGET].mean()),
        "hourly mean by working day": hourly_mean(hours, test),
        "linear Poisson regression": linear_poisson(hours, test, transformer),
    }
    return baselines | ({TREES: trees.fit(hours).predict(test)} if trees else {})


def evaluate_models(
    plan: RefitPlan,
    fitted: Ensemble,
    baselines: Mapping[str, np.ndarray],
    share: float,
    interval: Interval,
    test: pd.DataFrame,
    table: Table,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Evaluate all models on the test rows of a table.

    `fitted` has all networks of the plan; `share` is the weight of the trees in our model.

    Returns:
        Content of `reports/test.json`, and the test rows: ``timestamp``, ``rentals``, ``predicted``
        (by our model) and the predictions of each model, bikes/hour.
    """
    by_network, networks = fitted.predict_each(test), plan.networks
    ours = by_network[networks[OUR_MODEL]]
    mean, spread = mean_and_spread(ours, baselines.get(TREES), share)
    described = {OUR_MODEL: plan.describe(OUR_MODEL)}
    predicted = {**baselines, OUR_MODEL: mean}
    if share:
        described[OUR_MODEL] += f", and boosted trees (weight {share:.0%})"
        predicted[NETWORKS] = ours.mean(axis=0)
    for name in (WINNER, UNREGULARIZED):
        if networks[name].any() and not networks[name].equals(networks[OUR_MODEL]):
            described[name] = plan.describe(name)
            predicted[name] = by_network[networks[name]].mean(axis=0)
    block, target = blocks(test), test[TARGET].to_numpy()
    low, high = interval.bounds(mean, spread)
    sums = {name: block_sums(block, target, values) for name, values in predicted.items()}
    figures = {name: score(by_day) for name, by_day in sums.items()}
    for name in set(sums) - {OUR_MODEL}:
        leads = lead(sums[OUR_MODEL], sums[name])
        for key in ("rmse", "deviance"):
            figures[name][f"lead_{key}"], figures[name][f"lead_{key}_se"] = leads[key]
    report = {
        "table": table.name,
        "split": table.split_kind,
        "data_version": table.data_version,
        "rows": len(test),
        "days": int(block.nunique()),
        "winner": networks.loc[networks[WINNER], "configuration"].iloc[0],
        "share_of_trees": share,
        "reason": plan.reason,
        "described": described,
        "interval_coverage": float(((low <= target) & (target <= high)).mean()),
        "models": figures,
    }
    columns = {"timestamp": test["timestamp"], TARGET: target, "predicted": mean, **predicted}
    return report, pd.DataFrame(columns)


def report_table(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown: a paragraph and a table, our model first, then by deviance."""
    models = report["models"]
    lines = [
        "| model | RMSE | mean Poisson deviance | MAE | lead of our model (deviance) |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name in sorted(models, key=lambda name: (name != OUR_MODEL, models[name]["deviance"])):
        scores, ours = models[name], name == OUR_MODEL
        cells = [f"**{name}**" if ours else name]
        for key, digits in (("rmse", 1), ("deviance", 2), ("mae", 1)):
            value, low, high = (f"{scores[key + end]:.{digits}f}" for end in ("", "_low", "_high"))
            cells.append(f"{value} [{low}, {high}]")
        gain = "" if ours else f"{scores['lead_deviance']:.2f} ± {scores['lead_deviance_se']:.2f}"
        lines.append(f"| {' | '.join([*cells, gain])} |")
    described = [f"{name.capitalize()} is {text}." for name, text in report["described"].items()]
    paragraph = (
        f"{report['rows']:,} test rows ({report['days']} days) of table {report['table']} "
        f"(split: {report['split']}); neither the sweep nor the selection read them. All models "
        f"are fitted on training and validation rows. {' '.join(described)} All values are in "
        "bikes/hour, with 95 % intervals in brackets and standard errors after ±, from a bootstrap "
        f"over whole days. The {NOMINAL:.0%} interval of `predict` contains "
        f"{report['interval_coverage']:.1%} of the test rows."
    )
    return "\n".join([paragraph, "", *lines])
