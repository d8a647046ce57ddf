from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2
from scipy.stats import t as student

from bikefit.comparison.noise import differences


def made(losses: dict[str, Sequence[float]], **more: dict[str, Any]) -> pd.DataFrame:
    """Return runs with one loss per seed; `more` has columns by configuration."""
    rows = [
        {"configuration_id": name, "seed": seed, "loss": loss}
        | {key: values[name] for key, values in more.items()}
        for name, values in losses.items()
        for seed, loss in enumerate(values)
    ]
    return pd.DataFrame(rows)


def of_b(runs: pd.DataFrame) -> pd.Series:
    """Return how "b" differs from "a"."""
    return differences(runs, "loss", "a").loc["b"]


def test_variances_of_few_seeds_are_moderated_by_hand() -> None:
    runs = made({"a": [9.0, 10.0, 11.0], "b": [20.0] * 3, "c": [27.0, 30.0, 33.0]})
    table = differences(runs, "loss", "a")
    # Relative variances 0.01, 0 and 0.01; the median of χ² with 2 degrees of freedom is 2 log 2.
    typical = 0.01 / math.log(2)
    a, b, c = (0.01 + typical) / 2, typical / 2, (0.01 + typical) / 2
    assert table["difference"].tolist() == [0.0, 10.0, 20.0]
    expected = [0, math.sqrt((a * 100 + b * 400) / 3), math.sqrt((a * 100 + c * 900) / 3)]
    assert table["difference_se"].tolist() == pytest.approx(expected)
    # Three variances with 2 degrees of freedom each.
    limits = [error * student.ppf(0.975, 6) for error in expected]
    assert table["limit"].tolist() == pytest.approx(limits)
    assert table["within_noise"].tolist() == [pd.NA, False, False]


def test_moderated_variances_are_unbiased_for_normal_losses() -> None:
    random = np.random.default_rng(0)
    names = [f"c{i}" for i in range(4000)]
    losses = dict(zip(names, random.normal(100, 2, (4000, 3)).tolist(), strict=True))
    losses["c0"] = [100.0]  # its variance is the typical one
    table = differences(made(losses), "loss", "c0").drop("c0")
    assert (table["difference_se"] ** 2).mean() == pytest.approx(2**2 + 2**2 / 3, rel=0.05)


def test_one_seed_does_not_show_the_noise() -> None:
    found = of_b(made({"a": [4.0], "b": [5.0]}))
    assert found["difference"] == 1.0
    assert found[["difference_se", "limit", "within_noise"]].isna().all()
    # A configuration with one seed has the typical variance.
    found = of_b(made({"a": [9.0, 10.0, 11.0], "b": [20.0]}))
    typical = 0.01 / math.log(2)
    variance = (0.01 + typical) / 2 * 100 / 3 + typical * 400
    assert found["difference_se"] == pytest.approx(math.sqrt(variance))
    assert found["limit"] == pytest.approx(math.sqrt(variance) * student.ppf(0.975, 2))


def test_a_seed_that_occurs_twice_counts_once() -> None:
    runs = made({"a": [9.0, 10.0, 11.0], "b": [20.0, 21.0, 22.0]})
    assert of_b(pd.concat([runs, runs], ignore_index=True)).equals(of_b(runs))


def test_days_are_paired_by_hand() -> None:
    days = {"a": (0.5, 1.0, 2.5), "b": (1.0, 2.0, 3.0)}
    found = of_b(made({"a": [4.0] * 4, "b": [6.0] * 4}, days=days))
    # Differences 0.5, 1 and 0.5: variance 1/12, and a sum of three days has three times it.
    assert found["difference_se"] == pytest.approx(math.sqrt(3 / 12))
    assert found["limit"] == pytest.approx(math.sqrt(3 / 12) * student.ppf(0.975, 2))
    # A contribution that all days share is no noise.
    days["b"] = (0.9, 1.4, 2.9)
    same = of_b(made({"a": [4.0] * 4, "b": [5.2] * 4}, days=days))
    assert same["difference_se"] == pytest.approx(0, abs=1e-9)


def test_days_add_to_the_noise_of_seeds_and_unknown_days_add_nothing() -> None:
    losses = {"a": [9.0, 11.0], "b": [18.0, 22.0]}
    seeds = (0.02 + 0.02 / chi2.ppf(0.5, 1)) / 2 * (100 + 400) / 2
    known = of_b(made(losses, days={"a": (4.0, 6.0), "b": (8.0, 12.0)}))
    assert known["difference_se"] == pytest.approx(math.sqrt(seeds + 2 * 2.0))
    unknown = of_b(made(losses, days={"a": (4.0, 6.0), "b": ()}))
    assert unknown["difference_se"] == pytest.approx(math.sqrt(seeds))


def test_drawn_training_sets_are_paired_and_replace_the_seeds() -> None:
    runs = made(
        {"a": [3.0, 3.2], "b": [5.0, 5.4]},
        fold_losses={"a": (3.0, 3.0, 3.0), "b": (4.0, 5.0, 6.0)},
        days={"a": (1.0, 2.0), "b": (5.0, 0.0)},
    )
    found = of_b(runs.assign(repetition="training sets"))
    # Differences of the sets 1, 2 and 3; of the days 4 and -2, whose sum has the variance 2 · 18.
    assert found["difference_se"] == pytest.approx(math.sqrt(1 / 3 + 36))
    assert found["limit"] == pytest.approx(math.sqrt(1 / 3 + 36) * student.ppf(0.975, 1))


def test_folds_are_paired_corrected_and_replace_the_days() -> None:
    runs = made(
        {"a": [3.0], "b": [5.0]},
        fold_losses={"a": (3.0, 3.0, 3.0), "b": (4.0, 5.0, 6.0)},
        days={"a": (1.0, 2.0), "b": (5.0, 0.0)},
    )
    found = of_b(runs)
    # Differences 1, 2 and 3 with variance 1; Nadeau and Bengio: 1/3 plus test over train, 1/2.
    assert found["difference_se"] == pytest.approx(math.sqrt(1 / 3 + 1 / 2))
    assert found["limit"] == pytest.approx(math.sqrt(5 / 6) * student.ppf(0.975, 2))
    assert found["within_noise"]
