"""Evaluate our models and the baselines on the test rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.linear_model import LogisticRegressionCV, PoissonRegressor, RidgeCV

from bikefit.comparison.sentences import number
from bikefit.comparison.tables import markdown
from bikefit.data.rows import blocks
from bikefit.data.table import Table
from bikefit.final.choose import OUR_MODEL, UNREGULARIZED, WINNER, RefitPlan
from bikefit.final.data import RefitData
from bikefit.final.interval import NOMINAL
from bikefit.final.model import Ensemble, mean_and_spread
from bikefit.final.scores import MAIN, MEASURES, NAMES, bootstrap, lead, score, unit_of
from bikefit.losses import LossName

NETWORKS = "our networks alone"
TREES = "LightGBM"
STRENGTHS = np.logspace(-3, 4, 29)  # penalties of linear models, cross-validated
LINEAR: dict[LossName, tuple[str, Any]] = {
    "mse": ("ridge regression", RidgeCV(STRENGTHS)),
    "poisson": (
        "linear Poisson regression",
        # Without a penalty, columns that are 0 in all rows have no defined coefficient.
        PoissonRegressor(alpha=1e-4, solver="newton-cholesky", max_iter=100),
    ),
    "bernoulli": (
        "logistic regression",
        LogisticRegressionCV(
            Cs=1 / (2 * STRENGTHS),
            cv=5,
            scoring="neg_log_loss",
            solver="newton-cholesky",
            l1_ratios=(0,),
            use_legacy_attributes=False,
        ),
    ),
}
"""Linear model of scikit-learn for each loss."""


def predict_baselines(plan: RefitPlan, data: RefitData) -> dict[str, np.ndarray]:
    """Return predictions of the test rows by baselines fitted on the other rows, ``(N,)`` each.

    The linear model has the features of the networks.
    """
    rows, test = data.rows("train", "validation"), data.parts["test"]
    predicted = data.mean_predictions()
    name, linear = LINEAR[plan.loss]
    transformer = data.transformer.refit(rows)
    features, held_out = (transformer.transform(part).astype(float) for part in (rows, test))
    linear = clone(linear).fit(features, rows[data.table.target])
    yes_no = plan.loss == "bernoulli"
    predicted[name] = linear.predict_proba(held_out)[:, 1] if yes_no else linear.predict(held_out)
    if plan.trees:
        predicted[TREES] = plan.trees.fit(rows).predict(test)
    return predicted


def evaluate_models(
    plan: RefitPlan, data: RefitData, fitted: Ensemble
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Evaluate all models on the test rows of a table.

    `fitted` has all networks of the plan, fitted on training and validation rows.

    Returns:
        Content of `reports/test.json`, and the test rows: ``timestamp`` or ``row``, ``unit``, the
        target, ``predicted`` (by our model) and the predictions of each model.
    """
    table, test, networks = data.table, data.parts["test"], plan.networks
    by_network, predicted = fitted.predict_each(test), predict_baselines(plan, data)
    ours = by_network[networks[OUR_MODEL]]
    mean, spread = mean_and_spread(ours, predicted.get(TREES), plan.share)
    predicted[OUR_MODEL] = mean
    described = {OUR_MODEL: plan.describe(OUR_MODEL)}
    if plan.share:
        described[OUR_MODEL] += f", and boosted trees (weight {plan.share:.0%})"
        predicted[NETWORKS] = ours.mean(axis=0)
    for name in (WINNER, UNREGULARIZED):
        if networks[name].any() and not networks[name].equals(networks[OUR_MODEL]):
            described[name] = plan.describe(name)
            predicted[name] = by_network[networks[name]].mean(axis=0)
    block, target = blocks(test), test[table.target].to_numpy()
    coverage = None
    if plan.interval is not None:
        low, high = plan.interval.bounds(mean, spread)
        coverage = float(((low <= target) & (target <= high)).mean())
    report = {
        "table": table.name,
        "split": table.split_kind,
        "data_version": table.data_version,
        "loss": plan.loss,
        "target": table.target,
        "unit": table.unit,
        "rows": len(test),
        "block": _block_name(table),
        "blocks": int(block.nunique()),
        "winner": networks.loc[networks[WINNER], "configuration"].iloc[0],
        "share_of_trees": plan.share,
        "reason": plan.reason,
        "described": described,
        "interval_coverage": coverage,
        "models": _score_models(plan.loss, block, target, predicted),
    }
    key = "timestamp" if table.time else "row"
    columns = {key: test[key], "unit": block, table.target: target, "predicted": mean, **predicted}
    return report, pd.DataFrame(columns)


def _score_models(
    loss: LossName, block: pd.Series, target: np.ndarray, predicted: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Return the scores of each model, and the leads of our model over the others."""
    scores = {name: bootstrap(loss, block, target, values) for name, values in predicted.items()}
    figures = {name: score(of_model) for name, of_model in scores.items()}
    for name in set(scores) - {OUR_MODEL}:
        leads = lead(scores[OUR_MODEL], scores[name])
        for key in {"rmse", MAIN[loss]} & leads.keys():
            figures[name][f"lead_{key}"], figures[name][f"lead_{key}_se"] = leads[key]
    return figures


def _block_name(table: Table) -> str:
    """Return the name of what the bootstrap draws: groups, days or rows."""
    if table.split_kind == "groups":
        return "groups"
    return "days" if table.time else "rows"


def report_table(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown: a paragraph and a table, our model first, then by its loss."""
    models, main = report["models"], MAIN[report["loss"]]
    names = [name for name in MEASURES[report["loss"]] if name in models[OUR_MODEL]]
    likes = {name: min(10 * min(one[name] for one in models.values()), 100) for name in names}
    likes |= dict.fromkeys({"accuracy", "auc"} & likes.keys(), 1)
    head = f"lead of our model ({NAMES[main].removeprefix('mean Poisson ')})"
    rows = []
    for name in sorted(models, key=lambda name: (name != OUR_MODEL, models[name][main])):
        scores, row = models[name], {"model": name if name != OUR_MODEL else f"**{name}**"}
        for key, like in likes.items():
            value, low, high = (number(scores[key + end], like) for end in ("", "_low", "_high"))
            row[NAMES[key]] = f"{value} [{low}, {high}]"
        leads = [scores.get(f"lead_{main}{end}", math.nan) for end in ("", "_se")]
        gain, error = (number(value, likes[main]) for value in leads)
        rows.append(row | {head: "" if name == OUR_MODEL else f"{gain} ± {error}"})
    return f"{_describe(report)}\n\n{markdown(pd.DataFrame(rows))}"


def _describe(report: Mapping[str, Any]) -> str:
    """Return a paragraph with the rows and the models of a report, and its units."""
    described = [f"{name.capitalize()} is {text}." for name, text in report["described"].items()]
    block, unit = report["block"], unit_of(MAIN[report["loss"]], report["unit"])
    count = "" if block == "rows" else f" ({report['blocks']} {block})"
    paragraph = (
        f"{report['rows']:,} test rows{count} of table {report['table']} (split: "
        f"{report['split']}); neither the sweep nor the selection read them. All models are fitted "
        f"on training and validation rows. {' '.join(described)} All values "
        f"{f'are in{unit}, with' if unit else 'have'} 95 % intervals in brackets and standard "
        f"errors after ±, from a bootstrap over {'' if block == 'rows' else 'whole '}{block}."
    )
    if report["interval_coverage"] is not None:
        paragraph += (
            f" The {NOMINAL:.0%} interval of `predict` contains {report['interval_coverage']:.1%} "
            "of the test rows."
        )
    return paragraph
