from __future__ import annotations

import pandas as pd
import pytest

from bikefit.comparison.paths import SettingPath, find_paths, path_settings
from made_runs import make_run, make_table

MLP = "none · mlp "


def networks(losses: dict[str, float], seeds: int = 1) -> pd.DataFrame:
    """Return runs by hidden layers and validation loss, with their labels as ids."""
    runs = [make_run(hidden=h, val=v, seed=s) for h, v in losses.items() for s in range(seeds)]
    table = make_table(runs)
    return table.assign(configuration_id=table["configuration"])


def test_widths_are_found_and_ordered() -> None:
    (path,) = find_paths(networks({"[64]": 7.0, "[4]": 7.0, "[16]": 7.0}, seeds=2))
    names = (MLP + "4", MLP + "16", MLP + "64")
    assert path == SettingPath("network.width", (4.0, 16.0, 64.0), names, direction=1)
    assert (path.label, path.axis_label, path.direction) == ("width", "width (units per layer)", 1)


def test_widths_of_another_depth_are_another_path() -> None:
    hidden = {"[4]": 5.0, "[8]": 6.0, "[4,4]": 3.0, "[8,8]": 2.0, "[8,4]": 1.0}
    found = find_paths(networks(hidden))
    widths = [path for path in found if path.key == "network.width"]
    # the one that reaches the lowest loss comes first; layers of different widths have no path
    two, one = (MLP + "4×4", MLP + "8×8"), (MLP + "4", MLP + "8")
    assert [(path.configurations, path.fixed) for path in widths] == [
        (two, "depth 2"),
        (one, "depth 1"),
    ]
    depths = [(path.values, path.fixed) for path in found if path.key == "network.depth"]
    assert depths == [((1.0, 2.0), "width 8"), ((1.0, 2.0), "width 4")]


def test_strengths_and_what_is_fixed() -> None:
    grid = [
        {"regularization.l2": a, "regularization.dropout": p} for a in (0, 0.1) for p in (0, 0.5)
    ]
    losses = (5.0, 4.5, 5.1, 4.6)
    found = find_paths(
        make_table([make_run(str(one), val=v, **one) for one, v in zip(grid, losses, strict=True)])
    )
    assert [(path.label, path.fixed) for path in found] == [
        ("l2 λ", "dropout 0.5"),
        ("l2 λ", "dropout 0"),
        ("dropout p", "l2 0"),
        ("dropout p", "l2 0.1"),
    ]
    assert {path.direction for path in found} == {-1}


def test_a_key_of_one_layer_is_named_with_it() -> None:
    key = "regularization.layers.hidden1.dropout"
    rows = [make_run(f"hidden1 dropout p={p}", **{key: p}) for p in (0.1, 0.3)]
    (path,) = find_paths(make_table(rows))
    assert (path.key, path.last, path.label) == (key, "dropout", "hidden1 dropout p")
    assert path.direction == -1


def test_failed_runs_and_settings_that_change_together_make_no_path() -> None:
    rows = [make_run(**{"regularization.l2": x, "optimizer.lr": x}) for x in (0.1, 0.2)]
    assert find_paths(make_table(rows)) == []
    failed = make_run("l2 λ=1", failure="x", **{"regularization.l2": 1.0})
    assert find_paths(make_table([make_run(), failed])) == []
    assert find_paths(make_table([])) == []


def test_truths_are_no_numbers_and_a_linear_network_has_no_width() -> None:
    linear = make_run(hidden="[]", **{"regularization.proximal": True})
    mlp = make_run(hidden="[8,8]", **{"regularization.proximal": False})
    frame = path_settings(make_table([linear, mlp]))
    assert frame["regularization.proximal"].tolist() == ["True", "False"]
    assert frame["network.depth"].tolist() == [0, 2]
    assert frame["network.width"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("direction", "name", "sides"),
    [
        (1, "b", {-1: ["a"], 1: ["c"]}),
        (-1, "b", {1: ["a"], -1: ["c"]}),
        (-1, "a", {-1: ["b", "c"]}),
        (-1, "c", {1: ["a", "b"]}),
        (0, "b", {}),
    ],
)
def test_sides_follow_the_direction(direction: int, name: str, sides: dict[int, list[str]]) -> None:
    path = SettingPath("key", (1, 2, 3), ("a", "b", "c"), direction)
    assert path.alternatives(name) == sides


@pytest.mark.parametrize(("trains", "direction"), [((3.0, 1.0), 1), ((1.0, 2.0), -1)])
def test_the_train_loss_gives_an_unknown_setting_its_direction(
    trains: tuple[float, float], direction: int
) -> None:
    runs = [
        make_run(**{"optimizer.momentum": momentum}, train=train)
        for momentum, train in zip((0.1, 0.9), trains, strict=True)
    ]
    (path,) = find_paths(make_table(runs))
    assert path.direction == direction
