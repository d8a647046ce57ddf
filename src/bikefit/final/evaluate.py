"""Evaluate our models and the baselines on the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegressionCV, PoissonRegressor, RidgeCV

from bikefit.comparison.sentences import number
from bikefit.data.bikes.baselines import hourly_mean
from bikefit.data.rows import blocks
from bikefit.data.table import Table
from bikefit.data.transformer import Transformer
from bikefit.final.choose import OUR_MODEL, UNREGULARIZED, WINNER, RefitPlan
from bikefit.final.interval import NOMINAL, Interval
from bikefit.final.model import Ensemble, mean_and_spread
from bikefit.final.scores import MAIN, MEASURES, NAMES, bootstrap, lead, score, unit_of
from bikefit.final.trees import TunedTrees
from bikefit.losses import LossName

NETWORKS = "our networks alone"
TREES = "LightGBM"
LINEAR_PENALTY = 1e-4  # alpha of PoissonRegressor; without a penalty, unseen columns are undefined
STRENGTHS = np.logspace(-3, 4, 29)  # penalties of the other linear models, cross-validated
LINEAR: dict[LossName, str] = {
    "mse": "ridge regression",
    "poisson": "linear Poisson regression",
    "bernoulli": "logistic regression",
}


def predict_linear(
    loss: LossName, rows: pd.DataFrame, test: pd.DataFrame, transformer: Transformer, target: str
) -> np.ndarray:
    """Predict test rows by scikit-learn's linear model of a loss on the features of the networks.

    The strengths of ridge and logistic regression are cross-validated.
    """
    fitted = transformer.refit(rows)
    features, held_out = (fitted.transform(part).astype(np.float64) for part in (rows, test))
    if loss == "bernoulli":
        strengths = 1 / (2 * STRENGTHS)
        logistic = LogisticRegressionCV(
            Cs=strengths,
            cv=5,
            scoring="neg_log_loss",
            solver="newton-cholesky",
            l1_ratios=(0,),
            use_legacy_attributes=False,
        )
        logistic.fit(features, rows[target].to_numpy() > 0)
        return np.asarray(logistic.predict_proba(held_out)[:, 1])
    model = RidgeCV(STRENGTHS)
    if loss == "poisson":
        model = PoissonRegressor(alpha=LINEAR_PENALTY, solver="newton-cholesky", max_iter=100)
    return np.asarray(model.fit(features, rows[target]).predict(held_out))


def predict_baselines(
    loss: LossName,
    rows: pd.DataFrame,
    test: pd.DataFrame,
    transformer: Transformer,
    trees: TunedTrees | None,
    table: Table,
) -> dict[str, np.ndarray]:
    """Return predictions of the test rows by baselines fitted on rows, ``(N,)`` by name."""
    target = table.target
    baselines = {"constant": np.full(len(test), rows[target].mean())}
    if table.source == "bikes":
        baselines["hourly mean by working day"] = hourly_mean(rows, test).to_numpy()
    baselines[LINEAR[loss]] = predict_linear(loss, rows, test, transformer, target)
    return baselines | ({TREES: trees.fit(rows).predict(test)} if trees else {})


def evaluate_models(
    plan: RefitPlan,
    fitted: Ensemble,
    baselines: Mapping[str, np.ndarray],
    share: float,
    interval: Interval | None,
    test: pd.DataFrame,
    table: Table,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Evaluate all models on the test rows of a table.

    `fitted` has all networks of the plan; `share` is the weight of the trees in our model.

    Returns:
        Content of `reports/test.json`, and the test rows: ``timestamp`` or ``row``, ``unit``, the
        target, ``predicted`` (by our model) and the predictions of each model.
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
    block, target = blocks(test), test[table.target].to_numpy()
    scores = {name: bootstrap(plan.loss, block, target, v) for name, v in predicted.items()}
    figures = {name: score(one) for name, one in scores.items()}
    for name in set(scores) - {OUR_MODEL}:
        leads = lead(scores[OUR_MODEL], scores[name])
        for key in {"rmse", MAIN[plan.loss]} & leads.keys():
            figures[name][f"lead_{key}"], figures[name][f"lead_{key}_se"] = leads[key]
    coverage = None
    if interval is not None:
        low, high = interval.bounds(mean, spread)
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
        "share_of_trees": share,
        "reason": plan.reason,
        "described": described,
        "interval_coverage": coverage,
        "models": figures,
    }
    key = "timestamp" if table.time else "row"
    columns = {key: test[key], "unit": block, table.target: target, "predicted": mean, **predicted}
    return report, pd.DataFrame(columns)


def _block_name(table: Table) -> str:
    """Return the name of what the bootstrap draws: groups, days or rows."""
    if table.split_kind == "groups":
        return "groups"
    return "days" if table.time else "rows"


def report_table(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown: a paragraph and a table, our model first, then by its loss."""
    models, main, unit = report["models"], MAIN[report["loss"]], report["unit"]
    names = [name for name in MEASURES[report["loss"]] if name in models[OUR_MODEL]]
    digits = {name: min(10 * min(one[name] for one in models.values()), 100) for name in names}
    digits |= dict.fromkeys({"accuracy", "auc"} & digits.keys(), 1)
    short = NAMES[main].removeprefix("mean Poisson ")
    lines = [
        f"| model | {' | '.join(NAMES[name] for name in names)} | lead of our model ({short}) |",
        f"|:--|{'--:|' * len(names)}--:|",
    ]
    for name in sorted(models, key=lambda name: (name != OUR_MODEL, models[name][main])):
        scores, ours = models[name], name == OUR_MODEL
        cells = [f"**{name}**" if ours else name]
        for key in names:
            value, low, high = (
                number(scores[key + end], digits[key]) for end in ("", "_low", "_high")
            )
            cells.append(f"{value} [{low}, {high}]")
        gain, error = (scores.get(f"lead_{main}{end}", 0.0) for end in ("", "_se"))
        like = digits[main]
        cells.append("" if ours else f"{number(gain, like)} ± {number(error, like)}")
        lines.append(f"| {' | '.join(cells)} |")
    described = [f"{name.capitalize()} is {text}." for name, text in report["described"].items()]
    block, blocks = report["block"], report["blocks"]
    count = "" if block == "rows" else f" ({blocks} {block})"
    paragraph = (
        f"{report['rows']:,} test rows{count} of table {report['table']} (split: "
        f"{report['split']}); neither the sweep nor the selection read them. All models are fitted "
        f"on training and validation rows. {' '.join(described)} All values "
        f"{'are in' + unit_of(main, unit) + ', with' if unit_of(main, unit) else 'have'} 95 % "
        f"intervals in brackets and standard errors after ±, from a bootstrap over "
        f"{'' if block == 'rows' else 'whole '}{block}."
    )
    if report["interval_coverage"] is not None:
        paragraph += (
            f" The {NOMINAL:.0%} interval of `predict` contains {report['interval_coverage']:.1%} "
            "of the test rows."
        )
    return "\n".join([paragraph, "", *lines])
