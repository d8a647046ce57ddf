"""The report of a sweep as a single file: HTML that opens offline, also on a phone.

All text from runs is escaped; pictures are images inside the file.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bikefit.comparison.bias_variance import bias_variance_chart, bias_variance_sentence
from bikefit.comparison.charts import (
    CONDITIONS,
    axis_label,
    errors_chart,
    learning_chart,
    predictions_chart,
    save,
    svg,
)
from bikefit.comparison.html import render
from bikefit.comparison.losses import loss_curves
from bikefit.comparison.path_charts import (
    Series,
    longest_paths,
    more_data,
    path_chart,
    path_sentence,
)
from bikefit.comparison.predictions import fixed_values
from bikefit.comparison.ranking import winner
from bikefit.comparison.result import Comparison
from bikefit.comparison.runs import SETS, loss_unit, ranking_metric, target_unit
from bikefit.comparison.sentences import (
    further_metrics,
    number,
    repetitions,
    summary,
    with_spread,
)
from bikefit.comparison.tables import NEAR, caption, ranking_strings
from bikefit.comparison.verdicts import count_verdicts
from bikefit.data.features import TIME
from bikefit.data.files import atomic_write, write_json
from bikefit.errors import BikefitError, DataError
from bikefit.losses import with_unit
from bikefit.tracking import reading, views, writing
from bikefit.tracking.connection import TrackingError
from bikefit.tracking.views import COLOURS

TOP = 12  # configurations in the table before it is folded
GREY_CURVES = 40  # learning curves behind the coloured ones
BAND = "The band is ± a standard deviation over seeds, folds or training sets."
CURVES = 4  # columns whose influence is shown
METRICS_OF_BEST = ["configuration", "val_loss", "val_rmse", "val_accuracy", "val_auc"]
METRICS_OF_WINNER = [*METRICS_OF_BEST, "seeds", "train_loss", "val_loss_std", "val_loss_se", "gap"]
METRICS_OF_WINNER += ["val_deviance"]


@dataclass(frozen=True)
class Picture:
    """A figure in the report; `run` is the row of the run table that it shows, if any."""

    figure: Figure
    caption: str
    run: pd.Series | None = None

    @property
    def alt(self) -> str:
        """The title and the caption, for readers who cannot see the picture."""
        return f"{self.figure.axes[0].get_title(loc='left')}. {self.caption}".replace("\n", " ")

    @property
    def data(self) -> str:
        """The SVG in base64."""
        return base64.b64encode(svg(self.figure).encode()).decode()


@dataclass(frozen=True)
class ReportSection:
    """A section of the report; the template has its words.

    Args:
        pictures: Its pictures.
        facts: Values that the words depend on.
        problem: The reason why there is nothing to show, if so.
    """

    pictures: list[Picture] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def write_reports(comparison: Comparison, folder: Path, address: str | None = None) -> None:
    """Write table, metrics, pictures and the report, and attach them to the sweep's run.

    Args:
        comparison: Comparison of a sweep.
        folder: Folder to write to.
        address: Address of MLflow's pages in the report's links; the one in use if None.

    Raises:
        TrackingError: No run of the sweep has a result.
    """
    if winner(comparison.ranking) is None:
        reasons = "; ".join(comparison.runs["failure"].dropna().astype(str).head(3))
        reasons = reasons or "none is recorded"
        raise TrackingError(f"{comparison.name}: no run has a result; reasons: {reasons}")
    table = comparison.runs.drop(columns=["days", "fold_losses"], errors="ignore").dropna(
        axis=1, how="all"
    )
    with atomic_write(folder / "comparison.csv") as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    write_json(folder / "metrics.json", _metrics(comparison.ranking))
    figures = {
        "comparison.png": comparison.train_against_validation(),
        "curves.png": comparison.curves(),
    }
    if SETS in set(comparison.ranked_runs["repetition"]):
        figures["bias_variance.png"] = comparison.bias_variance_figure()
    for name, figure in figures.items():
        with atomic_write(folder / name) as temporary:
            save(figure, temporary)
    with atomic_write(folder / "report.html") as temporary:
        temporary.write_text(render_report(comparison, address), encoding="utf-8")
    attached = ("comparison.csv", *figures, "report.html")
    if comparison.sweep:
        writing.log_files(comparison.sweep, [folder / name for name in attached])


def _metrics(ranking: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers for `dvc metrics show`: the winner, and the best of each kind."""
    best = ranking.dropna(subset=["val_loss"]).drop_duplicates("kind").set_index("kind")
    return {
        "runs": int(ranking["runs"].sum()),
        "failed": int(ranking["failed"].sum()),
        "winner": best.iloc[0][METRICS_OF_WINNER].dropna().to_dict(),
        "best": {kind: row.dropna().to_dict() for kind, row in best[METRICS_OF_BEST].iterrows()},
        "verdicts": count_verdicts(ranking),
    }


