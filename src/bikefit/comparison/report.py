"""The report of a sweep: one HTML file that opens offline, on a phone as well.

Everything that comes from runs is escaped; pictures are images inside the file.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from bikefit.comparison import curves, mistakes, weights
from bikefit.comparison.figures import plane, svg
from bikefit.comparison.losses import history
from bikefit.comparison.ranking import winner
from bikefit.comparison.result import Comparison
from bikefit.comparison.runs import FRACTION, loss_unit, ranking_metric
from bikefit.comparison.sentences import failure_sentence, noise_sentence, number, with_spread
from bikefit.data.files import atomic_write
from bikefit.tracking import reading, views, writing
from bikefit.tracking.views import COLOURS

TOP = 12  # configurations in the table before it is folded up
LAYERS = 6
SIDES = ("hour", "weekday", "weather", "working_day")  # from which errors are looked at
STEPS = 12  # networks that are read for a path of weights
BAND = "The band is ± a standard deviation over seeds or folds."


@dataclass(frozen=True)
class Picture:
    """A figure as it stands in the report; `run` is the id of the run that it shows."""

    figure: Figure
    caption: str
    run: str = ""
    link: str = ""

    @property
    def alt(self) -> str:
        """What somebody who cannot see it reads: its title and its caption."""
        titles = (axes.get_title(loc="left").replace("\n", " ") for axes in self.figure.axes)
        return ". ".join([*(title for title in titles if title), self.caption])

    @property
    def data(self) -> str:
        """The SVG in base64."""
        return base64.b64encode(svg(self.figure).encode()).decode()

    @property
    def width(self) -> int:
        """In CSS pixels."""
        return round(96 * self.figure.get_figwidth())

    @property
    def height(self) -> int:
        """In CSS pixels."""
        return round(96 * self.figure.get_figheight())


@dataclass(frozen=True)
class Section:
    """Pictures under a heading, with what they say in sentences."""

    title: str
    lead: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class Sweep:
    """What all sections are made from: a ranking, its runs, and those that stand out."""

    table: pd.DataFrame
    ranking: pd.DataFrame
    series: Sequence[curves.Series]
    cast: Mapping[str, pd.Series]
    address: str

    def link(self, run: pd.Series | dict[Hashable, Any]) -> str:
        """The address of a row of the table in MLflow."""
        return address_of(self.address, run["experiment_id"], run["run_id"])


def address_of(address: str, experiment: object, run: str) -> str:
    """Return where MLflow's pages show a run."""
    return f"{address.rstrip('/')}/#/experiments/{experiment}/runs/{run}"


def write_report(found: Comparison, file: Path, address: str | None = None) -> None:
    """Write the report of a sweep and attach it to the sweep's run.

    Args:
        found: what was compared; at least one run has a result.
        file: the HTML file.
        address: where MLflow's pages are served, for the links; None for where they are now.
    """
    with atomic_write(file) as temporary:
        temporary.write_text(render(found, address), encoding="utf-8")
    writing.log_files(found.sweep, [file])


