"""The result of comparing a sweep: its tables, verdicts and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from bikefit.comparison.experiments import Metrics, experiment_table
from bikefit.comparison.losses import loss_curves, losses_by_fold_and_day
from bikefit.comparison.ranking import highlighted_runs, rank, views_of_runs
from bikefit.comparison.runs import full_data_runs, run_table
from bikefit.comparison.tables import ranking_note
from bikefit.comparison.verdicts import read_thresholds, verdicts, with_verdicts
from bikefit.tracking import connection, reading, writing
from bikefit.tracking.connection import TrackingError
from bikefit.tracking.names import PARENT, VERDICT, views_of

if TYPE_CHECKING:  # figures take a second to import, and a ranking does not need them
    from matplotlib.figure import Figure

    from bikefit.comparison.path_charts import Series
    from bikefit.data.table import Table
    from bikefit.trained import TrainedNetwork

HISTORIES = {"train": "train/loss", "validation": "val/loss"}  # metrics by epoch


@dataclass(frozen=True, eq=False)
class Comparison:
    """The ranking of a sweep, and the verdicts on its configurations and runs.

    Args:
        sweep: Run id of the sweep; "" for an experiment of another program.
        name: Name of the sweep or of the experiment.
        runs: One row per run, see :func:`bikefit.comparison.runs.run_table`, with ``verdict``,
            ``reason`` and ``next``.
        ranking: One row per configuration, best first, see :func:`bikefit.comparison.ranking.rank`,
            with ``verdict``, ``reason`` and ``next``.
        histories: Metrics of train and validation loss by epoch, under ``train`` and
            ``validation``.
        remarks: Sentences about runs that are left out.
    """

    sweep: str
    name: str
    runs: pd.DataFrame
    ranking: pd.DataFrame
    histories: Mapping[str, str] = field(default_factory=lambda: dict(HISTORIES))
    remarks: tuple[str, ...] = ()

    @cached_property
    def series(self) -> list[Series]:
        """The losses along every setting that varies alone, at most two paths per setting."""
        from bikefit.comparison.path_charts import find_series

        return find_series(self.runs)

    @property
    def ranked_runs(self) -> pd.DataFrame:
        """The rows of ``runs`` that are ranked: those on the largest fraction of the data."""
        return full_data_runs(self.runs)

    @cached_property
    def highlighted(self) -> dict[str, pd.Series]:
        """Three runs by role, see :func:`bikefit.comparison.ranking.highlighted_runs`."""
        return highlighted_runs(self.ranked_runs, self.ranking)

    @cached_property
    def learning_curves(self) -> pd.DataFrame:
        """Losses by epoch of the highlighted runs.

        Columns are ``epoch``, ``winner train``, ``winner validation`` and so on.
        """
        runs = {role: run["run_id"] for role, run in self.highlighted.items()}
        curves = loss_curves(runs, self.histories)
        curves["curve"] = curves["name"] + " " + curves["part"]
        table = curves.pivot(index="epoch", columns="curve", values="loss")
        return table[curves["curve"].unique()].rename_axis(columns=None).reset_index()

    def train_against_validation(self) -> Figure:
        """Draw validation against train loss of every configuration."""
        from bikefit.comparison.charts import plane_chart

        return plane_chart(self.ranked_runs, self.ranking)

    def curves(self) -> Figure:
        """Draw the losses along every strength and width that the sweep varies."""
        from bikefit.comparison.path_charts import overview_chart

        return overview_chart(self.series)

    def week(self, date: str | None = None) -> pd.DataFrame:
        """Return target and predictions of the seven days from a date, such as "2012-06-04".

        By default, they are the most typical week, see
        :func:`bikefit.comparison.predictions.typical_weeks`.

        Returns:
            Training and validation rows: ``timestamp``, ``part`` (train or validation), the target
            under its name, and the prediction of each highlighted run under its role.

        Raises:
            BikefitError: Rows have no time, there are no such rows, or no networks that can
                predict.
        """
        from bikefit.comparison.predictions import prediction_table, select_week

        table = prediction_table({role: nets[0] for role, nets in self._networks.items()})
        return select_week(table, pd.Timestamp(date) if date else None)

    def week_figure(self, date: str | None = None) -> Figure:
        """Draw :meth:`week`."""
        from bikefit.comparison.predictions import week_chart

        return week_chart(self.week(date), self.table.unit or self.table.target)

    def response(self, column: str, at: str | None = None) -> pd.DataFrame:
        """Return the predicted target as a function of one column, the others having fixed values.

        Other columns have the median of the training rows, or the value that most of them have. In
        the bike tables the weather is clear and the felt temperature changes with the temperature.

        Args:
            column: A column of the table, or ``hour`` if it has times.
            at: Time of the rows, such as "2012-06-06T17:00", the default for the rental bikes: the
                first Wednesday of June in the last year.

        Returns:
            Rows with ``role``, ``network`` (a number: all seeds predict) and ``predicted``.

        Raises:
            BikefitError: There is no such column, or no networks that can predict.
        """
        from bikefit.comparison.predictions import made_up_rows, response_table

        networks = self._networks
        rows = made_up_rows(networks["winner"][0], column, pd.Timestamp(at) if at else None)
        return response_table(networks, rows)

    def response_figure(self, column: str, at: str | None = None) -> Figure:
        """Draw :meth:`response`."""
        from bikefit.comparison.predictions import response_chart

        target, unit = self.table.target, self.table.unit or self.table.target
        return response_chart(self.response(column, at), column, target, unit)

    @property
    def table(self) -> Table:
        """Description of the table of :meth:`week` and :meth:`response`."""
        return self._networks["winner"][0].table

    @property
    def response_columns(self) -> list[str]:
        """Columns for :meth:`response`, those first that change the prediction most."""
        from bikefit.comparison.predictions import response_columns

        return response_columns(self._networks["winner"][0])

    def bias_variance(self) -> pd.DataFrame:
        """Split the validation loss of each configuration into bias, variance and noise.

        The sweep needs ``validation=resample``. Half the Poisson deviance is split, or the squared
        error if all runs have the loss mse; see :mod:`bikefit.comparison.bias_variance`.

        Returns:
            One row per configuration, the lowest loss first: ``configuration``,
            ``configuration_id``, ``sets`` (number of training sets), ``error`` (mean loss),
            ``variance`` and ``rest`` (bias² and noise), and for a table with a known rate also
            ``bias``, ``noise``, ``sum`` (of the three) and ``sum_se``, the standard error of its
            difference from ``error``. Other columns ``…_se`` are standard errors over the sets.

        Raises:
            BikefitError: No run has several training sets, or predictions are missing.
        """
        from bikefit.comparison.bias_variance import bias_variance_table

        return bias_variance_table(self.ranked_runs)

    def bias_variance_figure(self) -> Figure:
        """Draw :meth:`bias_variance` along every strength and width that the sweep varies."""
        from bikefit.comparison.bias_variance import bias_variance_chart
        from bikefit.comparison.path_charts import longest_paths

        return bias_variance_chart(longest_paths(self.series), self.bias_variance())

    @cached_property
    def _networks(self) -> dict[str, list[TrainedNetwork]]:
        """The networks of the highlighted configurations by role, the highlighted runs first."""
        from bikefit.trained import load

        if not self.highlighted:
            raise TrackingError(f"sweep {self.sweep}: no run has a result")
        runs = self.ranked_runs.dropna(subset=["val_loss"]).sort_values("val_loss", kind="stable")
        of = dict(list(runs.groupby("configuration_id")["run_id"]))
        return {
            role: [load(other) for other in of[run["configuration_id"]]]
            for role, run in self.highlighted.items()
        }

    def note(self) -> str:
        """Describe the sweep in Markdown: winner, verdicts, more data, and typical rows."""
        from bikefit.comparison.path_charts import MORE_DATA, more_data

        answers = [more_data(series) for series in self.series if series.about_data]
        more = f"{MORE_DATA} {answers[0]}" if answers else ""
        return ranking_note(self.ranking, more)

    def _repr_markdown_(self) -> str:
        """Return the text that a notebook shows."""
        return self.note()


def compare(sweep: str | None = None) -> Comparison:
    """Rank and judge the configurations of a sweep.

    Verdicts are written to its runs as tags, and their counts to the sweep.

    Args:
        sweep: Run id of the sweep; the latest sweep if None.

    Raises:
        TrackingError: There is no such sweep.
        ThresholdError: The file of thresholds is invalid.
    """
    sweep = sweep or reading.latest_sweep()
    name = reading.sweep_name(sweep)
    runs = reading.read_runs(sweep)
    table, ranking = _judge(losses_by_fold_and_day(run_table(runs)))
    if len(runs):
        # Writing a tag takes 5 ms, so only runs with another verdict are tagged.
        tags = list(VERDICT.values())
        old = runs.reindex(columns=[f"tags.{tag}" for tag in tags]).set_axis(tags, axis=1)
        new = table[list(VERDICT)].set_axis(tags, axis=1)
        changed = new.astype(object).fillna("") != old.astype(object).fillna("")
        writing.tag_verdicts(table[changed.any(axis=1)])
        shown = views_of_runs(full_data_runs(table), ranking)
        old_views = runs.get(f"tags.{views_of(sweep)}", pd.Series("", runs.index)).fillna("")
        before = dict(zip(runs["run_id"], old_views, strict=True))
        views = {run: shown.get(run, "") for run in before}
        writing.tag_shown_runs(sweep, dict(views.items() - before.items()))
    remark = reading.remark_on_deleted(sweep)
    return Comparison(sweep, name, table, ranking, remarks=(remark,) if remark else ())


def _judge(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a run table and its ranking, both with verdicts."""
    table = verdicts(table, read_thresholds())
    return table, with_verdicts(rank(full_data_runs(table)), table)


