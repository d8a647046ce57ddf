"""The report of a sweep: one HTML file that opens offline, also on a phone.

All text from runs is escaped; pictures are images inside the file.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from bikefit.comparison.charts import plane_chart, svg
from bikefit.comparison.losses import history
from bikefit.comparison.path_charts import (
    MORE_DATA,
    Series,
    more_data,
    path_chart,
    path_sentence,
    weights_chart,
)
from bikefit.comparison.ranking import highlighted_runs, winner
from bikefit.comparison.result import Comparison
from bikefit.comparison.run_charts import (
    ERROR_COLUMNS,
    FEWEST,
    HOURS,
    LearningCurve,
    errors_chart,
    group_errors,
    learning_chart,
    predictions_chart,
    weight_distribution_chart,
    weight_matrices,
    with_conditions,
)
from bikefit.comparison.runs import loss_unit, ranking_metric
from bikefit.comparison.sentences import number, repetitions, summary, with_spread
from bikefit.comparison.tables import caption, ranking_strings
from bikefit.tracking import reading, views
from bikefit.tracking.views import COLOURS

TOP = 12  # configurations in the table before it is folded
LAYERS = 6  # layers with a chart of their weights
GREY_CURVES = 40  # learning curves behind the coloured ones
NETWORKS = 12  # networks that are read for the weights along a path
BAND = "The band is ± a standard deviation over seeds or folds."


@dataclass(frozen=True)
class Picture:
    """A figure in the report; `run` is the row of the run table that it shows, if any."""

    figure: Figure
    caption: str
    run: pd.Series | None = None

    @property
    def alt(self) -> str:
        """The titles and the caption, for readers who cannot see the picture."""
        titles = (axes.get_title(loc="left").replace("\n", " ") for axes in self.figure.axes)
        return ". ".join([*(title for title in titles if title), self.caption])

    @property
    def data(self) -> str:
        """The SVG in base64."""
        return base64.b64encode(svg(self.figure).encode()).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels."""
        width, height = 96 * self.figure.get_size_inches()
        return round(width), round(height)


@dataclass(frozen=True)
class ReportSection:
    """Pictures below a heading and sentences."""

    title: str
    sentences: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class ReportData:
    """Input of all sections.

    Args:
        table: Rows of the run table that are ranked, with ``link``, their address in MLflow.
        ranking: see :func:`bikefit.comparison.ranking.rank`.
        series: see :func:`bikefit.comparison.path_charts.find_series`.
        highlighted: see :func:`bikefit.comparison.ranking.highlighted_runs`.
    """

    table: pd.DataFrame
    ranking: pd.DataFrame
    series: Sequence[Series]
    highlighted: Mapping[str, pd.Series]


def run_address(address: str, experiment: object, run: object) -> str:
    """Return the address of a run's page in MLflow."""
    return f"{address.rstrip('/')}/#/experiments/{experiment}/runs/{run}"


