from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from bikefit.comparison.charts import KIND_COLOURS, kind_colour, ranking_chart, save
from bikefit.comparison.ranking import rank
from made_runs import make_run, make_sweep, make_table


def draw(runs: pd.DataFrame) -> Figure:
    return ranking_chart(runs, rank(runs))


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_label(): axes for axes in figure.axes}


def points(axes: Axes) -> list[tuple[float, float]]:
    """Where the marks with error bars are, sorted."""
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    return sorted((float(x), float(y)) for c in bars for x, y in c[0].get_xydata())


@pytest.mark.slow
def test_a_sweep_is_drawn_with_a_row_and_a_point_for_each_configuration() -> None:
    ranking = rank(make_sweep())
    figure = draw(make_sweep())
    assert figure.get_suptitle() == (
        "Best: l2 λ=0.0001 + dropout p=0.2 · mlp 256×256: "
        "validation loss 6.832 ± 0.057, RMSE 68.3 bikes/hour"
    )
    rows, plane = (panels(figure)[name] for name in ("rows", "plane"))
    labels = rows.get_yticklabels()
    names = [f"{name}   {i}" for i, name in enumerate(ranking["configuration"], start=1)]
    assert [label.get_text() for label in labels] == names
    # those within the noise of the winner
    assert [label.get_fontweight() for label in labels[:4]] == ["bold", "bold", "bold", "normal"]
    losses = list(zip(ranking["train_loss"], ranking["val_loss"], strict=True))
    assert points(rows) == sorted((loss, i) for i, pair in enumerate(losses) for loss in pair)
    assert points(plane) == sorted(losses)
    seeds = [c.get_offsets() for c in plane.collections if c.get_alpha() == 0.3]
    assert sum(map(len, map(np.asarray, seeds))) == 78
    texts = {text.get_text() for text in plane.texts}
    assert {"1", "2", "26", "overfitting", "underfitting"} <= texts
    unit = "loss (half Poisson deviance, bikes/hour)"
    assert rows.get_xlabel() == unit
    assert (plane.get_xlabel(), plane.get_ylabel()) == (f"train {unit}", f"validation {unit}")
    (legend,) = figure.legends
    texts = {text.get_text() for text in legend.get_texts()}
    assert {"dropout", "batch norm", "combined", "mlp 1024×1024", "linear"} <= texts


@pytest.mark.slow
def test_the_axes_are_logarithmic_only_for_a_wide_range() -> None:
    wide = panels(draw(make_sweep()))
    assert [wide["rows"].get_xscale(), wide["plane"].get_yscale()] == ["log", "log"]
    narrow = panels(draw(make_table([make_run(val=7.0), make_run("l2 λ=1", val=8.0)])))
    assert [narrow["rows"].get_xscale(), narrow["plane"].get_yscale()] == ["linear", "linear"]


def test_combinations_share_a_colour() -> None:
    assert kind_colour("l2 + dropout") == kind_colour("l1 + dropout") == KIND_COLOURS["combined"]
    assert kind_colour("l2") != kind_colour("dropout")


def test_failed_runs_are_counted_not_drawn() -> None:
    figure = draw(make_table([make_run(), make_run("l1 λ=9", failure="x")]))
    assert figure.get_suptitle().endswith("(failed runs, not shown: 1)")
    assert len(points(panels(figure)["plane"])) == 1


@pytest.mark.slow
@pytest.mark.parametrize("losses", [(5.0, 7.0), (8.0, 7.0)], ids=["overfitted", "val below train"])
def test_a_single_run_is_drawn(losses: tuple[float, float]) -> None:
    plane = panels(draw(make_table([make_run(train=losses[0], val=losses[1])])))["plane"]
    assert points(plane) == [losses]
    low, high = plane.get_ylim()
    assert low < 7.0 < high


@pytest.mark.slow
def test_of_very_many_the_best_have_a_row() -> None:
    figure = draw(make_table([make_run(f"l2 λ={i}", val=7 + i / 100) for i in range(1, 71)]))
    assert len(panels(figure)["rows"].get_yticklabels()) == 60
    assert panels(figure)["rows"].get_title(loc="left").endswith("the best 60 of 70")
    assert len(points(panels(figure)["plane"])) == 70


def test_nothing_finished_is_said() -> None:
    figure = draw(make_table([make_run(failure="x")]))
    assert [text.get_text() for text in figure.texts] == ["No run finished (of 1)."]
    assert figure.axes == []


@pytest.mark.slow
def test_the_same_runs_give_the_same_file(tmp_path: Path) -> None:
    digests = set()
    for name in ("one.png", "two.png"):
        save(draw(make_sweep().head(6)), tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
