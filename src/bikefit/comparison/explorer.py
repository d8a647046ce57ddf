"""The explorer: one page that shows what the networks along a path of a sweep have learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from bikefit.comparison.charts import ROLES, axis_label
from bikefit.comparison.html import render
from bikefit.comparison.losses import loss_curves
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
from bikefit.comparison.result import Comparison
from bikefit.comparison.runs import loss_unit
from bikefit.comparison.sentences import number
from bikefit.comparison.verdicts import NEXT, read_thresholds
from bikefit.data.bikes.columns import UNITS
from bikefit.data.features import TIME
from bikefit.data.table import Table
from bikefit.tracking.views import COLOURS
from bikefit.trained import TrainedNetwork, load

WEEKS = 3
SAMPLE = 400  # rows whose predictions are drawn against the target
RESPONSES = 8  # columns with a panel, those that change the prediction most
NO_PATH = "The explorer needs a sweep in which a setting has three values, with all others equal."
ZERO = 1e-3  # weights of a smaller size count as zero: Adam leaves few exact zeros
BINS = np.linspace(-0.5, 0.5, 42)  # of weights; larger weights are in the last bins

# The signals of the page, which all charts have, and conditions on them.
SIGNALS = {"c": 0, "path": 0, "week": 0, "show": True, "dark": False}
CHOSEN = "datum.c == c"
SHOWN = "(show || datum.part == 'train')"
# Colours and encodings of all charts.
PARTS = {"train": "#8A9096", "validation": "#D55E00"}
BLUE, INK = alt.ExprRef("dark ? '#56B4E9' : '#0072B2'"), alt.ExprRef("dark ? '#fff' : '#1d2327'")
DAYS: dict[str, Any] = {"working day": BLUE, "Sunday": "#CC79A7"}
BY_PART = alt.Color("part:N").scale(domain=list(PARTS), range=list(PARTS.values()))
BY_PART = BY_PART.title(None).legend(orient="top")
DASH = alt.StrokeDash("part:N").scale(domain=list(PARTS), range=[[4, 3], [1, 0]]).title(None)
LOSS = alt.Y("loss:Q").title("loss").axis(minExtent=28, tickCount=5)

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


def explorer_page(comparison: Comparison) -> str:
    """Return the explorer as HTML that works offline; without a path of flexibility, it says so."""
    paths = _paths(comparison)
    ids = list(dict.fromkeys(id_ for path in paths for id_ in path.configurations))
    if not ids:
        return f"<!doctype html>\n<title>bikefit</title>\n<p>{NO_PATH}</p>\n"
    runs = comparison.ranked_runs.dropna(subset=["val_loss"]).sort_values("val_loss", kind="stable")
    ranking, best = comparison.ranking.set_index("configuration_id"), comparison.ranking.iloc[0]
    rows: list[dict[Any, Any]] = [_constant(runs), *ranking.loc[ids].to_dict("records")]
    of = dict(list(runs.groupby("configuration_id")["run_id"]))
    networks = {c: [load(run) for run in of[id_]] for c, id_ in enumerate(ids, start=1)}
    table = networks[1][0].table
    predictions = prediction_table({f"c{c}": several[0] for c, several in networks.items()})
    weeks = _choose_weeks(predictions) if table.time else []
    mean = predictions.loc[predictions["part"] == "train", table.target].mean()
    predictions.insert(3, "c0", mean)
    tables = [select_week(predictions, week) for week in weeks] or [predictions]
    steps, top = [_steps(path, ids) for path in paths], 1.1 * ranking.loc[ids, "val_loss"].max()
    firsts = {c: of[id_].iloc[0] for c, id_ in enumerate(ids, start=1)}
    learning = loss_curves(firsts, comparison.histories).rename(columns={"name": "c"})
    responses, response_charts = _responses(networks, mean)
    weights = _weight_charts(networks)
    charts = {
        "losses": _loss_chart(steps, rows, top),
        "learning": _learning_chart(learning, top),
        **(_week_charts(tables, table) if weeks else {"fit": _fit_chart(predictions, table)}),
        **response_charts,
        **weights,
    }
    return render(
        "explorer.html.j2",
        bundle=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        charts=charts,
        responses=responses,
        weights=list(weights),
        zero=ZERO,
        paths=[_positions(path, of_path) for path, of_path in zip(paths, steps, strict=True)],
        about=[
            _about(row) | {"weeks": [_weekly_errors(week, f"c{c}") for week in tables]}
            for c, row in enumerate(rows)
        ],
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


def _constant(runs: pd.DataFrame) -> dict[str, Any]:
    """Return a row like those of a ranking, of the prediction that is the mean of all rows."""
    return {
        "configuration": "no network, but the mean of all training rows",
        "verdict": "underfitting",
        "reason": "a penalty without limit, or a network without units, leaves only this constant",
        "next": NEXT["underfitting"],
        "train_loss": runs["constant_train"].iloc[0],
        "val_loss": runs["constant_val"].iloc[0],
    }


def _steps(path: SettingPath, ids: list[str]) -> list[tuple[str, int]]:
    """Return values of the setting with the numbers of their networks, from 0, the constant."""
    values = [f"{value:g}" for value in path.values]
    numbers = [1 + ids.index(id_) for id_ in path.configurations]
    return [("mean", 0), *list(zip(values, numbers, strict=True))[:: path.direction]]


def _positions(path: SettingPath, steps: list[tuple[str, int]]) -> dict[str, Any]:
    """Return what the page shows of a path: its name, what it does, its positions."""
    name, does = SETTINGS.get(path.last, (path.label, ""))
    name = path.label if "layers." in path.key else name
    positions = [
        {"c": c, "value": value, "name": f"{name} = {value}" if c else "the mean alone"}
        for value, c in steps
    ]
    return {"label": name, "hint": f"{name} {does}" if does else "", "positions": positions}


def _choose_weeks(predictions: pd.DataFrame) -> list[pd.Timestamp]:
    """Return the most typical weeks of different quarters of a year, by date."""
    chosen: dict[int, pd.Timestamp] = {}
    for week in typical_weeks(predictions):
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
        "reason": f"{row['reason']}. Next: {row['next']}.",
        "train": number(row["train_loss"], row["val_loss"]),
        "validation": number(row["val_loss"], row["val_loss"]),
    }


def _rows(table: pd.DataFrame) -> alt.Chart:
    text = table.to_csv(index=False, float_format="%.4g", lineterminator="\n")
    return alt.Chart(alt.InlineData(values=text, format=alt.DataFormat(type="csv")))


def _chart(*layers: alt.Chart, title: str, height: int = 190) -> dict[str, Any]:
    """Return the specification of layers that read the signals of the page."""
    params = [alt.param(name=name, value=value) for name, value in SIGNALS.items()]
    chart = alt.layer(*layers).add_params(*params)
    return dict(chart.properties(width="container", height=height, description=title).to_dict())


def _loss_chart(
    paths: list[list[tuple[str, int]]], ranking: list[dict[Any, Any]], top: float
) -> dict[str, Any]:
    rows = []
    for number_, steps in enumerate(paths):
        best = min((c for _, c in steps[1:]), key=lambda c: ranking[c]["val_loss"])
        rows += [
            {"path": number_, "c": c, "position": position, "value": value}
            | {"part": part, "loss": ranking[c][loss], "lowest": int(c == best)}
            for position, (value, c) in enumerate(steps)
            for part, loss in zip(PARTS, ("train_loss", "val_loss"), strict=True)
        ]
    base = _rows(pd.DataFrame(rows)).transform_filter(f"datum.path == path && {SHOWN}")
    x = alt.X("value:O", sort=alt.EncodingSortField("position", op="min"))
    x = x.title("← too rigid · too flexible →").axis(labelAngle=0)
    y = LOSS.scale(domain=[0, top])
    dots = base.transform_filter(CHOSEN).encode(
        x=x, color=BY_PART, tooltip=["value:N", "part:N", "loss:Q"]
    )
    high = dots.transform_filter(f"datum.loss > {top} && datum.part == 'train'")
    lowest = base.transform_filter("datum.part == 'validation' && datum.lowest == 1")
    return _chart(
        lowest.mark_rule(color=ROLES["winner"], strokeWidth=2, opacity=0.7).encode(x=x),
        base.mark_line(clip=True, strokeWidth=2).encode(
            x=x, y=y, color=BY_PART, strokeDash=DASH, order="position:Q"
        ),
        dots.mark_point(size=140, filled=True, opacity=1, clip=True).encode(y=y),
        high.transform_calculate(label="'▲ ' + format(datum.loss, '.3~r')")
        .mark_text(baseline="top", dy=2, fontSize=12)
        .encode(y=alt.value(0), text="label:N", color=alt.value(INK)),
        title="Train and validation loss from too rigid to too flexible",
        height=210,
    )


def _week_charts(tables: list[pd.DataFrame], description: Table) -> dict[str, dict[str, Any]]:
    """Return the chart of a week, and below it that of its errors."""
    target, names = description.target, list(tables[0].columns[3:])  # of predictions
    table = pd.concat([table.assign(week=i) for i, table in enumerate(tables)])
    table = table.rename(columns={target: "true"})
    time, step = table[TIME], time_step(table)
    table["block"] = (time.diff() > GAP * step).cumsum()
    table["day"] = time.dt.day_of_week + (time - time.dt.normalize()) / pd.Timedelta(days=1)
    highest = table[["true", *names]].max(axis=1).groupby(table["week"]).max()
    low = min(0.0, float(table[["true", *names]].to_numpy().min()))
    misses = table[names[1:]].sub(table["true"], axis=0).abs()
    limit = float(np.quantile(misses, 0.995))
    rows = _rows(table.drop(columns=TIME)).transform_filter("datum.week == week")
    rows = rows.transform_calculate(
        predicted="toNumber(datum['c' + c])",
        error="datum.predicted - datum.true",
        end=f"toNumber(datum.day) + {step / pd.Timedelta(days=1)}",
    )
    weekdays = "['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][datum.value]"
    x = alt.X("day:Q").title(None).scale(domain=[0, 7], nice=False)
    x = x.axis(values=list(range(7)), labelExpr=weekdays, labelAlign="left", grid=False)
    left = alt.Axis(minExtent=40, tickCount=4)
    scale = alt.Scale(domain=[low, alt.ExprRef(f"{[round(float(x)) for x in highest]}[week]")])
    y: dict[str, Any] = {"title": description.unit or target, "scale": scale, "axis": left}
    days = "datum.label == 'train' ? 'training days' : 'validation days'"
    shades = alt.Scale(domain=list(PARTS), range=["#8A909622", "#D55E0038"])
    band = BY_PART.scale(shades).legend(orient="top", labelExpr=days)
    week = _chart(
        rows.mark_rect().encode(x=x, x2="end:Q", color=band),
        rows.mark_line(strokeWidth=1.8, color=BLUE).encode(
            x=x, y=alt.Y("predicted:Q", **y), detail="block:N"
        ),
        rows.mark_point(size=16, filled=True, opacity=1, color=INK).encode(
            x=x,
            y=alt.Y("true:Q", **y),
            tooltip=[alt.Tooltip(name, format=".0f") for name in ("true:Q", "predicted:Q")],
        ),
        title=f"True and predicted {target} of a week",
        height=210,
    )
    error = alt.Y("error:Q").title("error").scale(domain=[-limit, limit]).axis(left)
    errors = _chart(
        rows.mark_rect(clip=True).encode(
            x=x, x2="end:Q", y=error, y2=alt.datum(0), color=BY_PART.legend(None)
        ),
        title=f"Predicted minus true {target} of a week",
        height=90,
    )
    return {"week": week, "errors": errors}


def _fit_chart(predictions: pd.DataFrame, description: Table) -> dict[str, Any]:
    """Return the chart of the target against the prediction, of a sample of the rows."""
    label, names = axis_label(description.target, description.unit), predictions.columns[3:]
    sample = predictions.sample(min(len(predictions), SAMPLE), random_state=0)
    sample = sample.rename(columns={description.target: "true"})[["part", "true", *names]]
    values = sample.drop(columns=["part", "c0"])
    ends = [float(values.min().min()), float(values.max().max())]
    points = _rows(sample).transform_calculate(predicted="toNumber(datum['c' + c])")
    return _chart(
        _rows(pd.DataFrame({"at": ends}))
        .mark_line(color=PARTS["train"], strokeWidth=1)
        .encode(x="at:Q", y="at:Q"),
        points.mark_point(filled=True, size=22, opacity=0.6, clip=True).encode(
            x=alt.X("true:Q").title(f"true {label}").scale(domain=ends),
            y=alt.Y("predicted:Q").title(f"predicted {label}").scale(domain=ends),
            color=BY_PART,
            shape=alt.Shape("part:N").legend(None),
        ),
        title=f"Predicted against true {description.target}",
        height=300,
    )


def _responses(
    networks: dict[int, list[TrainedNetwork]], mean: float
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return descriptions and charts of the responses to the columns that change most."""
    network = networks[1][0]
    bikes, columns = network.table.bikes, response_columns(network)
    descriptions: list[dict[str, Any]] = []
    charts: dict[str, dict[str, Any]] = {}
    for column in columns[: 2 if bikes else RESPONSES]:
        rows = made_up_rows(network, column)
        table = response_table(networks, rows).assign(day="")
        if sunday := bikes and column == "hour":
            free = rows["timestamp"].iloc[0] + pd.offsets.Week(weekday=6)
            table["day"] = "working day"
            other = response_table(networks, made_up_rows(network, column, free))
            table = pd.concat([table, other.assign(day="Sunday")])
        constant = table[(table["role"] == 1) & (table["network"] == 0)]
        table = pd.concat([constant.assign(role=0, predicted=mean), table])
        name, fixed = f"response-{len(charts)}", fixed_values(rows, column)
        charts[name] = _response_chart(table, column, network.table)
        descriptions.append({"id": name, "column": column, "fixed": fixed, "sunday": sunday})
    return descriptions, charts


