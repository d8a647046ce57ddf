"""A sweep that has been compared: its tables, and its figures, drawn when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from bikefit.comparison.conclude import conclude
from bikefit.comparison.histories import learning_curves
from bikefit.comparison.parts import with_parts
from bikefit.comparison.ranking import FRACTION, comparison, story, winner_note
from bikefit.comparison.verdicts import read_thresholds
from bikefit.tracking import reading

if TYPE_CHECKING:  # pictures take a second to load, which a ranking need not wait for
    from matplotlib.figure import Figure

    from bikefit.comparison.curves import Series


@dataclass(frozen=True, eq=False)
class Comparison:
    """Who won a sweep, and what is said of every run.

    Args:
        sweep: its run id.
        name: of it.
        tracked: its runs as MLflow has them, see :func:`bikefit.comparison.parts.with_parts`.
        ranking: a row for each configuration, best first, see
            :func:`bikefit.comparison.ranking.rank`, with ``verdict``, ``reason`` and ``next``.
        said: the verdict on each run, see :func:`bikefit.comparison.verdicts.verdicts`.
    """

    sweep: str
    name: str
    tracked: pd.DataFrame
    ranking: pd.DataFrame
    said: pd.DataFrame

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each run, see :func:`bikefit.comparison.ranking.comparison`, with verdicts."""
        return pd.concat([comparison(self.tracked), self.said[["verdict", "reason"]]], axis=1)

    @cached_property
    def series(self) -> list[Series]:
        """The curves along every setting that varies alone, the best two of each."""
        from bikefit.comparison.curves import find_series

        return find_series(self.tracked, thresholds=read_thresholds())

    @property
    def whole(self) -> pd.DataFrame:
        """The runs that are ranked: those on fewer rows answer step 8 and are no candidates."""
        ranked = self.runs["configuration"].isin(self.ranking["configuration"])
        return self.runs[ranked].reset_index(drop=True)

    @cached_property
    def learning_curves(self) -> pd.DataFrame:
        """Losses by epoch of the runs that stand out: see `histories.learning_curves`."""
        return learning_curves(self.runs, self.ranking)

    def train_against_validation(self) -> Figure:
        """Draw where every configuration stands, underfitting, overfitting or fitting well."""
        from bikefit.comparison.figures import train_against_validation

        return train_against_validation(self.whole, self.ranking)

    def curves(self) -> Figure:
        """Draw loss against every strength and width that the sweep varies, verdicts shaded."""
        from bikefit.comparison.curves import overview

        return overview(self.series)

    def note(self) -> str:
        """Tell its story in Markdown: who won, verdicts, step 8, and the rows that show it."""
        from bikefit.comparison.curves import more_data

        sizes = [more_data(one) for one in self.series if one.key == FRACTION]
        more = " ".join(f"Would more data help? {said}" for said in sizes[:1])
        return winner_note(self.ranking, shown=story(self.ranking), more=more)

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return self.note()


def compare(sweep: str | None = None) -> Comparison:
    """Read a sweep, None for the latest, and conclude it."""
    sweep = sweep or reading.latest_sweep()
    name = reading.sweep_name(sweep)
    runs = with_parts(reading.read_runs(sweep))
    return Comparison(sweep, name, runs, *conclude(sweep, runs))
