"""Choose the networks to refit: those of the winner, or also the best of other regularizations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bikefit.comparison.ranking import comparable, least_flexible, rank, winner
from bikefit.comparison.runs import full_data_runs, run_table
from bikefit.comparison.sentences import choice_sentence, winner_sentence
from bikefit.config import Settings, parse
from bikefit.data.rows import in_order
from bikefit.errors import DataError
from bikefit.final.data import RefitData
from bikefit.final.interval import Interval, calibrate, lowest_mean
from bikefit.final.model import mean_and_spread
from bikefit.final.scores import MAIN, NAMES, main_measure, unit_of
from bikefit.final.trees import TunedTrees, tune
from bikefit.losses import LossName
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError
from bikefit.trained import check_layers, settings_of

OUR_MODEL = "our model"
WINNER = "the comparison's winner"
UNREGULARIZED = "our unregularized network"


@dataclass(frozen=True, eq=False)
class RefitPlan:
    """What to fit, as chosen on the validation rows, and the models to test.

    Args:
        sweep: Run id.
        networks: One row per network as in :func:`~bikefit.comparison.runs.run_table`, with the
            ``settings`` for the refit. A column of bool for each of :data:`OUR_MODEL`,
            :data:`WINNER` and :data:`UNREGULARIZED` is True if the network is part of this model.
        reason: Sentences that explain the choice.
        target: Target of the validation rows, ``(N,)``.
        predicted: Predictions of these rows by each network in the sweep, ``(M, N)``.
        trees: Tuned boosted trees, if LightGBM can be loaded.
        share: Weight of the trees in our model.
        interval: Prediction interval of our model; None for probabilities.
    """

    sweep: str
    networks: pd.DataFrame
    reason: str
    target: np.ndarray
    predicted: np.ndarray
    trees: TunedTrees | None = None
    share: float = 0.0
    interval: Interval | None = None

    @property
    def loss(self) -> LossName:
        """Return the loss of the winner, by which models are compared."""
        return self.settings(WINNER)[0].loss

    def settings(self, model: str) -> list[Settings]:
        """Return the settings for the refit of the networks of a model."""
        return self.networks.loc[self.networks[model], "settings"].tolist()

    def describe(self, model: str) -> str:
        """Return a text like "the mean of 3 networks of l2 λ=0.1 · mlp 128×128"."""
        rows = self.networks[self.networks[model]]
        name, mean = rows["configuration"].iloc[0], f"the mean of {len(rows)} networks"
        if rows["configuration_id"].nunique() > 1:
            return f"{mean}: the winner's and the best of each other kind of regularization"
        return f"{mean} of {name}" if len(rows) > 1 else name

    def measure(self, model: str) -> float:
        """Return the main measure of the networks of a model on the validation rows."""
        predicted = self.predicted[self.networks[model]].mean(axis=0)
        return float(main_measure(self.loss, self.target, predicted))


def plan_refit(sweep: str, average: bool, one_standard_error: bool) -> RefitPlan:
    """Return the plan to refit the networks of the winner of a sweep.

    With ``average``, the network with the lowest validation loss of each other kind of
    regularization is added, if that lowers the loss of the validation rows. With
    ``one_standard_error``, the winner is the least flexible configuration within one standard error
    of the best. The plan has the unregularized configuration with the winner's network, if the
    sweep has one.

    Raises:
        TrackingError: No run finished, or the runs lack predictions.
    """
    runs = full_data_runs(run_table(reading.read_runs(sweep)))
    ranking = rank(runs)
    best = least_flexible(ranking) if one_standard_error else winner(ranking)
    if best is None:
        raise TrackingError(f"sweep {sweep} has no winner, because no run finished")
    reason = winner_sentence(ranking)
    if one_standard_error:
        reason += f" {choice_sentence(ranking)}"
    networks = _select_networks(runs, ranking, best, average)
    settings = map(refit_settings, networks["run_id"], networks["epochs"])
    networks["settings"] = pd.Series(settings, dtype=object)
    target, predicted = read_validation_predictions(networks["run_id"])
    plan = RefitPlan(sweep, networks, reason, target, predicted)
    if plan.loss == "poisson":
        np.maximum(predicted, lowest_mean(target), out=predicted)
    if added := int((networks[OUR_MODEL] & ~networks[WINNER]).sum()):
        ours, alone, main = plan.measure(OUR_MODEL), plan.measure(WINNER), MAIN[plan.loss]
        reason += (
            f" Averaged with the best network of each of {added} other kinds of "
            f"regularization, the winner has a {NAMES[main]} of {ours:.3f} instead of "
            f"{alone:.3f}{unit_of(main, best['target_unit'])} on the validation rows."
        )
        if ours >= alone:
            networks[OUR_MODEL] = networks[WINNER]
    return replace(plan, reason=reason)


def _select_networks(
    runs: pd.DataFrame, ranking: pd.DataFrame, best: pd.Series, average: bool
) -> pd.DataFrame:
    """Return the runs of our model, the winner and the unregularized network, with ``epochs``."""
    ranking = comparable(ranking)
    ranking = ranking[ranking["table"] == best["table"]]
    runs = runs[runs["configuration_id"].isin(ranking["configuration_id"])]
    runs = runs.dropna(subset=["val_loss"])
    plain = ranking[(ranking["kind"] == "none") & (ranking["network"] == best["network"])]
    plain = plain[plain["configuration_id"] != best["configuration_id"]]
    # The configuration with the shortest name differs from most in nothing but its regularization.
    shortest = plain["configuration"].str.len().argsort()[:1]
    others = runs[runs["kind"] != best["kind"]]
    added = others.loc[others.groupby("kind")["val_loss"].idxmin()] if average else others[:0]
    ids = runs["configuration_id"]
    runs = runs.assign(epochs=runs.groupby("configuration_id")["best_epoch"].transform("mean"))
    runs[WINNER] = ids == best["configuration_id"]
    runs[UNREGULARIZED] = ids.isin(plain["configuration_id"].iloc[shortest])
    runs[OUR_MODEL] = runs[WINNER] | runs["run_id"].isin(added["run_id"])
    return runs[runs[OUR_MODEL] | runs[UNREGULARIZED]].reset_index(drop=True)


def read_validation_predictions(runs: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the target, ``(N,)``, and predictions, ``(M, N)``, of the validation rows of runs.

    Rows are in order.

    Raises:
        TrackingError: A run has no predictions.
    """
    tables = []
    for run in runs:
        table = reading.read_predictions(run)
        if table is None:
            raise TrackingError(
                f"run {run} has no predictions of its validation rows, which calibrate the "
                "prediction interval: train with tracking.predictions=true"
            )
        tables.append(in_order(table))
    predicted = np.stack([table["predicted"].to_numpy(np.float64) for table in tables])
    return tables[0]["target"].to_numpy(np.float64), predicted


