"""The explorer: one page that shows what the networks along a path of a sweep have learned."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from bikefit.comparison.charts import ROLES
from bikefit.comparison.html import render
from bikefit.comparison.losses import history
from bikefit.comparison.predictions import (
    axis_label,
    best_weeks,
    fixed_values,
    made_up_hours,
    response_table,
    week_table,
)
from bikefit.comparison.result import Comparison
from bikefit.comparison.sentences import number
from bikefit.trained import TrainedNetwork, load

WEEKS = 3
NO_PATH = "The explorer needs a sweep in which a setting has three values, with all others equal."
ZERO = 1e-3  # weights of a smaller size are counted as zero: Adam leaves few exact zeros
BINS = np.linspace(-0.5, 0.5, 42)  # of weights; larger weights are in the last bins
PREDICTED, TRAIN, VALIDATION = ROLES["overfitting"], "#8A9096", ROLES["underfitting"]
PARTS = alt.Scale(domain=["train", "validation"], range=[TRAIN, VALIDATION])
TOP = alt.Legend(orient="top")
FLAT = alt.Axis(labelAngle=0)
WIDE = alt.Axis(minExtent=28)
LAYERS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7"]
SHOWN = "(show || datum.part == 'train')"
SHADES = alt.Scale(domain=["train", "validation"], range=["#8A909622", "#F0B83166"])


def explorer_page(comparison: Comparison) -> str:
    """Return the explorer as HTML that works offline; without a path of flexibility, it says so."""
    paths = _paths(comparison)
    ids = list(dict.fromkeys(id_ for values in paths.values() for id_ in values.values()))
    if not ids:
        return f"<!doctype html>\n<title>bikefit</title>\n<p>{NO_PATH}</p>\n"
    runs = comparison.ranked_runs.dropna(subset=["val_loss"]).sort_values("val_loss", kind="stable")
    by_id = {id_: runs[runs["configuration_id"] == id_] for id_ in ids}
    networks = {id_: [load(run) for run in by_id[id_]["run_id"]] for id_ in ids}
    hours = networks[ids[0]][0].rows
    warm, working = (made_up_hours(hours, column) for column in ("temperature", "hour"))
    sunday = working["timestamp"].iloc[0] + pd.offsets.Week(weekday=6)
    days = {"working day": working, "Sunday": made_up_hours(hours, "hour", sunday)}
    weeks = _choose_weeks(best_weeks(hours))
    ranking = comparison.ranking.set_index("configuration_id").to_dict("index")
    charts = {
        "week": _week_chart(networks, hours, weeks),
        "temperature": _response_chart(networks, {"": warm}, "temperature"),
        "hour": _response_chart(networks, days, "hour"),
        "losses": _loss_chart(paths, ids, ranking),
        "learning": _learning_chart(by_id),
        "weights": _weight_chart(networks),
    }
    positions = {
        label: [{"c": ids.index(id_), "value": f"{value:g}"} for value, id_ in values.items()]
        for label, values in paths.items()
    }
    return render(
        "explorer.html.j2",
        bundle=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        charts=charts,
        paths=positions,
        about=[_about(ranking[id_], networks[id_][0]) for id_ in ids],
        weeks=[f"{week:%Y-%m-%d}" for week in weeks],
        fixed=fixed_values(warm, "temperature"),
        name=comparison.name,
    )


def _paths(comparison: Comparison) -> dict[str, dict[float, str]]:
    """Return configurations by value, from rigid to flexible, of the longest path of a setting."""
    ranked = set(comparison.ranked_runs["configuration_id"])
    longest: dict[str, dict[float, str]] = {}
    for series in comparison.series:
        path = series.path
        longer = len(path.values) > len(longest.get(path.label, ()))
        if path.direction and longer and ranked.issuperset(path.configurations):
            pairs = list(zip(path.values, path.configurations, strict=True))
            longest[path.label] = dict(pairs[:: path.direction])
    return longest


def _choose_weeks(weeks: list[pd.Timestamp]) -> list[pd.Timestamp]:
    """Return the first weeks of the list that are in different quarters of a year, by date."""
    chosen: dict[int, pd.Timestamp] = {}
    for week in weeks:
        chosen.setdefault(week.quarter, week)
    return sorted(list(chosen.values())[:WEEKS])


def _selected(name: str) -> str:
    return f"datum.{name} == {name}"


def _chart(*layers: alt.Chart, height: int = 190) -> dict[str, Any]:
    """Return the specification of layers that read the signals `c`, `path`, `week` and `show`."""
    start = {"c": 0, "path": 0, "week": 0, "show": True}
    params = [alt.param(name=name, value=value) for name, value in start.items()]
    chart = alt.layer(*layers).add_params(*params).properties(width="container", height=height)
    with alt.data_transformers.disable_max_rows():
        return dict(chart.to_dict())


def _week_chart(
    networks: dict[str, list[TrainedNetwork]], hours: pd.DataFrame, weeks: list[pd.Timestamp]
) -> dict[str, Any]:
    best = {str(c): several[0] for c, several in enumerate(networks.values())}
    tables = [week_table(best, hours, week).assign(week=i) for i, week in enumerate(weeks)]
    table = pd.concat(tables, ignore_index=True)
    time = table["timestamp"].dt
    table["day"] = (time.day_of_week + time.hour / 24).round(3)  # after the start of the week
    days = table[["week", "part"]].assign(day=time.day_of_week, end=time.day_of_week + 1)
    lines = table.melt(["week", "day"], list(best), "c", "predicted").astype({"c": int})
    lines["predicted"] = lines["predicted"].round().astype(int)
    top = float(max(table["rentals"].max(), lines["predicted"].max()))
    names = "['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][datum.value]"
    axis = alt.Axis(values=list(range(7)), labelExpr=names, labelAlign="left")
    x = alt.X("day:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, 7], nice=False))
    scale = alt.Scale(domain=[0, top])
    part = alt.Color("part:N", scale=SHADES, title=None, legend=TOP)
    points = alt.Chart(table[["week", "day", "rentals"]]).mark_point(size=14, filled=True)
    return _chart(
        alt.Chart(days.drop_duplicates())
        .transform_filter(_selected("week"))
        .mark_rect()
        .encode(x=x, x2="end:Q", color=part),
        points.transform_filter(_selected("week")).encode(
            x=x, y=alt.Y("rentals:Q", title="bikes/hour", scale=scale), color=alt.value(TRAIN)
        ),
        alt.Chart(lines)
        .transform_filter(f"{_selected('c')} && {_selected('week')}")
        .mark_line(strokeWidth=1.6)
        .encode(
            x=x, y=alt.Y("predicted:Q", title="bikes/hour", scale=scale), color=alt.value(PREDICTED)
        ),
        height=230,
    )


def _response_chart(
    networks: dict[str, list[TrainedNetwork]], rows: dict[str, pd.DataFrame], column: str
) -> dict[str, Any]:
    by_number = {str(c): several for c, several in enumerate(networks.values())}
    tables = [response_table(by_number, one).assign(day=day) for day, one in rows.items()]
    table = pd.concat(tables).rename(columns={"role": "c"}).astype({"c": int})
    table = table[["c", "day", "network", column, "predicted"]].round(1)
    scale = alt.Scale(domain=[0, float(table["predicted"].max())])
    lines = alt.Chart(table).transform_filter(_selected("c")).mark_line(strokeWidth=1)
    lines = lines.encode(
        x=alt.X(f"{column}:Q", title=axis_label(column)),
        y=alt.Y("predicted:Q", title="predicted bikes/hour", scale=scale),
        detail="network:N",
        color=alt.value(PREDICTED),
    )
    if len(rows) > 1:
        lines = lines.encode(strokeDash=alt.StrokeDash("day:N", title=None, legend=TOP))
    return _chart(lines)


def _loss_chart(
    paths: dict[str, dict[float, str]], ids: list[str], ranking: dict[Any, dict[Any, Any]]
) -> dict[str, Any]:
    table = pd.DataFrame(
        [
            {"path": path, "c": ids.index(id_), "position": i, "value": f"{value:g}"}
            | {"part": part, "loss": ranking[id_][column]}
            for path, values in enumerate(paths.values())
            for i, (value, id_) in enumerate(values.items())
            for part, column in (("train", "train_loss"), ("validation", "val_loss"))
        ]
    )
    base = alt.Chart(table).transform_filter(f"{_selected('path')} && {SHOWN}")
    order = alt.EncodingSortField("position", op="min")
    base = base.encode(
        x=alt.X("value:O", title="too rigid ← → too flexible", sort=order, axis=FLAT),
        y=alt.Y("loss:Q", scale=alt.Scale(type="log", domain=_limits(table["loss"])), axis=WIDE),
        color=alt.Color("part:N", scale=PARTS, title=None, legend=TOP),
    )
    dot = base.transform_filter(_selected("c")).mark_point(size=130, filled=True, opacity=1)
    return _chart(base.mark_line(), dot)


def _learning_chart(runs: dict[str, pd.DataFrame]) -> dict[str, Any]:
    table = pd.DataFrame(
        [
            {"c": c, "part": part, "epoch": epoch, "loss": round(loss, 3)}
            for c, several in enumerate(runs.values())
            for part, metric in (("train", "train/loss"), ("validation", "val/loss"))
            for epoch, loss in enumerate(history(several["run_id"].iloc[0], metric), start=1)
        ]
    )
    highest = float(np.quantile(table["loss"], 0.98))  # the first epochs are off the scale
    scale = alt.Scale(type="log", domain=_limits(table["loss"].clip(upper=highest)), clamp=True)
    lines = alt.Chart(table).transform_filter(f"{_selected('c')} && {SHOWN}").mark_line()
    lines = lines.encode(
        x="epoch:Q",
        y=alt.Y("loss:Q", scale=scale, axis=WIDE),
        color=alt.Color("part:N", scale=PARTS, title=None, legend=TOP),
    )
    return _chart(lines)


def _limits(losses: pd.Series) -> list[float]:
    return [float(losses.min()), float(losses.max())]


def _weight_chart(networks: dict[str, list[TrainedNetwork]]) -> dict[str, Any]:
    tables = []
    for c, several in enumerate(networks.values()):
        for layer, weights in _weights(several[0]).items():
            counts, edges = np.histogram(weights.clip(BINS[0], BINS[-1]), BINS)
            share = (counts / weights.size).round(4)
            columns = {"c": c, "layer": layer, "weight": edges[:-1].round(4), "share": share}
            tables.append(pd.DataFrame(columns))
    lines = alt.Chart(pd.concat(tables)).transform_filter(_selected("c"))
    lines = lines.mark_line(interpolate="step-after", strokeWidth=1.3).encode(
        x=alt.X("weight:Q", title="weight"),
        y=alt.Y("share:Q", title="share of the weights", axis=alt.Axis(format="%")),
        color=alt.Color("layer:N", title=None, legend=TOP, scale=alt.Scale(range=LAYERS)),
        strokeDash=alt.StrokeDash("layer:N", title=None),
    )
    return _chart(lines)


def _weights(network: TrainedNetwork) -> dict[str, np.ndarray]:
    state = network.network.state
    return {key.split(".")[0]: state[key] for key in sorted(state) if key.endswith("linear.weight")}


def _about(row: dict[Any, Any], network: TrainedNetwork) -> dict[str, str]:
    """Return the sentences on a configuration."""
    zeros = (f"{layer} {(np.abs(w) < ZERO).mean():.0%}" for layer, w in _weights(network).items())
    return {
        "name": row["configuration"],
        "verdict": row["verdict"],
        "reason": f"{row['reason']}. Next: {row['next']}.",
        "train": number(row["train_loss"], row["val_loss"]),
        "validation": number(row["val_loss"], row["val_loss"]),
        "zeros": ", ".join(zeros),
    }
