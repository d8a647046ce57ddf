"""The explorer: one page that shows what the networks along a path of a sweep have learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from bikefit.comparison.charts import ROLES, axis_label
from bikefit.comparison.html import render
from bikefit.comparison.losses import history
from bikefit.comparison.path_charts import longest_paths
from bikefit.comparison.paths import SettingPath
from bikefit.comparison.predictions import (
    GAP,
    fixed_values,
    made_up_rows,
    prediction_table,
    response_columns,
    response_table,
    select_week,
    time_step,
    typical_weeks,
)
from bikefit.comparison.ranking import winner
from bikefit.comparison.result import Comparison
from bikefit.comparison.runs import loss_unit
from bikefit.comparison.sentences import number
from bikefit.comparison.verdicts import NEXT, read_thresholds
from bikefit.data.bikes.columns import UNITS
from bikefit.data.table import Table
from bikefit.tracking.views import COLOURS
from bikefit.trained import TrainedNetwork, load

WEEKS = 3
SAMPLE = 400  # rows whose predictions are drawn against the target
RESPONSES = 8  # columns with a panel, those that change the prediction most
NO_PATH = "The explorer needs a sweep in which a setting has three values, with all others equal."
CONSTANT = "constant"  # id of the prediction that is the mean of the training rows
ZERO = 1e-3  # weights of a smaller size count as zero: Adam leaves few exact zeros
BINS = np.linspace(-0.5, 0.5, 42)  # of weights; larger weights are in the last bins
PARTS = {"train": "#8A9096", "validation": "#D55E00"}
BLUE, INK = alt.ExprRef("dark ? '#56B4E9' : '#0072B2'"), alt.ExprRef("dark ? '#fff' : '#1d2327'")
DAYS: dict[str, Any] = {"working day": BLUE, "Sunday": "#CC79A7"}
SETTINGS = {
    "l2": (
        "L2 penalty λ",
        "is λ times the sum of the squares of all weights, added to the loss. A large λ "
        "leaves only small weights.",
    ),
    "l1": (
        "L1 penalty λ",
        "is λ times the sum of the sizes of all weights, added to the loss. A large λ "
        "leaves few weights that are not zero.",
    ),
    "weight_decay": ("weight decay λ", "makes all weights a little smaller in every step."),
    "dropout": ("dropout p", "switches units off at random, with probability p, in every step."),
    "epochs": ("epochs", "is the number of times that training passes over all training rows."),
    "width": ("width", "is the number of units in each hidden layer of the network."),
}
"""Names of settings, and what they do, by the last part of their keys, in the order of the menu."""
VERDICTS = {
    "underfitting": "Too rigid: it misses the pattern, even on the rows that it was trained on.",
    "good fit": "About right: on rows that it has not seen, no network of this sweep is clearly "
    "better.",
    "overfitting": "Too flexible: it has memorized its training rows, and errs more on rows that "
    "it has not seen.",
    "undecided": "These runs do not decide between too rigid and too flexible.",
}


@dataclass(frozen=True)
class Panel:
    """A section of the page with its charts, as specifications by id."""

    title: str
    text: str
    charts: dict[str, dict[str, Any]]
    wide: bool = False


def explorer_page(comparison: Comparison) -> str:
    """Return the explorer as HTML that works offline; without a path of flexibility, it says so."""
    paths = _paths(comparison)
    best = winner(comparison.ranking)
    ids = list(dict.fromkeys(id_ for path in paths for id_ in path.configurations))
    if not ids or best is None:
        return f"<!doctype html>\n<title>bikefit</title>\n<p>{NO_PATH}</p>\n"
    runs = comparison.ranked_runs.dropna(subset=["val_loss"]).sort_values("val_loss", kind="stable")
    by_id = {id_: runs[runs["configuration_id"] == id_] for id_ in ids}
    networks = {id_: [load(run) for run in by_id[id_]["run_id"]] for id_ in ids}
    table = networks[ids[0]][0].table
    firsts = {f"c{c}": several[0] for c, several in enumerate(networks.values(), start=1)}
    predictions = prediction_table(firsts)
    weeks = _choose_weeks(typical_weeks(predictions)) if table.time else []
    mean = predictions.loc[predictions["part"] == "train", table.target].mean()
    predictions.insert(3, "c0", mean)
    tables = [select_week(predictions, week) for week in weeks] or [predictions]
    ranking = comparison.ranking.set_index("configuration_id").to_dict("index")
    ranking[CONSTANT] = {
        "configuration": "no network, but the mean of all training rows",
        "verdict": "underfitting",
        "reason": "a penalty without limit, or a network without units, leaves only this constant",
        "next": NEXT["underfitting"],
        "train_loss": runs["constant_train"].iloc[0],
        "val_loss": runs["constant_val"].iloc[0],
    }
    top = 1.1 * max(ranking[id_]["val_loss"] for id_ in ids)
    ids = [CONSTANT, *ids]
    about = [
        _about(ranking[id_]) | {"weeks": [_weekly_errors(week, f"c{c}") for week in tables]}
        for c, id_ in enumerate(ids)
    ]
    return render(
        "explorer.html.j2",
        bundle=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        losses=_loss_chart(paths, ranking, ids, top),
        panels=[
            _week_panel(tables, table) if weeks else _fit_panel(predictions, table),
            *_response_panels(networks, mean),
            _learning_panel(by_id, top),
            _weight_panel(networks),
        ],
        paths=[_positions(path, ids) for path in paths],
        about=about,
        best=f"{best['configuration']}, with {number(best['val_loss'], best['val_loss'])}",
        loss=loss_unit(comparison.ranking),
        table=table,
        close=read_thresholds().close,
        rows="days" if table.time else "rows",
        weeks=[f"{week:%Y-%m-%d}" for week in weeks],
        colours=COLOURS,
        name=comparison.name,
    )


def _paths(comparison: Comparison) -> list[SettingPath]:
    """Return the longest path of each setting, in the order of SETTINGS."""
    ranked, order = set(comparison.ranked_runs["configuration_id"]), list(SETTINGS)
    series = [s for s in comparison.series if ranked.issuperset(s.path.configurations)]
    paths = [s.path for s in longest_paths(series)]
    return sorted(paths, key=lambda path: [*order, path.last].index(path.last))


def _steps(path: SettingPath) -> list[tuple[str, str]]:
    """Return values of the setting with their configurations, from a constant to flexible."""
    pairs = zip((f"{value:g}" for value in path.values), path.configurations, strict=True)
    return [("mean", CONSTANT), *list(pairs)[:: path.direction]]


def _positions(path: SettingPath, ids: list[str]) -> dict[str, Any]:
    """Return what the page shows of a path: its name, what it does, its positions."""
    name, does = SETTINGS.get(path.last, (path.label, ""))
    name = path.label if "layers." in path.key else name
    positions = [{"c": ids.index(id_), "value": value} for value, id_ in _steps(path)]
    for position in positions:
        position["name"] = f"{name} = {position['value']}" if position["c"] else "the mean alone"
    hint = f"{name} {does}" if does else ""
    return {"label": name, "hint": hint, "positions": positions}


def _choose_weeks(weeks: list[pd.Timestamp]) -> list[pd.Timestamp]:
    """Return the first weeks of the list that are in different quarters of a year, by date."""
    chosen: dict[int, pd.Timestamp] = {}
    for week in weeks:
        chosen.setdefault(week.quarter, week)
    return sorted(list(chosen.values())[:WEEKS])


def _weekly_errors(week: pd.DataFrame, column: str) -> dict[str, str]:
    """Return the RMSE on the days of each part."""
    squares = (week[column] - week.iloc[:, 2]) ** 2
    errors = squares.groupby(week["part"]).mean() ** 0.5
    return {str(part): f"{error:.3g}" for part, error in errors.items()}


def _about(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the sentences on a configuration."""
    return {
        "name": row["configuration"],
        "verdict": row["verdict"],
        "plain": VERDICTS[row["verdict"]],
        "reason": f"{row['reason']}. Next: {row['next']}.",
        "train": number(row["train_loss"], row["val_loss"]),
        "validation": number(row["val_loss"], row["val_loss"]),
    }


