"""The result of comparing a sweep: its tables, verdicts and figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from bikefit.comparison.losses import learning_curves, losses_by_fold_and_day
from bikefit.comparison.ranking import rank, winner
from bikefit.comparison.runs import full_data_runs, run_table
from bikefit.comparison.tables import ranking_note
from bikefit.comparison.verdicts import count_verdicts, read_thresholds, verdicts, with_verdicts
from bikefit.tracking import connection, reading, writing
from bikefit.tracking.names import PARENT, VERDICT

if TYPE_CHECKING:  # figures take a second to import, and a ranking does not need them
    from matplotlib.figure import Figure

    from bikefit.comparison.path_charts import Series


@dataclass(frozen=True, eq=False)
class Comparison:
    """The ranking of a sweep, and the verdicts on its configurations and runs.

    Args:
        sweep: Run id of the sweep.
        name: Name of the sweep.
        tracked: Runs as returned by :func:`bikefit.comparison.losses.losses_by_fold_and_day`.
        ranking: One row per configuration, best first, see :func:`bikefit.comparison.ranking.rank`,
            with ``verdict``, ``reason`` and ``next``.
        run_verdicts: Verdict on each run, see :func:`bikefit.comparison.verdicts.verdicts`.
    """

    sweep: str
    name: str
    tracked: pd.DataFrame
    ranking: pd.DataFrame
    run_verdicts: pd.DataFrame

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run with its verdict, see :func:`bikefit.comparison.runs.run_table`."""
        verdict_columns = self.run_verdicts[["verdict", "reason"]]
        return pd.concat([run_table(self.tracked), verdict_columns], axis=1)

    @cached_property
    def series(self) -> list[Series]:
        """The losses along every setting that varies alone, at most two paths per setting."""
        from bikefit.comparison.path_charts import find_series

        return find_series(self.tracked, thresholds=read_thresholds())

    @property
    def ranked_runs(self) -> pd.DataFrame:
        """The rows of ``runs`` that are ranked: those on the largest fraction of the data."""
        ranked = self.runs["configuration_id"].isin(self.ranking["configuration_id"])
        return self.runs[ranked].reset_index(drop=True)

    @cached_property
    def learning_curves(self) -> pd.DataFrame:
        """Losses by epoch, see :func:`bikefit.comparison.losses.learning_curves`."""
        return learning_curves(self.runs, self.ranking)

    def train_against_validation(self) -> Figure:
        """Draw train and validation loss of every configuration."""
        from bikefit.comparison.charts import ranking_chart

        return ranking_chart(self.ranked_runs, self.ranking)

    def curves(self) -> Figure:
        """Draw the losses along every strength and width that the sweep varies."""
        from bikefit.comparison.path_charts import overview_chart

        return overview_chart(self.series)

    def note(self) -> str:
        """Describe the sweep in Markdown: winner, verdicts, more data, and typical rows."""
        if winner(self.ranking) is None:
            return ranking_note(self.ranking)
        from bikefit.comparison.path_charts import MORE_DATA, more_data

        answers = [more_data(series) for series in self.series if series.about_data]
        more = f"{MORE_DATA} {answers[0]}" if answers else ""
        return ranking_note(self.ranking, more)

    def _repr_markdown_(self) -> str:
        """Return the text that a notebook shows."""
        return self.note()


def compare(sweep: str | None = None) -> Comparison:
    """Compare the configurations of a sweep and tag its runs with their verdicts.

    Args:
        sweep: Run id of the sweep; the latest sweep if None.

    Raises:
        TrackingError: There is no such sweep.
        ThresholdError: The file of thresholds is invalid.
    """
    sweep = sweep or reading.latest_sweep()
    name = reading.sweep_name(sweep)
    runs = losses_by_fold_and_day(reading.read_runs(sweep))
    return Comparison(sweep, name, runs, *assign_verdicts(sweep, runs))


def assign_verdicts(sweep: str, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank a sweep, judge it, and write verdicts to its runs and their counts to the sweep.

    Args:
        sweep: Run id of the sweep.
        runs: as returned by :func:`bikefit.tracking.reading.read_runs`.

    Returns:
        The ranking with the columns ``verdict``, ``reason`` and ``next``, and the verdicts on
        single runs, see :func:`bikefit.comparison.verdicts.verdicts`.

    Raises:
        ThresholdError: The file of thresholds is invalid.
    """
    thresholds = read_thresholds()
    runs = losses_by_fold_and_day(runs)
    ranking = rank(full_data_runs(runs), thresholds.confidence)
    ranking = with_verdicts(ranking, runs, thresholds)
    table = verdicts(runs, thresholds)
    if len(runs):
        # Writing a tag takes 5 ms, so only runs with another verdict are tagged.
        tags = [f"tags.{tag}" for tag in VERDICT.values()]
        old = runs.reindex(columns=tags).reset_index(drop=True).astype(object).fillna("")
        new = table[list(VERDICT)].astype(object).fillna("").set_axis(tags, axis=1)
        writing.tag_verdicts(table[(old != new).any(axis=1)])
        writing.log_counts(sweep, count_verdicts(table))
    return ranking, table


def assign_run_verdict(run: str) -> str:
    """Judge a run without a sweep, tag it with its verdict and return the verdict as text.

    A run of a sweep keeps the verdict that it has there.
    """
    tags = connection.client().get_run(run).data.tags
    if PARENT in tags and VERDICT["verdict"] in tags:
        verdict: dict[Any, Any] = {name: tags.get(tag) for name, tag in VERDICT.items()}
    else:
        table = verdicts(reading.read_run(run), read_thresholds())
        writing.tag_verdicts(table)
        verdict = table.iloc[0].to_dict()
    return f"{verdict['verdict']}: {verdict['reason']}. Next: {verdict['next']}"
