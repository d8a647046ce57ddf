from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bikefit.comparison.charts import ROLES
from bikefit.comparison.path_charts import (
    Series,
    find_series,
    more_data,
    overview_chart,
    path_chart,
    path_sentence,
)
from bikefit.comparison.ranking import rank
from bikefit.comparison.verdicts import verdicts, with_verdicts
from made_runs import make_run, make_table

# λ: mean train and validation loss; the best is in the middle.
LAMBDA = {0.0: (1.0, 6.0), 1e-3: (2.0, 5.0), 1e-2: (3.0, 4.0), 1e-1: (4.5, 5.0), 1.0: (8.0, 8.5)}


def along(key: str, losses: dict[Any, tuple[float, float]], seeds: int = 3) -> Any:
    """Runs that differ in a setting; a seed adds its number in hundredths to every loss."""
    rows = [
        make_run(seed=s, train=train + s / 100, val=val + s / 100, **{key: value})
        for value, (train, val) in losses.items()
        for s in range(seeds)
    ]
    return pd.DataFrame(rows).assign(run_id=lambda table: key + table.index.astype(str))


def lines(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    """The data of every line that has a name and points."""
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))
        for line in figure.axes[0].lines
        if not str(line.get_label()).startswith("_") and len(line.get_xdata())
    }


def regions(axes: Axes) -> dict[str, tuple[float, float]]:
    """The shaded spans by the colour of what they mean."""
    roles = {role: shade for role, shade in ROLES.items() if role != "winner"}
    found = {}
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        role = next(r for r, s in roles.items() if patch.get_facecolor()[:3] == rgb(s))
        found[role] = (patch.get_x(), patch.get_x() + patch.get_width())
    return found


def rgb(shade: str) -> tuple[float, ...]:
    return tuple(int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5))


def series_of(runs: pd.DataFrame | list[dict[str, Any]]) -> list[Series]:
    table = make_table(runs)
    return find_series(table.assign(verdict=verdicts(table)["verdict"]))


def only(runs: pd.DataFrame) -> Series:
    (series,) = series_of(runs)
    return series


def test_the_path_of_a_strength_is_drawn() -> None:
    series = only(along("regularization.l2", LAMBDA))
    path = series.path
    assert (path.key, path.label, path.direction) == ("regularization.l2", "l2 λ", -1)
    figure = path_chart(series)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["0", "0.001", "0.01", "0.1", "1"]
    x, validation = lines(figure)["validation"]
    assert x == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])  # 0 is a step below the rest
    assert validation == pytest.approx([6.01, 5.01, 4.01, 5.01, 8.51])
    assert lines(figure)["train"][1] == pytest.approx([1.01, 2.01, 3.01, 4.51, 8.01])
    assert axes.get_title(loc="left") == "l2 λ: validation loss is lowest at 0.01"
    assert axes.get_ylabel() == "loss (half Poisson deviance, bikes/hour)"
    # small strengths overfit and large ones underfit
    found = regions(axes)
    assert found["overfitting"][1] == pytest.approx(10**-2.5)
    assert found["underfitting"][0] == pytest.approx(10**-1.5)


def test_depths_and_dropout_have_a_linear_axis() -> None:
    losses = {"[8]": (3.0, 4.0), "[8,8]": (2.0, 3.0), "[8,8,8]": (1.0, 5.0), "[8,4]": (2.0, 9.0)}
    series = only(along("network.hidden", losses))
    assert series.path.key == "network.depth"
    assert series.table["value"].tolist() == [1, 2, 3]
    assert path_chart(series).axes[0].get_xscale() == "linear"
    rates = {0.1: (2, 5.0), 0.3: (3, 4.0), 0.9: (8, 8.5)}
    axes = path_chart(only(along("regularization.layers.hidden1.dropout", rates))).axes[0]
    assert axes.get_xscale() == "linear"
    assert axes.xaxis_inverted()  # flexibility grows to the right


def test_small_widths_underfit_and_large_ones_overfit() -> None:
    losses = {"[4]": (5.0, 5.1), "[16]": (3.0, 3.5), "[64]": (2.0, 4.5)}
    series = only(along("network.hidden", losses))
    assert (series.path.key, series.path.direction) == ("network.width", 1)
    figure = path_chart(series)
    found = regions(figure.axes[0])
    assert found["underfitting"][1] == pytest.approx(8)
    assert found["overfitting"][0] == pytest.approx(32)
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_xlabel() == "width (units per layer)"


def test_a_path_is_shaded_by_verdicts() -> None:
    losses = {0.0: (0.7, 4.7), 0.3: (1.4, 3.58), 0.5: (1.9, 3.4), 0.6: (2.3, 3.42), 0.7: (2.9, 3.8)}
    path = along("regularization.dropout", losses)
    path["method"] = [f"dropout p={p:g}" for p in path["regularization.dropout"]]
    uncertain = path["regularization.dropout"] == 0.3
    path.loc[uncertain, "best/val/loss"] = [3.4, 3.6, 3.76]
    best = along("regularization.l2", {0.1: (2.5, 3.0)}).assign(method="l2 λ=0.1")
    runs = pd.concat([path, best], ignore_index=True)
    table = make_table(runs)
    given = with_verdicts(rank(table), verdicts(table)).set_index("configuration")["verdict"]
    assert given.filter(like="p=0.3").tolist() == ["overfitting"]
    assert "overfitting" not in given.filter(like="p=0.5").tolist()
    regions = [only(part).table["region"].tolist() for part in (runs, path)]
    assert regions[0] == ["overfitting", "overfitting", "", "", "underfitting"]
    # Without the other method, 0.7 is at most 12 % above the best.
    assert regions[1] == ["overfitting", "", "", "", ""]


