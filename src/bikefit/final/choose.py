"""Choose what to refit: seeds of the winner, or a weighted average of networks and trees.

Greedy selection with replacement (Caruana et al. 2004, "Ensemble selection from libraries of
models") adds, step by step, the network that lowers the loss of the average most. It picks the
luckiest of many networks, so its loss is measured on days that did not select.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import yaml

from bikefit.comparison.ranking import least_flexible, rank, winner
from bikefit.comparison.runs import full_data_runs, run_table, settings_of
from bikefit.comparison.sentences import choice_sentence, winner_sentence
from bikefit.config import Settings, Validation, parse
from bikefit.data.columns import TARGET
from bikefit.errors import DataError
from bikefit.final.model import average
from bikefit.final.scores import deviances
from bikefit.final.trees import TunedTrees
from bikefit.nn.losses import SMALLEST_RATE
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError

PARTITIONS = 10  # random partitions of the days into two halves
TREES_STEPS = 20  # the weight of the trees is a multiple of 1 / 20


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions for rows that the members were not trained on, in bikes/hour."""

    days: np.ndarray  # day of each row, (N,)
    target: np.ndarray  # rentals, (N,)
    members: np.ndarray  # expected rentals of each member, (M, N)
    weights: np.ndarray  # weight of each member, (M,)
    mean: np.ndarray  # expected rentals, (N,); after a selection, by members of other days

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation between the members, ``(N,)``, bikes/hour."""
        return average(self.members, self.weights)[1]


@dataclass(frozen=True, eq=False)
class RefitPlan:
    """Networks, and optionally boosted trees, to fit and to average."""

    sweep: str  # run id
    configuration: str  # name of the configuration or of the ensemble
    members: tuple[Settings, ...]  # of each network, with the number of epochs to train
    weights: tuple[float, ...]  # of each network in the average of the networks
    runs: tuple[str, ...]  # ids of the runs that the plan is based on
    reason: str  # why this plan was chosen
    held_out: HeldOut  # validation predictions of the runs
    trees: TunedTrees | None = None
    trees_weight: float = 0.0  # from 0 to 1, in the average of networks and trees


@dataclass(frozen=True, eq=False)
class SelectionScore:
    """Result of a selection on days that did not select, in bikes/hour."""

    lead: float  # by which the mean Poisson deviance is lower than that of the reference
    error: float  # standard error of the lead
    mean: np.ndarray  # expected rentals, (N,)

    def compare_with(self, reference: str) -> str:
        """Return a sentence about the lead."""
        return (
            "on days that did not select, the mean Poisson deviance is "
            f"{abs(self.lead):.3f} bikes/hour {'lower' if self.lead > 0 else 'higher'} than that "
            f"of {reference} (standard error {self.error:.3f})"
        )


def choose(
    sweep: str, seeds: int, one_standard_error: bool = False
) -> tuple[RefitPlan, RefitPlan | None]:
    """Return plans for the winner of a sweep and for an unregularized network.

    Both average networks with the seeds 0, 1, …, ``seeds - 1``. With ``one_standard_error``, the
    winner is the least flexible configuration within one standard error of the best.

    The unregularized configuration has the winner's network if possible. Among several, the one
    with most settings in common is used, then the one with the lowest train loss. There is no plan
    for it if every other nonlinear network was regularized.

    Raises:
        TrackingError: No run finished, or the runs lack predictions (see :func:`read_held_out`).
    """
    runs = run_table(reading.read_runs(sweep))
    ranking = rank(full_data_runs(runs))
    best = winner(ranking)
    if best is None:
        raise TrackingError(f"sweep {sweep} has no winner, because no run finished")
    reason = winner_sentence(ranking)
    if one_standard_error:
        best, reason = least_flexible(ranking), f"{reason} {choice_sentence(ranking)}"
        assert best is not None
    plan = _plan_seeds(sweep, best, runs, seeds, reason)
    free = ranking[(ranking["kind"] == "none") & (ranking["network"] != "linear")]
    free = free[free["configuration_id"] != best["configuration_id"]].dropna(subset=["train_loss"])
    if free.empty:
        return plan, None
    settings = settings_of(runs).astype(str).groupby(runs["configuration_id"]).first()
    settings = settings.loc[:, ~settings.columns.str.startswith("regularization.")]
    differences = (settings != settings.loc[best["configuration_id"]]).sum(axis=1)
    nearest = free.assign(
        other_network=free["network"] != best["network"],
        differences=free["configuration_id"].map(differences),
    ).sort_values(["other_network", "differences", "train_loss"])
    return plan, _plan_seeds(sweep, nearest.iloc[0], runs, seeds, reason="")


def _plan_seeds(
    sweep: str, configuration: pd.Series, runs: pd.DataFrame, seeds: int, reason: str
) -> RefitPlan:
    """Return a plan for a row of the ranking with the seeds 0, 1, …, whichever its runs had."""
    runs = _finished(runs)
    runs = runs[runs["configuration_id"] == configuration["configuration_id"]]
    settings = _refit_settings(runs)
    epochs = ", ".join(f"{epoch:g}" for epoch in runs["best_epoch"])
    return RefitPlan(
        sweep,
        configuration["configuration"],
        members=tuple(settings.model_copy(update={"seed": seed}) for seed in range(seeds)),
        weights=(1.0,) * seeds,
        runs=tuple(runs["run_id"]),
        reason=f"{reason} Its runs selected the epochs {epochs}; the refit trains for "
        f"{settings.training.epochs}.",
        held_out=read_held_out(runs["run_id"].tolist()),
    )


def _finished(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["val_loss"].notna()].reset_index(drop=True)


def _refit_settings(runs: pd.DataFrame) -> Settings:
    """Return settings for all rows and a fixed number of epochs from a configuration's runs."""
    settings = parse(yaml.safe_load(reading.read_config(runs["run_id"].iloc[0])))
    changes = {
        "data": {"fraction": 1.0},
        "training": {"epochs": max(1, round(runs["best_epoch"].mean()))},
        "regularization": {"patience": None, "averaged": 0},
    }
    changed = {key: getattr(settings, key).model_copy(update=new) for key, new in changes.items()}
    return settings.model_copy(update=changed | {"validation": Validation(name="holdout")})


