"""Which configuration of a sweep becomes the model, for how many epochs, and why."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import yaml

from bikefit import tracking
from bikefit.comparison.ranking import (
    choice_sentence,
    comparison,
    least_flexible,
    rank,
    whole,
    winner,
    winner_sentence,
)
from bikefit.config import Settings, Validation, parse


@dataclass(frozen=True)
class Choice:
    """A configuration to fit again.

    Args:
        sweep: id of the sweep's run.
        configuration: its name in the ranking.
        settings: of its first run, but for all rows and for as many epochs as its runs (or their
            folds) selected on average, without early stopping.
        runs: ids of its runs that finished.
        why: the choice in words.
    """

    sweep: str
    configuration: str
    settings: Settings
    runs: tuple[str, ...]
    why: str

    @property
    def epochs(self) -> int:
        """Epochs of the fit."""
        return self.settings.training.epochs


def choose(sweep: str, one_standard_error: bool = False) -> tuple[Choice, Choice | None]:
    """Choose the winner of a sweep, and the unregularized network to compare it with.

    The latter is the one with the lowest train loss among those without regularization; None
    where the sweep has none.

    Raises:
        TrackingError: nothing finished, or a run does not hold what is needed.
    """
    runs = tracking.read_runs(sweep)
    ranking = rank(whole(runs)) if len(runs) else pd.DataFrame()
    best = winner(ranking)
    if best is None:
        raise tracking.TrackingError(f"sweep {sweep}: no run finished, so there is no winner")
    why = winner_sentence(ranking)
    if one_standard_error:
        found = least_flexible(ranking)
        best, why = (best if found is None else found), f"{why} {choice_sentence(ranking)}"
    free = ranking[(ranking["kind"] == "none") & (ranking["network"] != "linear")]
    free = free.dropna(subset=["train_loss"])
    plain = None if free.empty else _choice(sweep, free.sort_values("train_loss").iloc[0], runs)
    return _choice(sweep, best, runs, why), plain


def _choice(sweep: str, row: pd.Series, runs: pd.DataFrame, why: str = "") -> Choice:
    table = comparison(runs)
    own = table[(table["configuration"] == row["configuration"]) & table["val_loss"].notna()]
    selected = own["best_epoch"]
    epochs = max(1, round(selected.mean()))
    old = parse(yaml.safe_load(tracking.read_config(own["run_id"].iloc[0])))
    settings = old.model_copy(
        update={
            "data": old.data.model_copy(update={"fraction": 1.0}),
            "training": old.training.model_copy(update={"epochs": epochs}),
            "regularization": old.regularization.model_copy(
                update={"patience": None, "averaged": 0}
            ),
            "validation": Validation(name="holdout"),
        }
    )
    found = ", ".join(f"{epoch:g}" for epoch in selected)
    why = f"{why} Epochs selected by its runs: {found}; it is fitted again for {epochs}."
    return Choice(sweep, row["configuration"], settings, tuple(own["run_id"]), why.strip())