def compare_experiment(experiment: str, metrics: Metrics, write_tags: bool = False) -> Comparison:
    """Rank and judge the runs of an MLflow experiment of any program.

    Args:
        experiment: Name of the experiment.
        metrics: How its runs are read.
        write_tags: Whether verdicts are written to the runs as tags.

    Raises:
        TrackingError: There is no such experiment.
        ExperimentError: Its runs cannot be compared.
        ThresholdError: The file of thresholds is invalid.
    """
    runs = reading.read_experiment(experiment)
    table, left_out = experiment_table(runs, experiment, metrics)
    table, ranking = _judge(table)
    if write_tags:
        writing.tag_verdicts(table)
    histories = {"train": metrics.train, "validation": metrics.validation}
    return Comparison("", experiment, table, ranking, histories, tuple(left_out))


def assign_run_verdict(run: str) -> str:
    """Judge a run without a sweep, tag it with its verdict and return the verdict as text.

    A run of a sweep keeps the verdict that it has there.
    """
    tags = connection.client().get_run(run).data.tags
    if PARENT in tags and VERDICT["verdict"] in tags:
        verdict: dict[Any, Any] = {name: tags.get(tag) for name, tag in VERDICT.items()}
    else:
        table = verdicts(run_table(reading.read_run(run)), read_thresholds())
        writing.tag_verdicts(table)
        verdict = table.iloc[0].to_dict()
    return f"{verdict['verdict']}: {verdict['reason']}. Next: {verdict['next']}"