def _csv(table: pd.DataFrame) -> alt.InlineData:
    text = table.to_csv(index=False, float_format="%.4g", lineterminator="\n")
    return alt.InlineData(values=text, format=alt.DataFormat(type="csv"))


def _is(*names: str) -> str:
    return " && ".join(f"datum.{name} == {name}" for name in names)


SHOWN = "(show || datum.part == 'train')"


def _chart(*layers: alt.Chart, title: str, height: int = 190) -> dict[str, Any]:
    """Return the specification of layers that read the signals of the page."""
    start = {"c": 0, "path": 0, "week": 0, "show": True, "dark": False}
    params = [alt.param(name=name, value=value) for name, value in start.items()]
    chart = alt.layer(*layers).add_params(*params)
    chart = chart.properties(width="container", height=height, description=title)
    return dict(chart.to_dict())


def _part_colour(legend: bool = True) -> alt.Color:
    scale = alt.Scale(domain=list(PARTS), range=list(PARTS.values()))
    return alt.Color("part:N", scale=scale, legend=TOP if legend else None, title=None)


TOP = alt.Legend(orient="top")
DASH = alt.StrokeDash(
    "part:N", scale=alt.Scale(domain=list(PARTS), range=[[4, 3], [1, 0]]), title=None
)
LOSS_AXIS = alt.Axis(minExtent=28, tickCount=5)