def _response_chart(table: pd.DataFrame, column: str, description: Table) -> dict[str, Any]:
    numeric = pd.api.types.is_numeric_dtype(table[column]) and table[column].dtype != bool
    low, high = float(table["predicted"].min()), float(table["predicted"].max())
    x = alt.X("value:Q" if numeric else "value:N").axis(labelAngle=0)
    y = alt.Y("predicted:Q").scale(domain=[min(0.0, low) if low < high / 2 else low, high])
    data = table[["role", "day", "network", "predicted"]].rename(columns={"role": "c"})
    lines = _rows(data.assign(value=table[column])).transform_filter(CHOSEN)
    lines = lines.mark_line(strokeWidth=1.2, color=BLUE, point=not numeric).encode(
        x=x.title(axis_label(column, UNITS.get(column, ""))),
        y=y.title(axis_label(f"predicted {description.target}", description.unit)),
        detail="network:N",
    )
    if data["day"].iloc[0]:
        colours = alt.Scale(domain=list(DAYS), range=list(DAYS.values()))
        lines = lines.encode(
            color=alt.Color("day:N").title(None).legend(orient="top").scale(colours)
        )
    return _chart(lines, title=f"Predicted {description.target} by {column}")


def _learning_chart(table: pd.DataFrame, top: float) -> dict[str, Any]:
    lines = _rows(table).transform_filter(f"{CHOSEN} && {SHOWN}")
    lines = lines.mark_line(clip=True, strokeWidth=2).encode(
        x=alt.X("epoch:Q").scale(domain=[0, int(table["epoch"].max())]),
        y=LOSS.scale(domain=[0, top]),
        color=BY_PART,
        strokeDash=DASH,
    )
    return _chart(lines, title="Train and validation loss by epoch")