def render_report(comparison: Comparison, address: str | None = None) -> str:
    """Return the report as HTML, the same for the same runs.

    Args:
        comparison: Comparison in which at least one run has a result.
        address: Address of MLflow's pages, for the links; the one in use if None.
    """
    ranking, table = comparison.ranking, comparison.ranked_runs
    address, sweep = address or views.pages_address(), comparison.sweep
    best, metric = ranking.iloc[0], ranking_metric(ranking)
    metrics, units = further_metrics(best, ranking), {"RMSE": target_unit(ranking)}
    spread = with_spread(best, "val_loss", best["val_loss"])
    numbers = {
        f"validation {metric} ± standard deviation over {repetitions(best)}": spread,
        **{with_unit(name, units.get(name, "")): value for name, value in metrics.items()},
        f"gap to the train {metric}": number(best["gap"], best["val_loss"]),
        "configurations": str(len(ranking)),
        "runs": str(ranking["runs"].sum()),
    }
    texts = table[["run_id", "experiment_id", "seed", "name", "verdict", "reason"]].astype(object)
    losses = [number(loss, table["val_loss"].min()) for loss in table["val_loss"]]
    runs = texts.where(texts.notna(), "").assign(validation=losses)
    seeds = dict(list(runs.groupby(table["configuration_id"])))
    rows = ranking_strings(ranking).to_dict("records")
    for row, configuration in zip(rows, ranking["configuration_id"], strict=True):
        row["runs"] = seeds[configuration].to_dict("records")
    return render(
        "report.html.j2",
        name=comparison.name,
        sweep=sweep,
        address=address,
        top=TOP,
        near=NEAR,
        experiment=runs["experiment_id"].iloc[0],
        views=views.view_links(sweep, address) if sweep else {},
        colours=COLOURS,
        winner=best,
        numbers=numbers,
        sentences=[*summary(ranking)[1:], *comparison.remarks],
        verdicts=table["verdict"].value_counts().to_dict(),
        sections=_sections(comparison),
        band=BAND,
        runs=runs.to_dict("records"),
        ranking=rows,
        metrics=list(metrics),
        caption=caption(ranking),
    )


def _sections(comparison: Comparison) -> dict[str, ReportSection]:
    text = "Bars: ± a standard deviation; faint points: single runs."
    plane = Picture(comparison.train_against_validation(), text)
    of_data = [series for series in comparison.series if series.about_data]
    paths = [series for series in comparison.series if not series.about_data]
    pictures = [Picture(path_chart(series), path_sentence(series)) for series in paths]
    sections = {"all": ReportSection([plane]), "paths": ReportSection(pictures)}
    if comparison.sweep:
        sections["data"] = _data_section(of_data)
    if SETS in set(comparison.ranked_runs["repetition"]):
        sections["bias"] = _bias_section(comparison)
    sections["learning"] = _learning_section(comparison)
    if comparison.sweep:
        sections["predictions"] = _prediction_section(comparison)
        sections["errors"] = _error_section(comparison.highlighted, comparison.ranking)
    return sections


def _data_section(paths: list[Series]) -> ReportSection:
    answers = [
        f"With {series.path.fixed}. " * bool(series.path.fixed) + more_data(series)
        for series in paths
    ]
    pictures = [Picture(path_chart(series), series.path.fixed or BAND) for series in paths]
    return ReportSection(pictures, {"answers": answers})


def _bias_section(comparison: Comparison) -> ReportSection:
    try:
        table = comparison.bias_variance()
    except BikefitError as error:
        return ReportSection(problem=f"The loss cannot be split: {error}.")
    pictures = [
        Picture(bias_variance_chart([series], table), bias_variance_sentence(series, table))
        for series in longest_paths(comparison.series)
    ]
    facts = {"sets": f"{table['sets'].min():.0f}", "bias": "bias" in table}
    return ReportSection(pictures, facts)


def _learning_section(comparison: Comparison) -> ReportSection:
    table, highlighted = comparison.ranked_runs, comparison.highlighted
    shown = [run["configuration_id"] for run in highlighted.values()]
    others = table.dropna(subset=["val_loss"]).sort_values("val_loss")
    others = others[~others["configuration_id"].isin(shown)].drop_duplicates("configuration_id")
    rows = np.linspace(0, len(others) - 1, min(len(others), GREY_CURVES)).astype(int)
    runs, metrics = others["run_id"].iloc[rows], comparison.histories
    of_roles = loss_curves({role: run["run_id"] for role, run in highlighted.items()}, metrics)
    only_validation = {"validation": metrics["validation"]}
    curves = pd.concat([of_roles, loss_curves({run: run for run in runs}, only_validation)])
    curves = curves[curves.groupby("name")["epoch"].transform("max") > 1]
    if curves.empty:
        return ReportSection(problem="No run has a loss for each epoch.")
    figure = learning_chart(curves, highlighted, loss_unit(table))
    return ReportSection([Picture(figure, "Validation loss of other configurations in grey.")])


def _prediction_section(comparison: Comparison) -> ReportSection:
    try:
        columns = comparison.response_columns[:CURVES]
        responses = {column: comparison.response(column) for column in columns}
    except BikefitError as error:
        return ReportSection(problem=f"These networks cannot predict: {error}.")
    pictures: list[Picture] = []
    with suppress(DataError):  # rows have no time, or no week has two
        text = "A panel for each of the three configurations."
        pictures = [Picture(comparison.week_figure(), text)]
    facts = {"week": bool(pictures)}
    pictures += [
        Picture(comparison.response_figure(column), f"Fixed: {fixed_values(table, column)}.")
        for column, table in responses.items()
    ]
    return ReportSection(pictures, facts)


def _error_section(highlighted: dict[str, pd.Series], ranking: pd.DataFrame) -> ReportSection:
    read = {role: reading.read_predictions(run["run_id"]) for role, run in highlighted.items()}
    tables = {role: table for role, table in read.items() if table is not None}
    if not tables:
        reason = "These runs have no saved predictions (tracking.predictions=true saves them)."
        return ReportSection(problem=reason)
    pictures, unit = [], target_unit(ranking)
    for role, table in tables.items():
        text = f"{highlighted[role]['configuration']}, {len(table):,} validation rows"
        figure = predictions_chart(table, role, axis_label(ranking["target"][0], unit), unit)
        pictures.append(Picture(figure, text, highlighted[role]))
    text = "Solid: RMSE; dashed: mean of predicted minus true, below zero is too low."
    conditions = CONDITIONS if all(TIME in table for table in tables.values()) else {}
    pictures += [Picture(errors_chart(n, tables, unit), text) for n in conditions]
    return ReportSection(pictures)
