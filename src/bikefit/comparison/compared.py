"""A sweep that has been compared: its tables, and its figures, drawn when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from bikefit import tracking
from bikefit.comparison.conclude import conclude
from bikefit.comparison.parts import with_parts
from bikefit.comparison.ranking import comparison, winner_note
from bikefit.comparison.verdicts import read_thresholds, verdicts


@dataclass(frozen=True, eq=False)
class Comparison:
    """Who won a sweep, and what is said of every run.

    Args:
        sweep: its run id.
        name: of it.
        tracked: its runs as MLflow has them, see :func:`bikefit.comparison.parts.with_parts`.
        ranking: a row for each configuration, best first, see
            :func:`bikefit.comparison.ranking.rank`, with ``verdict``, ``reason`` and ``next``.
    """

    sweep: str
    name: str
    tracked: pd.DataFrame
    ranking: pd.DataFrame

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each run, see :func:`bikefit.comparison.ranking.comparison`, with verdicts."""
        said = verdicts(self.tracked, read_thresholds())[["verdict", "reason"]]
        return pd.concat([comparison(self.tracked), said], axis=1)

    @cached_property
    def learning_curves(self) -> pd.DataFrame:
        """Losses by epoch of the runs that stand out: see `reports.learning_curves`."""
        from bikefit.comparison.reports import learning_curves

        return learning_curves(self.runs, self.ranking)

    def train_against_validation(self) -> Figure:
        """Draw where every configuration stands, underfitting, overfitting or fitting well."""
        from bikefit.comparison.figures import train_against_validation

        whole = self.runs["configuration"].isin(self.ranking["configuration"])
        return train_against_validation(self.runs[whole], self.ranking)

    def curves(self) -> Figure:
        """Draw loss against every strength and width that the sweep varies, verdicts shaded."""
        from bikefit.comparison.curves import find_series, overview

        return overview(find_series(self.tracked, thresholds=read_thresholds()))

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return winner_note(self.ranking)


def compare(sweep: str | None = None) -> Comparison:
    """Read a sweep, None for the latest, and conclude it."""
    sweep = sweep or tracking.latest_sweep()
    name = tracking.sweep_name(sweep)
    runs = with_parts(tracking.read_runs(sweep))
    return Comparison(sweep, name, runs, conclude(sweep, runs))