def render_report(comparison: Comparison, address: str | None = None) -> str:
    """Return the report as HTML, the same for the same runs.

    Args:
        comparison: Comparison in which at least one run has a result.
        address: Address of MLflow's pages, for the links; the one in use if None.
    """
    address = address or views.pages()
    ranking, experiments = (
        comparison.ranking,
        comparison.tracked.set_index("run_id")["experiment_id"],
    )
    table = comparison.ranked_runs
    links = [run_address(address, experiments[run], run) for run in table["run_id"]]
    table = table.assign(link=links)
    data = ReportData(table, ranking, comparison.series, highlighted_runs(table, ranking))
    sections = [s for s in _sections(data) if s.pictures or s.sentences]
    environment = Environment(
        loader=PackageLoader("bikefit.comparison"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        name=comparison.name,
        sweep=comparison.sweep,
        address=address,
        top=TOP,
        link=run_address(address, experiments.iloc[0], comparison.sweep),
        views=views.view_links(comparison.sweep, address),
        colours=COLOURS,
        sections=sections,
        runs=_run_strings(table),
        ranking=_ranking_rows(data),
        caption=caption(ranking),
        **_first_screen(data),
    )


def _first_screen(data: ReportData) -> dict[str, Any]:
    ranking, best, metric = data.ranking, winner(data.ranking), ranking_metric(data.ranking)
    assert best is not None, "no run has a result"
    by = f"val_{metric}"
    numbers = {
        f"validation {metric} ± standard deviation over {repetitions(best)}": with_spread(
            best, by, best[by]
        ),
        "RMSE, bikes/hour": number(best["val_rmse"], 100),
        f"gap to the train {metric}": number(best["gap"], best[by]),
        "configurations": str(len(ranking)),
        "runs": str(ranking["runs"].sum()),
    }
    verdicts = data.table["verdict"].value_counts()
    return {
        "winner": best,
        "numbers": numbers,
        "sentences": summary(ranking)[1:],
        "verdicts": dict(zip(verdicts.index, verdicts.tolist(), strict=True)),
    }


def _ranking_rows(data: ReportData) -> list[dict[str, Any]]:
    columns = data.table[["run_id", "seed", "link"]]
    groups = dict(list(columns.groupby(data.table["configuration_id"])))
    near = data.ranking["within_noise"].fillna(False).astype(bool) | (data.ranking.index == 0)
    links = [_records(groups[i]) for i in data.ranking["configuration_id"]]
    rows = _records(ranking_strings(data.ranking).assign(near=near))
    return [{**row, "runs": runs} for row, runs in zip(rows, links, strict=True)]


def _run_strings(table: pd.DataFrame) -> list[dict[str, Any]]:
    by = f"val_{ranking_metric(table)}"
    texts = table[["run_id", "link", "name", "verdict", "reason"]].astype(object)
    validation = [number(loss, table[by].min()) for loss in table[by]]
    return _records(texts.where(texts.notna(), "").assign(validation=validation))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _sections(data: ReportData) -> Iterator[ReportSection]:
    yield ReportSection(
        "All configurations",
        [
            "A good fit is low and near the diagonal. Far above the diagonal, a network memorizes "
            "its training rows; if both losses are high, it is not flexible enough. Numbers are "
            "ranks in the table."
        ],
        [
            Picture(
                plane_chart(data.table, data.ranking),
                "Bars: ± a standard deviation; faint points: single runs.",
            )
        ],
    )
    yield _path_section([series for series in data.series if not series.about_data])
    yield _data_section([series for series in data.series if series.about_data])
    yield _learning_section(data)
    yield _error_section(data)
    yield _weight_section(data)


def _path_section(series: Sequence[Series]) -> ReportSection:
    sentence = (
        "Step 6 of the recipe. Each curve changes only one setting, and flexibility grows to the "
        f"right. {BAND} Shaded by the rule of the verdicts: more flexibility (underfitting) or "
        "less (overfitting) clearly lowers the validation loss, on the curve or, if the curve is "
        "not conclusive, compared with the best of the sweep."
    )
    if not series:
        sentence = (
            "No setting has three values with all others equal, so there is no curve of "
            "flexibility. Sweep a setting, for example "
            "regularization.l2=0,1e-4,1e-3,1e-2,1e-1 seed=0,1,2."
        )
    pictures = [Picture(path_chart(one), path_sentence(one)) for one in series]
    return ReportSection("From underfitting to overfitting", [sentence], pictures)


def _data_section(series: Sequence[Series]) -> ReportSection:
    answers = [
        f"With {one.path.fixed}. {more_data(one)}" if one.path.fixed else more_data(one)
        for one in series
    ]
    hint = "This sweep does not show it: use data.fraction=0.1,0.2,0.4,0.7,1 seed=0,1,2."
    pictures = [Picture(path_chart(one), one.path.fixed or BAND) for one in series]
    return ReportSection(MORE_DATA, answers or [hint], pictures)


def _learning_section(data: ReportData) -> ReportSection:
    by = f"val_{ranking_metric(data.table)}"
    finished = data.table.dropna(subset=[by])
    best = finished.loc[finished.groupby("configuration_id", sort=False)[by].idxmin()]
    highlighted_ids = {run["configuration_id"] for run in data.highlighted.values()}
    others = best[~best["configuration_id"].isin(highlighted_ids)].sort_values(by)
    chosen = _spread_indices(len(others), GREY_CURVES)
    curves = {role: _learning_curve(run, role) for role, run in data.highlighted.items()}
    curves = {role: curve for role, curve in curves.items() if curve.validation}
    grey = [_learning_curve(run, None) for _, run in others.iloc[chosen].iterrows()]
    grey = [curve for curve in grey if curve.validation]
    if not curves:
        return ReportSection("Learning curves", ["No run has a loss for each epoch."])
    unit = loss_unit(data.table.assign(loss=data.table["loss"].iloc[0]))
    pictures = [
        Picture(
            learning_chart([*curves.values(), *grey], unit),
            f"Validation loss of {len(grey)} other configurations in grey.",
        )
    ]
    if len(curves) > 1 or grey:
        pictures += [
            Picture(learning_chart([curve], unit), curve.label, data.highlighted[role])
            for role, curve in curves.items()
        ]
    sentence = (
        "Falling train loss with rising validation loss is overfitting. If both still fall at the "
        "last epoch, more epochs help."
    )
    return ReportSection("Learning curves", [sentence], pictures)


def _spread_indices(count: int, most: int) -> np.ndarray:
    """Return at most `most` evenly spread indices of `count` items, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _learning_curve(run: pd.Series, role: str | None) -> LearningCurve:
    validation = history(run["run_id"], "val/loss")
    train = history(run["run_id"], "train/loss") if role else []
    epoch = len(validation) if math.isnan(run["best_epoch"]) else run["best_epoch"]
    return LearningCurve(run["configuration"], train, validation, epoch, role)


def _error_section(data: ReportData) -> ReportSection:
    title, runs = "Errors of the predictions", data.highlighted
    read = {role: reading.read_predictions(run["run_id"]) for role, run in runs.items()}
    tables = {role: with_conditions(table) for role, table in read.items() if table is not None}
    if not tables:
        reason = "These runs have no saved predictions (tracking.predictions=true saves them)."
        return ReportSection(title, [reason])
    pictures = []
    for role, table in tables.items():
        text = f"{runs[role]['configuration']}, {len(table):,} validation rows"
        pictures.append(Picture(predictions_chart(table, role), text, runs[role]))
    missing, sentences = [], []
    for column in ERROR_COLUMNS:
        if all(len(group_errors(table, column)) for table in tables.values()):
            text = "Solid: RMSE; dashed: mean of predicted minus true, below zero is too low."
            pictures.append(Picture(errors_chart(column, tables), text))
        else:
            missing.append(column.replace("_", " "))
    if missing:
        sentences = [
            f"Errors by {' and '.join(missing)} are not shown: {HOURS} does not exist, or no group "
            f"has {FEWEST} validation rows."
        ]
    return ReportSection(title, sentences, pictures)


def _weight_section(data: ReportData) -> ReportSection:
    read = {role: reading.read_weights(run["run_id"]) for role, run in data.highlighted.items()}
    by_role = {role: weight_matrices(w) for role, w in read.items() if w is not None}
    if not by_role:
        reason = "These runs have no saved weights (tracking.weights=true saves them)."
        return ReportSection("Weights", [reason])
    layers = dict.fromkeys(layer for matrices in by_role.values() for layer in matrices)
    pictures = [p for one in data.series if one.path.direction < 0 and (p := _weight_path(one))]
    for layer in list(layers)[:LAYERS]:
        weights = {role: m[layer] for role, m in by_role.items() if layer in m}
        text = f"Weights of {layer}, without biases; the outermost bars include all beyond them."
        pictures.append(Picture(weight_distribution_chart(layer, weights), text))
    return ReportSection("Weights", [], pictures)


def _weight_path(series: Series) -> Picture | None:
    """Return the weights along a strength; None if the weights of a network are not saved."""
    table = series.table.iloc[_spread_indices(len(series.table), NETWORKS)]
    networks = [reading.read_weights(run) for run in table["run_id"]]
    saved = [network for network in networks if network is not None]
    if len(saved) < len(networks):
        return None
    figure = weights_chart(Series(series.path, table), saved)
    return Picture(figure, "Networks of one seed, so that single weights can be followed.")
