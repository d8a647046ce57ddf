"""Each branch of the verdict rule on made-up runs, with the reason that users read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bikefit.comparison.paths import SettingPath
from bikefit.comparison.ranking import rank
from bikefit.comparison.sentences import verdict_sentence
from bikefit.comparison.tables import ranking_note
from bikefit.comparison.verdicts import (
    ANOTHER_METHOD,
    MORE_SEEDS,
    NEXT,
    TRAIN_ON,
    WIDEN,
    ThresholdError,
    Thresholds,
    count_verdicts,
    judge,
    read_thresholds,
    verdicts,
    with_verdicts,
)
from conftest import ROOT
from made_runs import make_ranking, make_run, make_table

Runs = list[dict[str, Any]]


def seeds(train: float, val: float, method: str = "none", **more: Any) -> Runs:
    """Return three runs that differ in their seed, with losses 1 % apart."""
    factors = enumerate((0.99, 1.0, 1.01))
    return [make_run(method, seed=s, train=train * f, val=val * f, **more) for s, f in factors]


# The picture of the lecture: a linear model, a large network, and the same network with dropout.
LINEAR, LARGE = seeds(41.2, 42.0, hidden="[]"), seeds(1.1, 25.0)
DROPOUT = seeds(9.0, 17.9, "dropout p=0.3")
LECTURE = LINEAR + LARGE + DROPOUT
PICTURE = ["underfitting"] * 3 + ["overfitting"] * 3 + ["good fit"] * 3


def verdict_of(runs: Runs, start: str, **thresholds: float) -> str:
    """Return "verdict: reason; next step" of the configuration whose name starts so."""
    frame = make_table(runs)
    table = with_verdicts(rank(frame), verdicts(frame, Thresholds(**thresholds)))
    (row,) = table[table["configuration"].str.startswith(start)].to_dict("records")
    return f"{row['verdict']}: {row['reason']}; {row['next']}"


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (
            "none · linear",
            "underfitting: validation loss 42.00 is 24.10 (134.6%) above the best 17.90, "
            f"and train loss 41.20 is 32.20 above its 9.00; {NEXT['underfitting']}",
        ),
        (
            "none · mlp",
            "overfitting: validation loss 25.00 is 7.10 (39.7%) above the best 17.90, "
            f"but train loss 1.10 is 7.90 below its 9.00; {NEXT['overfitting']}",
        ),
        (
            "dropout",
            "good fit: validation loss 17.90 is the best; "
            "stop tuning; more data could narrow the gap of 8.90 to the train loss",
        ),
    ],
)
def test_the_picture_of_the_lecture(start: str, expected: str) -> None:
    assert verdict_of(LECTURE, start) == expected


def test_runs_have_the_verdict_of_their_configuration_in_the_order_of_the_runs() -> None:
    runs = make_table(LECTURE)
    runs.loc[runs["regularization"] == "none", "val_loss"] += [-4, 0, 4, -2, 0, 2]
    table = verdicts(runs)
    assert table["run_id"].tolist() == runs["run_id"].tolist()
    assert table["verdict"].tolist() == PICTURE
    counts = {"good fit": 3, "underfitting": 3, "overfitting": 3, "undecided": 0}
    assert count_verdicts(table) == counts
    shuffled = verdicts(runs.sample(frac=1, random_state=0)).set_index("run_id")
    assert shuffled["verdict"].to_dict() == table.set_index("run_id")["verdict"].to_dict()


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (0.1, 20.0, "good fit: validation loss 20.00 is 2.10 (11.7%) above the best 17.90; stop"),
        (19.0, 18.0, "good fit: validation loss 18.00 is 0.10 (0.6%) above the best 17.90; stop t"),
        (9.9, 20.2, "overfitting: validation loss 20.20 is 2.30 (12.8%) above the best 17.90, but"),
        (10.2, 20.2, "underfitting: validation loss 20.20 is 2.30 (12.8%) above the best 17.90, a"),
    ],
)
def test_the_excess_lies_on_the_training_rows_or_not(
    train: float, val: float, expected: str
) -> None:
    assert verdict_of(DROPOUT + seeds(train, val), "none").startswith(expected)


def test_a_threshold_can_be_set() -> None:
    assert verdict_of(LECTURE, "none · mlp", close=0.4).startswith("good fit")


@pytest.mark.parametrize(("unfinished", "verdict"), [(0.02, "underfitting"), (0.2, "undecided")])
def test_training_that_was_not_finished_is_no_underfitting(unfinished: float, verdict: str) -> None:
    runs = [run | {"unfinished": unfinished} for run in LECTURE]
    found = verdict_of(runs, "none · linear")
    assert found.startswith(verdict)
    if verdict == "undecided":
        reason = "training was not finished: more epochs would lower the train loss by 20%"
        assert found.endswith(f"; {reason}; {TRAIN_ON}")
    assert verdict_of(runs, "none · mlp").startswith("overfitting")
    assert verdict_of(runs, "dropout").startswith("good fit")


def test_noise_that_hides_the_direction_leaves_it_undecided() -> None:
    factors = (0.5, 1.0, 1.5) * 3
    noisy = [
        run | {"best/val/loss": run["best/val/loss"] * factor}
        for run, factor in zip(LECTURE, factors, strict=True)
    ]
    found = verdict_of(noisy, "none · mlp")
    assert found.startswith("undecided: validation loss ")
    assert "; noise explains a difference of " in found
    assert found.endswith(f" in validation loss; {MORE_SEEDS}")


def test_noise_of_validation_days_does_not_hide_what_the_training_rows_show() -> None:
    """A converged linear model on counts with a known rate: few days carry the difference."""
    runs = seeds(1.09, 1.007, hidden="[]", days=(0.25, 0.25, 0.507))
    runs += seeds(0.47, 0.556, "l2 λ=1", days=(0.18, 0.19, 0.186))
    assert verdict_of(runs, "none").startswith("underfitting")
    for run in runs[:3]:
        run["best/train/loss"] = 0.4
    assert verdict_of(runs, "none").startswith("undecided")


def test_a_path_whose_lowest_loss_is_elsewhere_contradicts_the_direction() -> None:
    """The narrow network has a gap, but a narrower one is worse."""
    widths = {"[4]": (3.0, 6.0), "[8]": (1.0, 5.0), "[16]": (0.5, 5.5)}
    runs = [run for hidden, of in widths.items() for run in seeds(*of, hidden=hidden)]
    runs += seeds(2.0, 4.0, "dropout p=0.3")
    found = verdict_of(runs, "none · mlp 8")
    assert found.startswith("undecided: validation loss 5.000 is 1.000 (25.0%) above the best")
    assert found.endswith(
        f"; the lowest loss along width is at no less flexible configuration; {ANOTHER_METHOD}"
    )
    assert verdict_of(runs, "none · mlp 16").startswith("overfitting")
    assert verdict_of(runs, "none · mlp 4").startswith("underfitting")


def test_a_best_loss_of_0_has_no_percentage() -> None:
    found = verdict_of(seeds(0.0, 0.0) + seeds(0.2, 0.3, "l2 λ=1"), "l2")
    assert found.startswith(
        "underfitting: validation loss 0.300 is 0.300 above the best 0.000, and"
    )


def test_a_single_configuration_has_nothing_to_compare_with() -> None:
    assert verdict_of(LARGE, "none") == (
        f"undecided: validation loss 25.00 has no other configuration to compare with; {WIDEN}"
    )


def test_failed_runs_have_a_reason_and_no_verdict() -> None:
    reason = "training loss became nan in epoch 2"
    running = make_run("l1 λ=8", failure="x") | {"tags.failure": None, "status": "RUNNING"}
    runs = [*LECTURE[1:], make_run("l1 λ=9", failure=reason), running]
    runs.append(make_run(hidden="[]", seed=0, failure="x"))
    table = verdicts(make_table(runs))
    assert table[["verdict", "next"]].isna().sum().tolist() == [3, 3]
    assert table["reason"].tolist()[-3:] == [reason, "without a result (status RUNNING)", "x"]
    assert verdict_of(runs, "l1 λ=9").startswith(f"None: {reason}")
    # A configuration with a failed seed is judged by its other seeds.
    assert verdict_of(runs, "none · linear").startswith("underfitting")


def test_only_failures() -> None:
    runs = make_table([make_run(failure="x")])
    assert verdicts(runs)["verdict"].tolist() == [None]
    assert verdicts(runs)["reason"].tolist() == ["x"]
    assert verdict_sentence(with_verdicts(rank(runs), verdicts(runs))) == ""
    empty = make_table([])
    assert with_verdicts(rank(empty), verdicts(empty)).empty


def test_different_losses_are_judged_by_deviance() -> None:
    mse = {"loss": "mse", "best/train/deviance": 80.0, "best/val/deviance": 85.0}
    runs = LECTURE + seeds(0.3, 0.4, "l2 λ=0.1", **mse)
    assert verdict_of(runs, "dropout").startswith("good fit")
    assert verdict_of(runs, "l2").startswith("underfitting")


def test_runs_on_other_rows_are_judged_apart() -> None:
    other = [run | {"data.fraction": 0.1} for run in LECTURE]
    for run in other:
        for key in ("best/train/loss", "best/val/loss"):
            run[key] *= 0.01
    assert verdicts(make_table(LECTURE + other))["verdict"].tolist() == PICTURE * 2


def test_a_plain_table_of_any_experiment_can_be_judged() -> None:
    depths = {"depth 1": (9.0, 9.5), "depth 3": (3.0, 5.0), "depth 9": (0.5, 7.0)}
    rows = [
        {"configuration_id": name, "seed": seed, "train_loss": train, "val_loss": val + seed / 100}
        for name, (train, val) in depths.items()
        for seed in range(2)
    ]
    paths = [SettingPath("depth", (1, 3, 9), tuple(depths), direction=1)]
    table = judge(pd.DataFrame(rows), paths)
    assert table["verdict"].to_dict() == {
        "depth 1": "underfitting",
        "depth 3": "good fit",
        "depth 9": "overfitting",
    }
    assert list(table) == ["verdict", "reason", "next"]


def test_the_note_counts_verdicts_and_shows_them() -> None:
    note = ranking_note(make_ranking(make_table(LECTURE)))
    assert "Verdicts on configurations: 1 good fit, 1 overfitting, 1 underfitting." in note
    assert "On the best: good fit, because validation loss 17.90 is the best" in note
    assert "| 3 | none · linear | 3 | 41.20 | 42.00 ± 0.42 | 0.80 | 420.0 | underfitting |" in note


def test_the_defaults_hold_without_a_file_and_are_those_of_conf(tmp_path: Path) -> None:
    for file in (ROOT / "conf/verdicts.yaml", tmp_path / "absent.yaml"):
        assert read_thresholds(file) == Thresholds()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("close: 2", "close = 2: input should be less than 1"),
        ("closer: 0.1", "unknown key closer; allowed: close, unfinished"),
        ("a: [", "is not valid YAML"),
        ("- 1", "input should be a valid dictionary"),
    ],
)
def test_wrong_thresholds_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "verdicts.yaml"
    file.write_text(text)
    with pytest.raises(ThresholdError) as error:
        read_thresholds(file)
    assert message in str(error.value) and str(file) in str(error.value)
