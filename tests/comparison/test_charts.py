from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from bikefit.comparison.charts import KIND_COLOURS, kind_colour, ranking_chart, save
from bikefit.comparison.ranking import rank
from bikefit.comparison.runs import run_table

Run = Callable[..., dict[str, Any]]


def draw(runs: pd.DataFrame) -> Figure:
    return ranking_chart(run_table(runs), rank(runs))


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_label(): axes for axes in figure.axes}


def points(axes: Axes) -> list[tuple[float, float]]:
    """Where the marks with error bars are, sorted."""
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    return sorted((float(x), float(y)) for c in bars for x, y in c[0].get_xydata())


@pytest.mark.slow
def test_every_configuration_is_a_row_with_both_losses(sweep: pd.DataFrame) -> None:
    rows = panels(draw(sweep))["rows"]
    ranking = rank(sweep)
    labels = [label.get_text() for label in rows.get_yticklabels()]
    assert labels == [f"{c}   {i}" for i, c in enumerate(ranking["configuration"], start=1)]
    expected = [
        (loss, place)
        for place, pair in enumerate(zip(ranking["train_loss"], ranking["val_loss"], strict=True))
        for loss in pair
    ]
    assert points(rows) == sorted(expected)
    assert rows.get_xlabel() == "loss (half Poisson deviance, bikes/hour)"


def test_those_within_noise_are_bold(sweep: pd.DataFrame) -> None:
    labels = panels(draw(sweep))["rows"].get_yticklabels()
    assert [label.get_fontweight() for label in labels[:4]] == ["bold", "bold", "bold", "normal"]


@pytest.mark.slow
def test_the_plane_has_a_point_each_and_its_seeds(sweep: pd.DataFrame) -> None:
    plane = panels(draw(sweep))["plane"]
    ranking = rank(sweep)
    expected = list(zip(ranking["train_loss"], ranking["val_loss"], strict=True))
    assert points(plane) == sorted(expected)
    assert (
        sum(len(np.asarray(c.get_offsets())) for c in plane.collections if c.get_alpha() == 0.3)
        == 78
    )
    texts = {text.get_text() for text in plane.texts}
    assert {"1", "2", "26", "overfitting", "underfitting"} <= texts
    assert plane.get_xlabel() == "train loss (half Poisson deviance, bikes/hour)"
    assert plane.get_ylabel() == "validation loss (half Poisson deviance, bikes/hour)"


@pytest.mark.slow
def test_the_headline_names_the_winner(sweep: pd.DataFrame) -> None:
    assert draw(sweep).get_suptitle() == (
        "Best: l2 λ=0.0001 + dropout p=0.2 · mlp 256×256: "
        "validation loss 6.832 ± 0.057, RMSE 68.3 bikes/hour"
    )


@pytest.mark.slow
def test_the_axes_are_logarithmic_only_for_a_wide_range(sweep: pd.DataFrame, run: Run) -> None:
    wide = panels(draw(sweep))
    assert [wide["rows"].get_xscale(), wide["plane"].get_yscale()] == ["log", "log"]
    narrow = panels(draw(pd.DataFrame([run(val=7.0), run("l2 λ=1", val=8.0)])))
    assert [narrow["rows"].get_xscale(), narrow["plane"].get_yscale()] == ["linear", "linear"]


@pytest.mark.slow
def test_the_legend_names_kinds_and_networks(sweep: pd.DataFrame) -> None:
    (legend,) = draw(sweep).legends
    texts = {text.get_text() for text in legend.get_texts()}
    assert {"dropout", "batch norm", "combined", "mlp 1024×1024", "linear"} <= texts


def test_combinations_share_a_colour() -> None:
    assert kind_colour("l2 + dropout") == kind_colour("l1 + dropout") == KIND_COLOURS["combined"]
    assert kind_colour("l2") != kind_colour("dropout")


def test_failed_runs_are_counted_not_drawn(run: Run) -> None:
    figure = draw(pd.DataFrame([run(), run("l1 λ=9", failure="x")]))
    assert figure.get_suptitle().endswith("(failed runs, not shown: 1)")
    assert len(points(panels(figure)["plane"])) == 1


@pytest.mark.slow
def test_a_single_run_is_drawn(run: Run) -> None:
    plane = panels(draw(pd.DataFrame([run()])))["plane"]
    assert points(plane) == [(5.0, 7.0)]
    low, high = plane.get_ylim()
    assert low < 7.0 < high


def test_validation_below_train_is_drawn(run: Run) -> None:
    plane = panels(draw(pd.DataFrame([run(train=8.0, val=7.0), run("l2 λ=1", train=9.0, val=7.5)])))
    assert len(points(plane["plane"])) == 2


@pytest.mark.slow
def test_of_very_many_the_best_have_a_row(run: Run) -> None:
    figure = draw(pd.DataFrame([run(f"l2 λ={i}", val=7 + i / 100) for i in range(1, 71)]))
    assert len(panels(figure)["rows"].get_yticklabels()) == 60
    assert panels(figure)["rows"].get_title(loc="left").endswith("the best 60 of 70")
    assert len(points(panels(figure)["plane"])) == 70


def test_nothing_finished_is_said(run: Run) -> None:
    figure = draw(pd.DataFrame([run(failure="x")]))
    assert [text.get_text() for text in figure.texts] == ["No run finished (of 1)."]
    assert figure.axes == []


@pytest.mark.slow
def test_the_same_runs_give_the_same_file(sweep: pd.DataFrame, tmp_path: Path) -> None:
    digests = set()
    for name in ("one.png", "two.png"):
        save(draw(sweep.head(6)), tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
