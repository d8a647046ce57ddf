"""Choose the networks to refit: the winner's, or these and the best of other regularizations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import yaml

from bikefit.comparison.ranking import comparable, least_flexible, rank, winner
from bikefit.comparison.runs import full_data_runs, run_table
from bikefit.comparison.sentences import choice_sentence, winner_sentence
from bikefit.config import Settings, Validation, parse
from bikefit.data.columns import TARGET
from bikefit.errors import DataError
from bikefit.final.scores import deviances
from bikefit.final.trees import TunedTrees
from bikefit.nn.losses import SMALLEST_RATE
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError

DELIVERED = "our model"
WINNER = "the comparison's winner"
UNREGULARIZED = "our unregularized network"
SHARES = np.arange(21) / 20  # weights that trees can have


@dataclass(frozen=True, eq=False)
class RefitPlan:
    """Networks to fit and their averages to test.

    Args:
        sweep: Run id.
        networks: One row per network as in :func:`~bikefit.comparison.runs.run_table`, with the
            ``settings`` to fit it with, and a column of bool for each of :data:`DELIVERED`,
            :data:`WINNER` and :data:`UNREGULARIZED`: whether the network is part of this average.
        reason: Why these networks are delivered.
        target: Rentals of the validation rows, ``(N,)``.
        held_out: Rentals that each network expected for these rows, ``(M, N)``, bikes/hour.
    """

    sweep: str
    networks: pd.DataFrame
    reason: str
    target: np.ndarray
    held_out: np.ndarray

    def settings(self, model: str) -> list[Settings]:
        """Return the settings of the networks of an average, for training on all rows."""
        return self.networks.loc[self.networks[model], "settings"].tolist()

    def describe(self, model: str) -> str:
        """Return "the mean of 3 networks of l2 λ=0.1 · mlp 128×128" for an average."""
        rows = self.networks[self.networks[model]]
        name, mean = rows["configuration"].iloc[0], f"the mean of {len(rows)} networks"
        if rows["configuration_id"].nunique() > 1:
            return f"{mean}: the winner's and the best of each other kind of regularization"
        return f"{mean} of {name}" if len(rows) > 1 else name


def choose(sweep: str, average: bool, one_standard_error: bool) -> RefitPlan:
    """Choose the networks of the winner of a sweep.

    With ``average``, the network with the lowest validation loss of each other kind of
    regularization is added, if that lowers the Poisson deviance of the validation rows. With
    ``one_standard_error``, the least flexible configuration within one standard error of the best
    takes the place of the winner. For the test, the plan has the unregularized configuration with
    the same network, if there is one.

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
    ranking = comparable(ranking)
    ranking = ranking[ranking["table"] == best["table"]]
    runs = runs[runs["configuration_id"].isin(ranking["configuration_id"])]
    runs = runs.dropna(subset=["val_loss"])
    ids = runs["configuration_id"]
    plain = ranking[(ranking["kind"] == "none") & (ranking["network"] == best["network"])]
    plain = plain[plain["configuration_id"] != best["configuration_id"]]
    # The configuration with the shortest name differs from most in nothing but its regularization.
    shortest = plain["configuration"].str.len().argsort()[:1]
    others = runs[runs["kind"] != best["kind"]]
    added = others.loc[others.groupby("kind")["val_loss"].idxmin()] if average else others[:0]
    runs = runs.assign(epochs=runs.groupby("configuration_id")["best_epoch"].transform("mean"))
    runs[WINNER] = ids == best["configuration_id"]
    runs[UNREGULARIZED] = ids.isin(plain["configuration_id"].iloc[shortest])
    runs[DELIVERED] = runs[WINNER] | runs["run_id"].isin(added["run_id"])
    networks = runs[runs[DELIVERED] | runs[UNREGULARIZED]].reset_index(drop=True)
    settings = map(refit_settings, networks["run_id"], networks["epochs"])
    networks["settings"] = pd.Series(settings, dtype=object)
    target, held_out = read_held_out(networks["run_id"])
    if len(added):
        ours, alone = (
            deviances(target, held_out[networks[name]].mean(axis=0)).mean()
            for name in (DELIVERED, WINNER)
        )
        reason += (
            f" Averaged with the best network of each of {len(added)} other kinds of "
            f"regularization, the winner has a mean Poisson deviance of {ours:.3f} instead of "
            f"{alone:.3f} bikes/hour on the validation rows."
        )
        if ours >= alone:
            networks[DELIVERED] = networks[WINNER]
    return RefitPlan(sweep, networks, reason, target, held_out)


def read_held_out(runs: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read rentals, ``(N,)``, and predicted rentals, ``(M, N)``, of the validation rows of runs.

    Rows are in time order. Predictions below 1 bike/hour, possible with the squared loss, are 1.

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
        tables.append(table.sort_values("timestamp"))
    predicted = np.stack([table["predicted"].to_numpy(np.float64) for table in tables])
    return tables[0][TARGET].to_numpy(np.float64), np.maximum(predicted, SMALLEST_RATE)


def refit_settings(run: str, epochs: float) -> Settings:
    """Return the settings of a run for training on all rows and a fixed number of epochs."""
    settings = parse(yaml.safe_load(reading.read_config(run)))
    changes = {
        "data": {"fraction": 1.0},
        "training": {"epochs": max(1, round(epochs))},
        "regularization": {"patience": None, "averaged": 0},
    }
    changed = {key: getattr(settings, key).model_copy(update=new) for key, new in changes.items()}
    return settings.model_copy(update=changed | {"validation": Validation(name="holdout")})


def weigh_trees(
    plan: RefitPlan, trees: TunedTrees, parts: Mapping[str, pd.DataFrame]
) -> tuple[float, np.ndarray]:
    """Return the :func:`trees_share` in our model, and predictions for the validation rows.

    Raises:
        DataError: The networks were not validated on the validation rows (cross-validation).
    """
    if not np.array_equal(plan.target, parts["validation"][TARGET]):
        raise DataError(
            "--average needs a sweep with validation=holdout, because trees are tuned on the "
            "validation rows of the table: refit without --average"
        )
    predicted = trees.fit(parts["train"]).predict(parts["validation"])
    networks = plan.held_out[plan.networks[DELIVERED]].mean(axis=0)
    return trees_share(networks, predicted, plan.target), predicted


def trees_share(networks: np.ndarray, trees: np.ndarray, target: np.ndarray) -> float:
    """Return the weight of trees, a multiple of 5 %, with the lowest Poisson deviance.

    Predictions of networks and trees, and the rentals, are ``(N,)``, bikes/hour.
    """
    shares = SHARES[:, None]
    losses = deviances(target, (1 - shares) * networks + shares * trees).mean(axis=1)
    return float(SHARES[losses.argmin()])