def read_held_out(runs: Sequence[str]) -> HeldOut:
    """Read the validation predictions of runs, in time order and with equal weights.

    Predictions below 1 bike/hour, possible with the squared loss, are set to 1.

    Raises:
        TrackingError: A run has no predictions or predictions of other rows than the first run,
            or all rows are of one day.
    """
    tables = []
    for run in runs:
        table = reading.read_predictions(run)
        if table is None:
            raise TrackingError(
                f"run {run} has no predictions of its validation rows, which calibrate the "
                "prediction interval: train with tracking.predictions=true"
            )
        tables.append(table.sort_values("timestamp", ignore_index=True))
        if not tables[-1]["timestamp"].equals(tables[0]["timestamp"]):
            raise TrackingError(f"runs {runs[0]} and {run} have different validation rows")
    days = tables[0]["timestamp"].dt.normalize()
    if days.nunique() < 2:
        raise TrackingError(
            f"all validation rows are of {days.iloc[0]:%Y-%m-%d}: sweep over a table with at "
            "least two validation days"
        )
    members = np.stack([table["predicted"].to_numpy(np.float64) for table in tables])
    members, weights = np.maximum(members, SMALLEST_RATE), np.ones(len(tables))
    target = tables[0][TARGET].to_numpy(np.float64)
    return HeldOut(days.to_numpy(), target, members, weights, average(members, weights)[0])


def select_ensemble(plan: RefitPlan, steps: int) -> RefitPlan:
    """Select networks of the whole sweep, with their seeds, in steps of greedy selection.

    If their average is not better than the winner, the plan for the winner is returned.

    Raises:
        TrackingError: The sweep has a single run or runs of several tables, or the runs lack
            predictions.
    """
    runs = _finished(full_data_runs(run_table(reading.read_runs(plan.sweep))))
    if len(runs) < 2:
        raise TrackingError(f"sweep {plan.sweep} has a single run: refit without --ensemble")
    if runs["table"].nunique() > 1:
        raise TrackingError(
            f"sweep {plan.sweep} has runs of several tables ({', '.join(runs['table'].unique())}), "
            "but --ensemble averages networks with the same features: sweep over one table"
        )
    held_out = read_held_out(runs["run_id"].tolist())
    given = held_out.members, held_out.target
    reference = runs["run_id"].isin(plan.runs).to_numpy(np.float64)
    score = evaluate_selection(*given, held_out.days, reference, steps)
    reason = (
        f"{plan.reason} Greedy selection of {steps} among {len(runs)} networks: "
        f"{score.compare_with('the winner')}, so "
    )
    if score.lead <= 0:
        return replace(plan, reason=f"{reason}the seeds of the winner are averaged.")
    counts = select_greedily(*given, steps)
    taken, counts = runs[counts > 0].assign(count=counts[counts > 0]), counts[counts > 0]
    ids, seeds = taken["configuration_id"], taken["seed"].astype(int)
    settings = {name: _refit_settings(runs[runs["configuration_id"] == name]) for name in set(ids)}
    totals = taken.groupby("configuration")["count"].sum().sort_values(ascending=False)
    listed = ", ".join(f"{count} × {name}" for name, count in totals.items())
    return RefitPlan(
        plan.sweep,
        f"ensemble of {len(taken)} networks",
        members=tuple(
            settings[name].model_copy(update={"seed": seed})
            for name, seed in zip(ids, seeds, strict=True)
        ),
        weights=tuple(map(float, counts)),
        runs=tuple(taken["run_id"]),
        reason=f"{reason}{len(taken)} networks of {len(settings)} configurations are averaged: "
        f"{listed}.",
        held_out=replace(
            held_out,
            members=held_out.members[runs["run_id"].isin(taken["run_id"])],
            weights=counts,
            mean=score.mean,
        ),
    )