def _weight_charts(networks: dict[int, list[TrainedNetwork]]) -> dict[str, dict[str, Any]]:
    """Return a histogram of the weights of each layer, with the share of zeros."""
    weights = {c: _weights(several[0]) for c, several in networks.items()}
    layers = list(dict.fromkeys(layer for by_layer in weights.values() for layer in by_layer))
    charts = {}
    for layer in layers:
        bars, labels = [], []
        of_layer = {c: by_layer[layer] for c, by_layer in weights.items() if layer in by_layer}
        for c, values in of_layer.items():
            counts, edges = np.histogram(values.clip(BINS[0], BINS[-1]), BINS)
            columns = {"c": c, "weight": edges[:-1], "end": edges[1:]}
            bars.append(pd.DataFrame(columns).assign(share=counts / values.size)[counts > 0])
            share = f"{layer}: {(np.abs(values) < ZERO).mean():.0%} ≈ 0"
            labels.append({"c": c, "label": share})
        last = layer == layers[-1]
        x = alt.X("weight:Q").title("weight" if last else None).axis(labels=last)
        y = alt.Y("share:Q").title(None).scale(type="sqrt", domain=[0, 1])
        charts[f"weights-{layer}"] = _chart(
            _rows(pd.concat(bars))
            .transform_filter(CHOSEN)
            .mark_rect(color=BLUE)
            .encode(
                x=x.scale(domain=[BINS[0], BINS[-1]]),
                x2="end:Q",
                y=y.axis(values=[0.1, 1], format="%"),
                y2=alt.datum(0),
            ),
            _rows(pd.DataFrame(labels))
            .transform_filter(CHOSEN)
            .mark_text(align="left", baseline="top", fontSize=12, color=INK, dx=4, dy=2)
            .encode(x=alt.value(0), y=alt.value(0), text="label:N"),
            title=f"Histogram of the weights of {layer}",
            height=55,
        )
    return charts


def _weights(network: TrainedNetwork) -> dict[str, np.ndarray]:
    state = network.network.state
    return {key.split(".")[0]: state[key] for key in sorted(state) if key.endswith("linear.weight")}