def refit_settings(run: str, epochs: float) -> Settings:
    """Return the settings of a run for training on all rows and a fixed number of epochs.

    Raises:
        DataError: The network has layers from packages that ``network.allow`` lists.
    """
    settings = settings_of(run)
    check_layers(run, settings)
    config = settings.model_dump(by_alias=True)
    config["data"]["fraction"] = 1.0
    config["training"] |= {"epochs": max(1, round(epochs)), "probe": 0.0}
    config["regularization"] |= {"patience": None, "averaged": 0}
    config["validation"] = {"name": "holdout"}
    return parse(config)


def complete_plan(plan: RefitPlan, data: RefitData, average: bool) -> RefitPlan:
    """Return a plan with tuned trees, their weight and the prediction interval.

    Without ``average``, the weight is 0.

    Raises:
        DataError: With ``average``, the sweep was cross-validated: its predictions are of other
            rows than those that trees are tuned on.
    """
    train, validation = data.parts["train"], data.parts["validation"]
    trees = tune(train, validation, data.table.target, plan.loss, data.tree_columns())
    networks, by_trees, share = plan.predicted[plan.networks[OUR_MODEL]], None, 0.0
    if average and trees:
        target = validation[data.table.target].to_numpy(np.float32)
        if not np.array_equal(plan.target, target):  # runs store the target in single precision
            raise DataError(
                "--average needs a sweep with validation=holdout, because trees are tuned on the "
                "validation rows of the table: refit without --average"
            )
        by_trees = trees.fit(train).predict(validation)
        share = trees_share(plan.loss, networks.mean(axis=0), by_trees, plan.target)
    interval = calibrate(plan.loss, plan.target, *mean_and_spread(networks, by_trees, share))
    return replace(plan, trees=trees, share=share, interval=interval)


def trees_share(
    loss: LossName, networks: np.ndarray, trees: np.ndarray, target: np.ndarray
) -> float:
    """Return the weight of trees, a multiple of 5 %, with the lowest loss.

    Predictions of networks and trees, and the target, are ``(N,)``.
    """
    shares = np.arange(21) / 20
    averages = np.outer(1 - shares, networks) + np.outer(shares, trees)
    return float(shares[main_measure(loss, target, averages).argmin()])