@pytest.mark.slow
def test_a_minimum_at_the_end_of_a_path_advises_further_values() -> None:
    series = only(along("regularization.l2", {k: LAMBDA[k] for k in (0.0, 1e-3, 1e-2)}))
    assert path_sentence(series) == (
        "Lowest: 4.010 ± 0.010 at 0.01; this is the largest value tried: try further values."
    )
    assert list(regions(path_chart(series).axes[0])) == ["overfitting"]


def test_a_grid_has_two_series_of_a_setting_for_the_best_settings_of_the_others() -> None:
    parts = []
    for p, shift in ((0.0, 1.0), (0.2, 0.0), (0.4, 2.0)):
        part = along("regularization.l2", {k: (a, b + shift) for k, (a, b) in LAMBDA.items()})
        parts.append(part.assign(**{"regularization.dropout": p, "method": f"dropout p={p}"}))
    found = series_of(pd.concat(parts, ignore_index=True))
    assert [series.path.key for series in found].count("regularization.l2") == 2
    best = next(s for s in found if s.path.key == "regularization.l2")
    assert best.path.fixed == "dropout 0.2"
    assert len(best.table) == 5


def test_two_values_make_no_series() -> None:
    runs = along("regularization.l2", {0.0: (1, 2), 0.1: (1, 2)})
    failed = make_run(failure="x", run_id="failed", **{"regularization.l2": 1.0})
    runs = pd.concat([runs, pd.DataFrame([failed])], ignore_index=True)
    assert series_of(runs) == []
    assert series_of([]) == []


@pytest.mark.parametrize(
    ("last", "answer"),
    [
        ([3.0, 3.0, 3.0], "Yes: from 500 to 1,000 rows the validation loss fell by 1.000"),
        ([2.9, 4.0, 4.6], "Not visibly: "),
        ([5.0, 5.0, 5.0], "Not by this sweep: "),
    ],
)
def test_more_data_is_answered_from_the_slope(last: list[float], answer: str) -> None:
    runs = along("data.fraction", dict.fromkeys((0.25, 0.5, 1.0), (5.0, 6.0)))
    runs["best/val/loss"] = [6.0] * 3 + [4.0] * 3 + last
    runs["tags.train_rows"] = (1000 * runs["data.fraction"]).map("{:.0f}".format)
    series = only(runs)
    assert more_data(series).startswith(answer)
    figure = path_chart(series)
    assert lines(figure)["validation"][0] == [250, 500, 1000]
    assert figure.axes[0].get_xlabel() == "training rows"
    word = answer.split(":", maxsplit=1)[0]
    assert figure.axes[0].get_title(loc="left") == f"Would more data help? {word}"


def test_more_data_with_one_seed_is_unknown() -> None:
    runs = pd.DataFrame([make_run(val=5.0, **{"data.fraction": 0.5}), make_run(val=4.0)])
    assert more_data(only(runs)).startswith("Unknown: from 50% of the to 100% of the rows")


def test_a_path_has_the_configurations_of_the_whole_sweep() -> None:
    """Without the runs of other epochs, "none" at 40 would have no epochs in its name."""
    widths = {"[4,4]": (3.0, 7.0), "[8,8]": (1.0, 6.0), "[16,16]": (0.5, 6.9)}
    epochs = {10: (1.0, 6.7), 80: (1.0, 6.3), 160: (1.0, 6.6)}
    longer = along("training.epochs", epochs, 2).assign(**{"network.hidden": "[8,8]"})
    runs = pd.concat([along("network.hidden", widths, 2), longer], ignore_index=True)
    found = {one.path.last: one.table for one in series_of(runs)}
    assert found["width"]["val_loss"].tolist() == pytest.approx([7.005, 6.005, 6.905])
    assert found["epochs"]["value"].tolist() == [10, 40, 80, 160]
    assert found["epochs"]["val_loss"].tolist() == pytest.approx([6.705, 6.005, 6.305, 6.605])
    assert found["width"]["region"].tolist() == ["underfitting", "", "overfitting"]


def test_the_overview_shows_the_longest_path_of_a_setting() -> None:
    short = along("training.epochs", {10: (2.0, 5.0), 20: (1.0, 4.0), 40: (0.9, 4.5)})
    losses = {5: (4.0, 7.0), 10: (3.0, 6.0), 20: (2.0, 6.5), 80: (1.0, 9.0)}
    long = along("training.epochs", losses).assign(**{"network.hidden": "[8,8]"})
    runs = pd.concat([short, long], ignore_index=True)
    runs["run_id"] = runs.index.astype(str)
    figure = overview_chart(series_of(runs))
    (drawn,) = [axes for axes in figure.axes if axes.get_visible()]
    assert lines(figure)["validation"][0] == [5, 10, 20, 80]
    assert drawn.get_title(loc="left") == "epochs"
