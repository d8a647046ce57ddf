"""Which networks of a sweep become the model, for how many epochs, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import yaml

from bikefit.comparison.ranking import least_flexible, rank, winner
from bikefit.comparison.runs import full_data_runs, run_table, setting_columns
from bikefit.comparison.sentences import choice_sentence, winner_sentence
from bikefit.config import Settings, Validation, parse
from bikefit.final import selection
from bikefit.final.model import average
from bikefit.final.trees import TunedTrees
from bikefit.nn.losses import SMALLEST_RATE
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError

SHARES = 20  # steps in which the share of trees is found


@dataclass(frozen=True, eq=False)
class Choice:
    """Networks to fit again and to average.

    Args:
        sweep: id of the sweep's run.
        configuration: its name in the ranking, or what is averaged.
        members: settings of each network, but for all rows and for as many epochs as the runs of
            its configuration (or their folds) selected on average, without early stopping.
        weights: of each network in the average.
        runs: ids of the runs it was chosen by.
        why: the choice in words.
        trees: boosted trees that are averaged with the networks, if any.
        share: of the trees in the prediction.
    """

    sweep: str
    configuration: str
    members: tuple[Settings, ...]
    weights: tuple[float, ...]
    runs: tuple[str, ...]
    why: str
    trees: TunedTrees | None = None
    share: float = 0.0

    @property
    def epochs(self) -> tuple[int, ...]:
        """Every number of epochs that a network is fitted for, once."""
        return tuple(sorted({member.training.epochs for member in self.members}))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a choice predicts for rows that it was not trained on.

    Args:
        days: of the rows, ``(N,)``.
        target: their rentals, ``(N,)``, bikes/hour.
        mean: expected rentals, ``(N,)``, bikes/hour; of a selection, by what was selected on
            other days.
        members: expected rentals of each member, ``(M, N)``, bikes/hour.
        weights: of each member, ``(M,)``.
    """

    days: np.ndarray
    target: np.ndarray
    mean: np.ndarray
    members: np.ndarray
    weights: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation between the members, ``(N,)``."""
        return average(self.members, self.weights)[1]


def choose(
    sweep: str, seeds: int, one_standard_error: bool = False
) -> tuple[Choice, Choice | None]:
    """Choose the winner of a sweep, and the unregularized network to compare it with.

    The latter is the winner's without its regularization: of those without any, the one with the
    same network, else with the most settings in common, else with the lowest train loss.

    Args:
        sweep: id of the sweep's run.
        seeds: networks of the configuration that are averaged.
        one_standard_error: choose the least flexible configuration near the best.

    Raises:
        TrackingError: nothing finished, or a run does not hold what is needed.
    """
    runs = reading.read_runs(sweep)
    ranking = rank(full_data_runs(runs)) if len(runs) else pd.DataFrame()
    best = winner(ranking)
    if best is None:
        raise TrackingError(f"sweep {sweep}: no run finished, so there is no winner")
    why = winner_sentence(ranking)
    if one_standard_error:
        found = least_flexible(ranking)
        best, why = (best if found is None else found), f"{why} {choice_sentence(ranking)}"
    free = ranking[(ranking["kind"] == "none") & (ranking["network"] != "linear")]
    free = free[free["configuration_id"] != best["configuration_id"]].dropna(subset=["train_loss"])
    plain = None
    if len(free):
        apart = free["configuration_id"].map(_apart(best["configuration_id"], runs))
        other = free["network"] != best["network"]
        order = free.assign(apart=apart, other=other).sort_values(["other", "apart", "train_loss"])
        plain = _of_seeds(sweep, order.iloc[0], runs, seeds)
    return _of_seeds(sweep, best, runs, seeds, why), plain


def _apart(configuration: str, runs: pd.DataFrame) -> pd.Series:
    """In how many settings, but for regularization, every configuration differs from one."""
    keys = [key for key in setting_columns(runs) if not key.startswith("regularization.")]
    table = runs[keys].astype(str).groupby(run_table(runs)["configuration_id"].to_numpy()).first()
    return (table != table.loc[configuration]).sum(axis=1)


def _of_seeds(sweep: str, row: pd.Series, runs: pd.DataFrame, seeds: int, why: str = "") -> Choice:
    """A configuration with as many seeds as are asked for, whichever the sweep had."""
    own = _finished(runs)
    own = own[own["configuration_id"] == row["configuration_id"]]
    settings = _again(own)
    found = ", ".join(f"{epoch:g}" for epoch in own["best_epoch"])
    why = f"{why} Epochs selected by its runs: {found}; it is fitted again for "
    return Choice(
        sweep, row["configuration"],
        tuple(settings.model_copy(update={"seed": seed}) for seed in range(seeds)),
        (1.0,) * seeds, tuple(own["run_id"]), f"{why}{settings.training.epochs}.".strip(),
    )  # fmt: skip


def _finished(runs: pd.DataFrame) -> pd.DataFrame:
    table = run_table(runs)
    return table[table["val_loss"].notna()].reset_index(drop=True)


def _again(runs: pd.DataFrame) -> Settings:
    """Settings of a configuration for a fit on all rows, from its runs."""
    epochs = max(1, round(runs["best_epoch"].mean()))
    old = parse(yaml.safe_load(reading.read_config(runs["run_id"].iloc[0])))
    return old.model_copy(
        update={
            "data": old.data.model_copy(update={"fraction": 1.0}),
            "training": old.training.model_copy(update={"epochs": epochs}),
            "regularization": old.regularization.model_copy(
                update={"patience": None, "averaged": 0}
            ),
            "validation": Validation(name="holdout"),
        }
    )


def held_out(choice: Choice) -> HeldOut:
    """Read what the runs of a configuration predicted for rows that they were not trained on.

    Raises:
        TrackingError: a run kept no predictions.
    """
    predicted, rows = _predictions(choice.runs)
    weights = np.ones(len(predicted))
    mean = average(predicted, weights)[0]
    return HeldOut(_days(rows), rows["rentals"].to_numpy(np.float64), mean, predicted, weights)


def select(best: Choice, steps: int) -> tuple[Choice, HeldOut]:
    """Choose the networks of a sweep that are best averaged, if that is better than the winner.

    Args:
        best: the winner.
        steps: of :func:`bikefit.final.selection.greedy`.

    Returns:
        The networks, each with the seed that it had in the sweep; or the winner, where the
        selection is no better on days that it has not seen. Of the selection, held-out rows are
        predicted by what was selected on other days.

    Raises:
        TrackingError: there is nothing to select from, or the runs do not hold what is needed.
    """
    runs = _candidates(best.sweep)
    predicted, rows = _predictions(runs["run_id"])
    target, days = rows["rentals"].to_numpy(np.float64), _days(rows)
    present = runs["run_id"].isin(best.runs).to_numpy(np.float64)
    judged = selection.judge(predicted, target, days, present, steps)
    told = (
        f"{best.why} Greedy selection of {steps} among {len(runs)} networks: "
        f"{_compared(judged, 'the winner')}, so "
    )
    if judged.lead <= 0:
        return replace(best, why=f"{told}the winner's seeds are averaged."), held_out(best)
    counts = selection.greedy(predicted, target, steps)
    chosen = _average(best, runs.assign(count=counts), told)
    taken = counts > 0
    return chosen, HeldOut(days, target, judged.mean, predicted[taken], counts[taken])


def mix(
    choice: Choice, held: HeldOut, trees: TunedTrees, predicted: np.ndarray
) -> tuple[Choice, HeldOut]:
    """Average the networks of a choice with boosted trees, if that is better.

    Args:
        choice: the networks.
        held: what they predict for the validation rows.
        trees: tuned on the same rows.
        predicted: what they predict for these, ``(N,)``, bikes/hour.
    """
    two = np.stack([held.mean, np.maximum(predicted, SMALLEST_RATE)])
    judged = selection.judge(two, held.target, held.days, np.array([1.0, 0.0]), SHARES)
    told = f"{choice.why} Boosted trees mixed in: {_compared(judged, 'the networks alone')}, so "
    if judged.lead <= 0:
        return replace(choice, why=f"{told}they are not."), held
    share = float(selection.greedy(two, held.target, SHARES)[1] / SHARES)
    weights = np.append((1 - share) * held.weights / held.weights.sum(), share)
    mixed = replace(
        held, mean=judged.mean, members=np.vstack([held.members, two[1]]), weights=weights
    )
    return replace(choice, why=f"{told}they count {share:.0%}.", trees=trees, share=share), mixed


def _compared(judged: selection.Judged, other: str) -> str:
    word = "lower" if judged.lead > 0 else "higher"
    return (
        "on days that the selection has not seen, the mean Poisson deviance is "
        f"{abs(judged.lead):.3f} {word} than that of {other}, with a standard error of "
        f"{judged.error:.3f}"
    )


def _average(best: Choice, runs: pd.DataFrame, told: str) -> Choice:
    """The networks of the runs that were taken, each as often as ``count`` says."""
    taken = runs[runs["count"] > 0]
    again = {
        name: _again(runs[runs["configuration_id"] == name])
        for name in taken["configuration_id"].unique()
    }
    pairs = zip(taken["configuration_id"], taken["seed"].astype(int), strict=True)
    times = taken.groupby("configuration")["count"].sum().sort_values(ascending=False)
    listed = ", ".join(f"{count} × {name}" for name, count in times.items())
    return Choice(
        best.sweep,
        f"ensemble of {len(taken)} networks",
        tuple(again[name].model_copy(update={"seed": seed}) for name, seed in pairs),
        tuple(taken["count"].astype(float)),
        tuple(taken["run_id"]),
        f"{told}{len(taken)} networks of {len(again)} configurations are averaged: {listed}.",
    )


def _candidates(sweep: str) -> pd.DataFrame:
    runs = _finished(full_data_runs(reading.read_runs(sweep)))
    if len(runs) < 2:
        raise TrackingError(f"sweep {sweep} has a single run: there is nothing to select")
    if runs["table"].nunique() > 1:
        raise TrackingError(
            f"sweep {sweep} has runs of several tables ({', '.join(runs['table'].unique())}): "
            "networks are averaged that see the same columns; sweep over one table"
        )
    return runs


def _days(rows: pd.DataFrame) -> np.ndarray:
    """The day of each row.

    Raises:
        TrackingError: there is one day alone.
    """
    days = rows["timestamp"].dt.normalize()
    if days.nunique() < 2:
        raise TrackingError(
            f"all runs were validated on {days.iloc[0]:%Y-%m-%d} alone: a selection has to be "
            "judged on days that it has not seen"
        )
    return days.to_numpy()


def _predictions(runs: Sequence[str] | pd.Series) -> tuple[np.ndarray, pd.DataFrame]:
    """Predictions of each run for held-out rows, ``(M, N)``, and the rows in time order.

    Predictions below 1 bike/hour count as 1: no hour has less, and the squared loss knows no limit.
    """
    tables = []
    for run in runs:
        one = reading.read_predictions(run)
        if one is None:
            raise TrackingError(
                f"run {run} kept no predictions, by which its average is judged and its interval "
                "calibrated: train with tracking.predictions=true"
            )
        tables.append(one.sort_values("timestamp", ignore_index=True))
    for run, one in zip(runs, tables, strict=True):
        if not one["timestamp"].equals(tables[0]["timestamp"]):
            raise TrackingError(f"run {run} was validated on other rows than the first")
    predicted = np.stack([one["predicted"].to_numpy(np.float64) for one in tables])
    return np.maximum(predicted, SMALLEST_RATE), tables[0]