def render(found: Comparison, address: str | None = None) -> str:
    """Return the HTML of :func:`write_report`, the same for the same runs."""
    address = address or views.pages()
    ranking, experiments = found.ranking, found.tracked.set_index("run_id")["experiment_id"]
    table = found.ranked_runs.assign(experiment_id=found.ranked_runs["run_id"].map(experiments))
    known = Sweep(table, ranking, found.series, curves.highlighted_runs(table, ranking), address)
    environment = Environment(
        loader=PackageLoader("bikefit.comparison"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        name=found.name, sweep=found.sweep, address=address, top=TOP,
        link=address_of(address, experiments.iloc[0], found.sweep),
        views=views.view_links(found.sweep, address), colours=COLOURS,
        sections=[section for section in _sections(known) if section.pictures or section.lead],
        runs=_runs(known), ranking=_ranking(known), unit=loss_unit(ranking), **_first_screen(known),
    )  # fmt: skip


def _first_screen(sweep: Sweep) -> dict[str, Any]:
    ranking = sweep.ranking
    best, name = winner(ranking), ranking_metric(ranking)
    assert best is not None, "no run has a result"
    by = f"val_{name}"
    over = f"{best['folds']:.0f} folds" if best["folds"] > 1 else f"{best['seeds']} seeds"
    numbers = [
        (f"validation {name} ± standard deviation over {over}", with_spread(best, by, best[by])),
        ("RMSE, bikes/hour", number(best["val_rmse"], 100)),
        (f"gap to the train {name}", number(best["gap"], best[by])),
        ("configurations", f"{len(ranking)}"),
        ("runs", f"{ranking['runs'].sum()}"),
    ]
    counts = sweep.table["verdict"].value_counts()
    return {
        "winner": best,
        "numbers": numbers,
        "sentences": [s for s in (noise_sentence(ranking), failure_sentence(ranking)) if s],
        "verdicts": sorted(((str(v), int(n)) for v, n in counts.items()), key=lambda x: -x[1]),
    }


def _ranking(sweep: Sweep) -> list[dict[str, Any]]:
    name, like = (
        ranking_metric(sweep.ranking),
        sweep.ranking[f"val_{ranking_metric(sweep.ranking)}"].iloc[0],
    )
    columns = sweep.table[["run_id", "experiment_id", "seed"]]
    runs = dict(list(columns.groupby(sweep.table["configuration_id"], sort=False)))
    return [
        {
            "place": place,
            "configuration": row["configuration"],
            "near": place == 1 or row["within_noise"] is True,
            "validation": with_spread(row, f"val_{name}", like),
            "train": number(row[f"train_{name}"], like),
            "gap": number(row["gap"], like),
            "rmse": number(row["val_rmse"], 100),
            "verdict": row["verdict"] or "",
            "runs": [
                {"id": run["run_id"], "seed": run["seed"], "link": sweep.link(run)}
                for run in runs[row["configuration_id"]].to_dict("records")
            ],
        }
        for place, row in enumerate(sweep.ranking.to_dict("records"), start=1)
    ]  # fmt: skip


def _runs(sweep: Sweep) -> list[dict[str, Any]]:
    by = f"val_{ranking_metric(sweep.table)}"
    like = sweep.table[by].min()
    return [
        {"id": run["run_id"], "link": sweep.link(run), "validation": number(run[by], like)}
        | {key: run[key] or "" for key in ("name", "verdict", "reason")}
        for run in sweep.table.to_dict("records")
    ]


def _sections(sweep: Sweep) -> Iterable[Section]:
    yield Section(
        "Where every configuration stands",
        ["Low and near the diagonal is a good fit; far above it, a network knows its training rows "
         "by heart; high in both, it is too rigid. Numbers are places in the table."],
        [Picture(plane(sweep.table, sweep.ranking),
                 "Bars: ± a standard deviation; faint points: seeds.")],
    )  # fmt: skip
    yield _flexibility(sweep.series)
    yield _data_size(sweep.series)
    yield _learning(sweep)
    yield _mistakes(sweep)
    yield _weights(sweep)


def _flexibility(series: Sequence[curves.Series]) -> Section:
    shown = [one for one in series if one.key != FRACTION]
    lead = (
        "Step 6 of the recipe. Each curve changes one setting and leaves the others; the band is "
        "± a standard deviation. Shaded as verdicts are given: where more flexibility "
        "(underfitting) or less (overfitting) lowers the validation loss beyond the noise, on the "
        "curve or, where it does not tell, against the best of the sweep."
        if shown else "No setting has three values with all others equal, so there is no curve of "
        "flexibility: sweep one, such as regularization.l2=0,1e-4,1e-3,1e-2,1e-1 seed=0,1,2."
    )  # fmt: skip
    pictures = [Picture(curves.flexibility(one), curves.flexibility_sentence(one)) for one in shown]
    return Section("Too rigid, too flexible", [lead], pictures)


def _data_size(series: Sequence[curves.Series]) -> Section:
    shown = [one for one in series if one.key == FRACTION]
    if not shown:
        return Section(
            "Would more data help?",
            ["This sweep does not say: data.fraction=0.1,0.2,0.4,0.7,1 seed=0,1,2 would."],
        )
    pictures = [Picture(curves.data_size(one), one.path.fixed or BAND) for one in shown]
    said = [(one.path.fixed, curves.more_data(one)) for one in shown]
    told = [f"With {fixed}. {answer}" if fixed else answer for fixed, answer in said]
    return Section("Would more data help?", told, pictures)


def _learning(sweep: Sweep) -> Section:
    by = f"val_{ranking_metric(sweep.table)}"
    finished = sweep.table.dropna(subset=[by])
    best = finished.loc[finished.groupby("configuration_id", sort=False)[by].idxmin()].sort_values(
        by
    )
    faint = best[
        ~best["configuration_id"].isin([run["configuration_id"] for run in sweep.cast.values()])
    ]
    places = np.unique(np.linspace(0, len(faint) - 1, min(len(faint), curves.OVERLAID)).astype(int))
    shown = [_curve(run, role) for role, run in sweep.cast.items()]
    others = [_curve(run, None) for _, run in faint.iloc[places].iterrows()]
    shown = [curve for curve in shown if curve.validation]
    others = [curve for curve in others if curve.validation]
    if not shown:
        return Section("How they learned", ["No run has a loss for each epoch."])
    scale = loss_unit(sweep.table.assign(loss=sweep.table["loss"].iloc[0]))
    overlay = Picture(
        curves.learning([*shown, *others], scale),
        f"Validation loss of {len(others)} other configurations in grey.",
    )
    alone = [
        Picture(curves.learning([curve], scale), curve.label, run["run_id"],
                sweep.link(run))
        for curve, run in zip(shown, sweep.cast.values(), strict=False)
    ]  # fmt: skip
    return Section(
        "How they learned",
        ["Train loss falling while validation loss rises is overfitting; both still falling at the "
         "last epoch asks for more epochs."],
        [overlay, *(alone if len(shown) > 1 or others else [])],
    )  # fmt: skip


def _curve(run: pd.Series, role: str | None) -> curves.Learning:
    parts = {part: history(run["run_id"], f"{part}/loss") for part in ("train", "val")
             if role or part == "val"}  # fmt: skip
    selected = run["best_epoch"]
    at = len(parts["val"]) if math.isnan(selected) else selected
    return curves.Learning(
        run["configuration"], parts.get("train", []), parts["val"], at, role
    )  # fmt: skip


def _mistakes(sweep: Sweep) -> Section:
    found = {role: reading.read_predictions(run["run_id"]) for role, run in sweep.cast.items()}
    known = {r: mistakes.with_conditions(p) for r, p in found.items() if p is not None}
    if not known:
        return Section(
            "Where it is wrong",
            ["These runs kept no predictions of their validation rows (tracking.predictions=true "
             "keeps them)."],
        )  # fmt: skip
    clouds = []
    for role, predictions in known.items():
        run = sweep.cast[role]
        figure = mistakes.predicted_against_true(predictions, role)
        caption = f"{run['configuration']}, {len(predictions):,} validation rows"
        clouds.append(Picture(figure, caption, run["run_id"], sweep.link(run)))
    sides = [column for column in SIDES
             if all(mistakes.tells(table, column) for table in known.values())]  # fmt: skip
    caption = "Solid: RMSE; dashed: mean of predicted minus true, below zero is too low."
    more = [Picture(mistakes.error_by(column, known), caption) for column in sides]
    return Section("Where it is wrong", _left_out(known, sides), [*clouds, *more])


def _left_out(known: Mapping[str, pd.DataFrame], shown: Sequence[str]) -> list[str]:
    """Say which sides of the error are not drawn, and why."""
    columns = [column for column in SIDES if column not in shown]
    names = " and ".join(column.replace("_", " ") for column in columns)
    if not columns:
        return []
    if any(column not in table for column in columns for table in known.values()):
        return [f"Without {mistakes.HOURS}, errors by {names} are not known."]
    return [f"Errors by {names} are left out: no group has {mistakes.FEWEST} validation rows."]


def _weights(sweep: Sweep) -> Section:
    found = {role: reading.read_weights(run["run_id"]) for role, run in sweep.cast.items()}
    known = {role: weights.matrices(w) for role, w in found.items() if w is not None}
    if not known:
        return Section(
            "Weights", ["These runs kept no weights (tracking.weights=true keeps them)."]
        )
    layers = dict.fromkeys(layer for matrices in known.values() for layer in matrices)
    pictures = [
        Picture(
            weights.distribution(layer, {r: m[layer] for r, m in known.items() if layer in m}),
            f"Weights of {layer}, biases left out; the outermost bars hold what lies beyond.",
        )
        for layer in list(layers)[:LAYERS]
    ]
    paths = (_path(one) for one in sweep.series if one.direction < 0)
    return Section("Weights", [], [*(path for path in paths if path), *pictures])


def _path(series: curves.Series) -> Picture | None:
    """The path of the weights along a strength; None where a network of it is not kept."""
    places, logarithmic = curves.positions(series)
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), STEPS)).astype(int))
    found = [reading.read_weights(run) for run in series.table["run_id"].iloc[chosen]]
    networks = [network for network in found if network is not None]
    if len(networks) < len(chosen):
        return None
    values = series.table["value"].iloc[chosen].tolist()
    figure = weights.path(series.path.label, places[chosen], values, networks, logarithmic)
    return Picture(figure, "Networks of one seed, so that a weight can be followed.")