def add_trees(plan: RefitPlan, trees: TunedTrees, parts: dict[str, pd.DataFrame]) -> RefitPlan:
    """Add boosted trees to a plan; return the given plan if they do not make it better.

    Raises:
        DataError: The networks were not validated on the validation rows (cross-validation).
    """
    held_out = plan.held_out
    if not np.array_equal(held_out.target, parts["validation"][TARGET]):
        raise DataError(
            "--trees needs a sweep with validation=holdout, because trees are tuned on the "
            "validation rows of the table: refit without --trees"
        )
    predicted = trees.fit(parts["train"]).predict(parts["validation"])
    both = np.stack([held_out.mean, np.maximum(predicted, SMALLEST_RATE)])
    given, networks_only = (both, held_out.target), np.array([1.0, 0.0])
    score = evaluate_selection(*given, held_out.days, networks_only, TREES_STEPS)
    reason = f"{plan.reason} Average with boosted trees: {score.compare_with('the networks')}, so "
    if score.lead <= 0:
        return replace(plan, reason=f"{reason}no trees are used.")
    weight = float(select_greedily(*given, TREES_STEPS)[1] / TREES_STEPS)
    networks = (1 - weight) * held_out.weights / held_out.weights.sum()
    return replace(
        plan,
        reason=f"{reason}trees have a weight of {weight:.0%}.",
        trees=trees,
        trees_weight=weight,
        held_out=replace(
            held_out,
            members=np.vstack([held_out.members, both[1]]),
            weights=np.append(networks, weight),
            mean=score.mean,
        ),
    )


def select_greedily(predicted: np.ndarray, target: np.ndarray, steps: int) -> np.ndarray:
    """Return how often greedy selection takes each network, ``(M,)``; ties go to the first.

    Args:
        predicted: Expected rentals above 0, ``(M, N)``, bikes/hour.
        target: Rentals, ``(N,)``, bikes/hour.
        steps: Number of steps; each takes one network, possibly again.
    """
    counts, total = np.zeros(len(predicted), dtype=int), np.zeros(len(target))
    for step in range(1, steps + 1):
        best = int(np.argmin(_losses((total + predicted) / step, target)))
        counts[best] += 1
        total += predicted[best]
    return counts


def evaluate_selection(
    predicted: np.ndarray, target: np.ndarray, days: np.ndarray, reference: np.ndarray, steps: int
) -> SelectionScore:
    """Compare greedy selection with a reference: half of the days select, the others measure.

    The standard error is corrected for days that the halves share (Nadeau and Bengio 2003).

    Args:
        predicted: Expected rentals above 0, ``(M, N)``, bikes/hour.
        target: Rentals, ``(N,)``, bikes/hour.
        days: Day of each row, ``(N,)``; at least two different ones.
        reference: Weights of the networks in the reference, ``(M,)``.
        steps: Number of steps of the selection.
    """
    names, day_of_row = np.unique(days, return_inverse=True)
    random = np.random.default_rng(0)
    compared = average(predicted, reference)[0]
    leads, means = [], np.zeros(len(target))
    for _ in range(PARTITIONS):
        first = np.isin(day_of_row, random.permutation(len(names))[: len(names) // 2])
        for selecting in (first, ~first):
            rest = ~selecting
            counts = select_greedily(predicted[:, selecting], target[selecting], steps)
            mean = average(predicted[:, rest], counts)[0]
            leads.append(_losses(compared[rest], target[rest]) - _losses(mean, target[rest]))
            means[rest] += mean / PARTITIONS
    variance = np.var(leads, ddof=1) * (1 / len(leads) + 1)  # as many days measure as select
    return SelectionScore(float(np.mean(leads)), float(np.sqrt(variance)), means)


def _losses(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the mean Poisson deviance over the last axis."""
    return np.asarray(deviances(target, predicted).mean(axis=-1))