def _loss_chart(
    paths: list[SettingPath], ranking: Mapping[Any, Any], ids: list[str], top: float
) -> dict[str, Any]:
    rows = []
    for number_, path in enumerate(paths):
        best = min(path.configurations, key=lambda id_: ranking[id_]["val_loss"])
        rows += [
            {"path": number_, "c": ids.index(id_), "position": position, "value": value}
            | {"part": part, "loss": ranking[id_][loss], "lowest": int(id_ == best)}
            for position, (value, id_) in enumerate(_steps(path))
            for part, loss in zip(PARTS, ("train_loss", "val_loss"), strict=True)
        ]
    base = alt.Chart(_csv(pd.DataFrame(rows))).transform_filter(f"{_is('path')} && {SHOWN}")
    order = alt.EncodingSortField("position", op="min")
    x = alt.X("value:O", sort=order, axis=alt.Axis(labelAngle=0), title=RIGID_TO_FLEXIBLE)
    scale = alt.Scale(domain=[0, top])
    y = alt.Y("loss:Q", title="loss", scale=scale, axis=LOSS_AXIS)
    tip = [alt.Tooltip(name) for name in ("value:N", "part:N", "loss:Q")]
    lines = base.mark_line(clip=True, strokeWidth=2).encode(
        x=x, y=y, color=_part_colour(), strokeDash=DASH, order="position:Q"
    )
    dots = base.transform_filter(_is("c")).encode(x=x, color=_part_colour(), tooltip=tip)
    high = dots.transform_filter(f"datum.loss > {top} && datum.part == 'train'")
    lowest = base.transform_filter("datum.part == 'validation' && datum.lowest == 1")
    return _chart(
        lowest.mark_rule(color=ROLES["winner"], strokeWidth=2, opacity=0.7).encode(x=x),
        lines,
        dots.mark_point(size=140, filled=True, opacity=1, clip=True).encode(y=y),
        high.transform_calculate(label="'▲ ' + format(datum.loss, '.3~s')")
        .mark_text(baseline="top", dy=2, fontSize=12)
        .encode(y=alt.value(0), text="label:N", color=alt.value(INK)),
        title="Train and validation loss from too rigid to too flexible",
        height=210,
    )


RIGID_TO_FLEXIBLE = "← too rigid · too flexible →"


def _week_panel(tables: list[pd.DataFrame], description: Table) -> Panel:
    unit, target = description.unit or description.target, description.target
    table = pd.concat([table.assign(week=i) for i, table in enumerate(tables)])
    step = time_step(table)
    time = table["timestamp"].dt
    table = table.rename(columns={target: "true"})
    table["block"] = (table["timestamp"].diff() > GAP * step).cumsum()
    clock = table["timestamp"] - time.normalize()
    table["day"] = time.day_of_week + clock / pd.Timedelta(days=1)  # after the start of the week
    names = list(tables[0].columns[3:])  # of predictions
    rows = alt.Chart(_csv(table.drop(columns="timestamp"))).transform_filter(_is("week"))
    rows = rows.transform_calculate(
        predicted="toNumber(datum['c' + c])",
        error="datum.predicted - datum.true",
        end=f"toNumber(datum.day) + {step / pd.Timedelta(days=1)}",
    )
    shown = table.assign(highest=table[["true", *names]].max(axis=1)).groupby("week")
    highest = [round(float(week)) for week in shown["highest"].max()]
    weekdays = "['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][datum.value]"
    axis = alt.Axis(values=list(range(7)), labelExpr=weekdays, labelAlign="left", grid=False)
    x = alt.X("day:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, 7], nice=False))
    low = min(0.0, float(table[["true", *names]].to_numpy().min()))
    scale = alt.Scale(domain=[low, alt.ExprRef(f"{highest}[week]")])
    left = alt.Axis(minExtent=40, tickCount=4)
    y: dict[str, Any] = {"title": unit, "scale": scale, "axis": left}
    days = "datum.label == 'train' ? 'training days' : 'validation days'"
    legend = alt.Legend(orient="top", labelExpr=days)
    shades = alt.Scale(domain=list(PARTS), range=["#8A909622", "#D55E0038"])
    band = alt.Color("part:N", scale=shades, title=None, legend=legend)
    tip = [alt.Tooltip(name, format=".0f") for name in ("true:Q", "predicted:Q")]
    errors_of_networks = table[names[1:]].sub(table["true"], axis=0).abs()
    limit = float(np.quantile(errors_of_networks, 0.995))
    error_scale = alt.Scale(domain=[-limit, limit])
    week = _chart(
        rows.mark_rect().encode(x=x, x2="end:Q", color=band),
        rows.mark_line(strokeWidth=1.8, color=BLUE).encode(
            x=x, y=alt.Y("predicted:Q", **y), detail="block:N"
        ),
        rows.mark_point(size=16, filled=True, opacity=1, color=INK).encode(
            x=x, y=alt.Y("true:Q", **y), tooltip=tip
        ),
        title=f"True and predicted {target} of a week",
        height=210,
    )
    errors = _chart(
        rows.mark_rect(clip=True).encode(
            x=x,
            x2="end:Q",
            y=alt.Y("error:Q", title="error", scale=error_scale, axis=left),
            y2=alt.datum(0),
            color=_part_colour(legend=False),
        ),
        title=f"Predicted minus true {target} of a week",
        height=90,
    )
    text = (
        f"Points: {target} as measured. Blue line: what the network predicts. The strip below "
        "shows its errors, predicted minus true. A rigid network errs on all days. A flexible one "
        "follows even the accidents of its training days (grey), but not the validation days."
    )
    return Panel(f"A week of {target}", text, {"week": week, "errors": errors}, wide=True)


def _fit_panel(predictions: pd.DataFrame, description: Table) -> Panel:
    """Return the target against the prediction, of a sample of the rows."""
    label = axis_label(description.target, description.unit)
    sample = predictions.sample(min(len(predictions), SAMPLE), random_state=0)
    sample = sample.rename(columns={description.target: "true"})
    names = list(predictions.columns[3:])
    values = sample[["true", *names[1:]]].to_numpy()
    scale = alt.Scale(domain=[float(values.min()), float(values.max())])
    points = alt.Chart(_csv(sample[["part", "true", *names]]))
    points = points.transform_calculate(predicted="toNumber(datum['c' + c])")
    ends = alt.Chart(_csv(pd.DataFrame({"at": [values.min(), values.max()]})))
    chart = _chart(
        ends.mark_line(color=PARTS["train"], strokeWidth=1).encode(x="at:Q", y="at:Q"),
        points.mark_point(filled=True, size=22, opacity=0.6, clip=True).encode(
            x=alt.X("true:Q", title=f"true {label}", scale=scale),
            y=alt.Y("predicted:Q", title=f"predicted {label}", scale=scale),
            color=_part_colour(),
            shape=alt.Shape("part:N", legend=None),
        ),
        title=f"Predicted against true {description.target}",
        height=300,
    )
    text = (
        "A point is a row, without an error on the line. A rigid network misses training and "
        "validation rows alike. A flexible one has its training rows (grey) on the line, and "
        "validation rows far from it."
    )
    return Panel(f"Predicted and true {description.target}", text, {"fit": chart}, wide=True)


def _response_panels(networks: dict[str, list[TrainedNetwork]], mean: float) -> list[Panel]:
    """Return a panel for each of the columns that change the prediction most."""
    network = next(iter(networks.values()))[0]
    columns = response_columns(network)
    columns = columns[:2] if network.table.source == "bikes" else columns[:RESPONSES]
    models = {str(c): several for c, several in enumerate(networks.values(), start=1)}
    panels: list[Panel] = []
    for column in columns:
        rows = made_up_rows(network, column)
        text = "Each line is a network that started from other random weights (a seed): where "
        text += f"they differ, they follow accidents. Fixed: {fixed_values(rows, column)}."
        table = response_table(models, rows).assign(day="")
        if column == "hour" and network.table.source == "bikes":
            sunday = rows["timestamp"].iloc[0] + pd.offsets.Week(weekday=6)
            free = response_table(models, made_up_rows(network, column, sunday))
            table = pd.concat([table.assign(day="working day"), free.assign(day="Sunday")])
            text += " Sunday: of the same week."
        constant = table[(table["role"] == "1") & (table["network"] == 0)]
        table = pd.concat([constant.assign(role="0", predicted=mean), table])
        chart = _response_chart(table.rename(columns={"role": "c"}), column, network.table)
        title = f"What it has learned about {column}"
        panels.append(Panel(title, text, {f"response-{len(panels)}": chart}))
    return panels


def _response_chart(table: pd.DataFrame, column: str, description: Table) -> dict[str, Any]:
    numeric = pd.api.types.is_numeric_dtype(table[column]) and table[column].dtype != bool
    data = table[["c", "day", "network", "predicted"]].assign(value=table[column])
    low, high = float(table["predicted"].min()), float(table["predicted"].max())
    scale = alt.Scale(domain=[min(0.0, low) if low < high / 2 else low, high])
    base = alt.Chart(_csv(data)).transform_filter(_is("c"))
    lines = base.mark_line(strokeWidth=1.2, color=BLUE, point=not numeric)
    lines = lines.encode(
        x=alt.X(
            "value:Q" if numeric else "value:N",
            title=axis_label(column, UNITS.get(column, "")),
            axis=alt.Axis(labelAngle=0),
        ),
        y=alt.Y(
            "predicted:Q",
            title=axis_label(f"predicted {description.target}", description.unit),
            scale=scale,
        ),
        detail="network:N",
    )
    if data["day"].iloc[0]:
        colours = alt.Scale(domain=list(DAYS), range=list(DAYS.values()))
        lines = lines.encode(color=alt.Color("day:N", title=None, legend=TOP, scale=colours))
    return _chart(lines, title=f"Predicted {description.target} by {column}")


def _learning_panel(runs: dict[str, pd.DataFrame], top: float) -> Panel:
    table = pd.DataFrame(
        [
            {"c": c, "part": part, "epoch": epoch, "loss": loss}
            for c, several in enumerate(runs.values(), start=1)
            for part, metric in zip(PARTS, ("train/loss", "val/loss"), strict=True)
            for epoch, loss in enumerate(history(several["run_id"].iloc[0], metric), start=1)
        ]
    )
    lines = alt.Chart(_csv(table)).transform_filter(f"{_is('c')} && {SHOWN}")
    lines = lines.mark_line(clip=True, strokeWidth=2).encode(
        x=alt.X("epoch:Q", scale=alt.Scale(domain=[0, int(table["epoch"].max())])),
        y=alt.Y("loss:Q", scale=alt.Scale(domain=[0, top]), axis=LOSS_AXIS),
        color=_part_colour(),
        strokeDash=DASH,
    )
    text = (
        "The loss after each pass over the training rows. If the train loss keeps falling while "
        "the validation loss rises, the network is memorizing."
    )
    chart = _chart(lines, title="Train and validation loss by epoch")
    return Panel("How it learned", text, {"learning": chart})


def _weight_panel(networks: dict[str, list[TrainedNetwork]]) -> Panel:
    weights = {c: _weights(several[0]) for c, several in enumerate(networks.values(), start=1)}
    layers = list(dict.fromkeys(layer for by_layer in weights.values() for layer in by_layer))
    charts = {}
    for layer in layers:
        tables, labels = [], []
        for c, by_layer in weights.items():
            if layer in by_layer:
                values = by_layer[layer]
                counts, edges = np.histogram(values.clip(BINS[0], BINS[-1]), BINS)
                columns = {"c": c, "weight": edges[:-1], "end": edges[1:]}
                tables.append(pd.DataFrame(columns).assign(share=counts / values.size))
                share = f"{layer}: {(np.abs(values) < ZERO).mean():.0%} ≈ 0"
                labels.append({"c": c, "label": share})
        bars = pd.concat(tables)
        scale, axis = alt.Scale(type="sqrt", domain=[0, 1]), alt.Axis(values=[0.1, 1], format="%")
        last = layer == layers[-1]
        charts[f"weights-{layer}"] = _chart(
            alt.Chart(_csv(bars[bars["share"] > 0]))
            .transform_filter(_is("c"))
            .mark_rect(color=BLUE)
            .encode(
                x=alt.X(
                    "weight:Q",
                    title="weight" if last else None,
                    scale=alt.Scale(domain=[BINS[0], BINS[-1]]),
                    axis=alt.Axis(labels=last),
                ),
                x2="end:Q",
                y=alt.Y("share:Q", title=None, scale=scale, axis=axis),
                y2=alt.datum(0),
            ),
            alt.Chart(_csv(pd.DataFrame(labels)))
            .transform_filter(_is("c"))
            .mark_text(align="left", baseline="top", fontSize=12, color=INK, dx=4, dy=2)
            .encode(x=alt.value(0), y=alt.value(0), text="label:N"),
            title=f"Histogram of the weights of {layer}",
            height=55,
        )
    text = (
        "How many weights are how large, by layer (the axis of shares is a square root). A strong "
        f"penalty leaves few weights that are not zero (of size {ZERO:g} or more)."
    )
    return Panel("Its weights", text, charts)


def _weights(network: TrainedNetwork) -> dict[str, np.ndarray]:
    state = network.network.state
    return {key.split(".")[0]: state[key] for key in sorted(state) if key.endswith("linear.weight")}
