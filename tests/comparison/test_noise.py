from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bikefit.comparison.noise import (
    KNOWN,
    Difference,
    LossEstimate,
    difference,
    estimate_losses,
    moderated,
)


def sample(loss: float, variance: float = 0.0, df: float = KNOWN, **more: Any) -> LossEstimate:
    days, folds = (np.array(more.get(name, ())) for name in ("days", "folds"))
    fold_error, rows = (more.get(name, math.nan) for name in ("fold_error", "rows"))
    return LossEstimate(loss, variance, df, days, folds, fold_error, rows)


def made(losses: dict[str, Sequence[float]], **more: Any) -> pd.DataFrame:
    """Runs of configurations, a loss a seed."""
    unknown = {"days": (), "fold_losses": (), "val_loss_se": math.nan, "val_rows": math.nan}
    rows = [
        {"configuration_id": name, "seed": seed, "val_loss": loss} | unknown | more
        for name, values in losses.items()
        for seed, loss in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_fewer_than_four_variances_are_pooled_by_their_degrees_of_freedom() -> None:
    # (1·2 + 4·1 + 10·2) / (2 + 1 + 2)
    variances, df = moderated(np.array([1.0, 4.0, 10.0]), np.array([2, 1, 2]))
    assert variances == pytest.approx([5.2] * 3)
    assert df.tolist() == [5, 5, 5]


def test_variances_that_scatter_as_chance_makes_them_are_one() -> None:
    # With 2 degrees of freedom digamma(1) is minus Euler's constant γ: E log s² = log σ² - γ.
    variances, df = moderated(np.full(5, 3.0), np.full(5, 2))
    assert variances == pytest.approx([3.0 * math.exp(np.euler_gamma)] * 5)
    assert df.tolist() == [KNOWN] * 5


def test_moderated_variances_by_hand() -> None:
    # d = 2, so that trigamma(1) = π²/6. Logarithms 0, 0, h, h have the variance h²/3; h is chosen
    # so that the excess over π²/6 is trigamma(2) = π²/6 - 1: the prior has 4 degrees of freedom.
    h = math.sqrt(3 * (math.pi**2 / 3 - 1))
    found, df = moderated(np.array([1.0, 1.0, math.exp(h), math.exp(h)]), np.full(4, 2))
    assert df == pytest.approx([6.0] * 4)
    # mean of e is h/2 + γ; digamma(2) = 1 - γ and log(2) make log s0² = h/2 + 1 - log 2
    prior = math.exp(h / 2 + 1) / 2
    assert found == pytest.approx(
        [(4 * prior + 2) / 6] * 2 + [(4 * prior + 2 * math.exp(h)) / 6] * 2
    )


def test_a_shrunken_variance_has_the_degrees_of_freedom_that_it_states() -> None:
    """A mean over the root of its moderated variance follows Student's t with those."""
    random = np.random.default_rng(0)
    prior_df, d, count = 6.0, 2, 40_000
    true = 2.0 * prior_df / random.chisquare(prior_df, count)  # scale 2
    s2 = true * random.chisquare(d, count) / d
    found, df = moderated(s2, np.full(count, d))
    assert df[0] == pytest.approx(prior_df + d, rel=0.06)
    assert found == pytest.approx((prior_df * 2.0 + d * s2) / (prior_df + d), rel=0.04)
    ratio = random.normal(0, np.sqrt(true)) / np.sqrt(found)
    for confidence in (0.8, 0.95, 0.99):
        beyond = np.mean(np.abs(ratio) > stats.t.ppf((1 + confidence) / 2, df[0]))
        assert beyond == pytest.approx(1 - confidence, abs=4 * math.sqrt((1 - confidence) / count))


def test_variances_of_nothing() -> None:
    for count in (1, 3, 8):
        found, df = moderated(np.zeros(count), np.full(count, 2))
        assert (found > 0).all() and (found < 1e-11).all()
        assert np.isfinite(df).all()
    found, df = moderated(np.empty(0), np.empty(0))
    assert (len(found), len(df)) == (0, 0)
    mixed, _ = moderated(np.array([0.0, 1.0, 1.1, 0.9, 1.2]), np.full(5, 2))
    assert (mixed > 0).all()


def test_days_are_paired_by_hand() -> None:
    one = sample(6.0, days=[1.0, 2.0, 3.0])
    other = sample(4.0, days=[0.5, 1.0, 2.5])
    found = difference(one, other)
    # Differences 0.5, 1, 0.5: variance 1/12, and a sum of three days has three times it.
    assert (found.value, found.df) == (2.0, pytest.approx(2))
    assert found.error == pytest.approx(math.sqrt(3 / 12))
    same = difference(one, sample(5.0, days=[0.9, 1.9, 2.9]))
    assert same.error == pytest.approx(0.0, abs=1e-9)  # what all days share is no noise


def test_folds_are_paired_and_corrected_by_hand() -> None:
    one = sample(5.0, folds=[4.0, 5.0, 6.0], fold_error=9.0)
    found = difference(one, sample(3.0, folds=[3.0, 3.0, 3.0], fold_error=9.0))
    # Differences 1, 2, 3 with the variance 1; Nadeau and Bengio: 1/3 plus test over train, 1/2.
    assert found.error == pytest.approx(math.sqrt(1 / 3 + 1 / 2))
    assert (found.value, found.df) == (2.0, pytest.approx(2))
    # folds take precedence over days
    one = sample(5.0, days=[1, 4], folds=[4, 6])
    found = difference(one, sample(3.0, days=[2, 1], folds=[3, 3]))
    assert found.error == pytest.approx(math.sqrt(2 * (1 / 2 + 1)))
    # errors of unknown folds are added
    found = difference(sample(5.0, fold_error=0.3), sample(4.0, fold_error=0.4))
    assert found.error == pytest.approx(0.5)


def test_degrees_of_freedom_of_a_sum_by_hand() -> None:
    found = difference(sample(5.0, 0.04, 2), sample(4.0, 0.09, 4))
    assert found.error == pytest.approx(math.sqrt(0.13))
    # Welch and Satterthwaite: 0.13² / (0.04²/2 + 0.09²/4) = 0.0169 / 0.002825
    assert found.df == pytest.approx(0.0169 / 0.002825)
    days = difference(sample(6.0, 0.25, 4, days=[1, 2, 3]), sample(4.0, 0.5, 8, days=[0.5, 1, 2.5]))
    # seeds 0.25 with 4 and 0.5 with 8, days 0.25 with 2: 1 / (1/64 + 1/32 + 1/32)
    assert (days.error, days.df) == (pytest.approx(1.0), pytest.approx(12.8))


def test_rows_tell_the_noise_where_days_are_not_known() -> None:
    found = difference(sample(6.0, rows=100), sample(5.0, rows=100), level=4.0)
    assert found.error == pytest.approx(math.sqrt(4 * 4.0 * 1.0 / 100))
    assert found.df == pytest.approx(99)
    assert difference(sample(6.0, rows=100), sample(5.0, rows=100), level=-1.0).error == 0


def test_independent_rows_have_the_noise_of_the_formula() -> None:
    """Squared error of a known function with normal noise and of one that is off."""
    random = np.random.default_rng(1)
    noise = random.normal(0, 1.5, (20_000, 50))
    off = random.choice([-0.8, 0.8], 50)  # excess of 0.64
    leads = ((noise - off) ** 2).mean(axis=1) - (noise**2).mean(axis=1)
    found = difference(sample(2.25 + 0.64, rows=50), sample(2.25, rows=50), level=2.25)
    assert leads.std() == pytest.approx(found.error, rel=0.02)


def test_facts_without_rows_have_no_noise() -> None:
    found = difference(sample(5.0), sample(4.0))
    assert (found.error, found.limit()) == (0.0, 0.0)
    assert found.is_significant()
    assert not difference(sample(4.0), sample(4.0)).is_significant()


@pytest.mark.parametrize("df", [1.0, 2.5, 30.0])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_limit_is_students(df: float, confidence: float) -> None:
    found = Difference(1.0, 0.4, df)
    low, high = stats.t.interval(confidence, df, scale=0.4)
    assert found.limit(confidence) == pytest.approx(high) == pytest.approx(-low)
    assert Difference(high * 1.001, 0.4, df).is_significant(confidence)
    assert not Difference(high * 0.999, 0.4, df).is_significant(confidence)
    assert math.isnan(Difference(1.0, math.nan, df).limit())
    assert not Difference(1.0, math.nan, df).is_significant()


def test_two_configurations_pool_their_relative_scatter_by_hand() -> None:
    known, facts = estimate_losses(made({"a": [9.0, 10.0, 11.0], "b": [20.0, 20.0, 20.0]}))
    # Relative deviations ±0.1 have the variance 0.01, pooled with 0 0.005, with 4 degrees.
    assert known["a"].variance == pytest.approx(0.005 * 100 / 3, rel=1e-5)
    assert known["b"].variance == pytest.approx(0.005 * 400 / 3, rel=1e-5)
    assert (known["a"].loss, known["a"].df, known["b"].df) == (10.0, 4.0, 4.0)
    assert [fact.loss for fact in facts] == [9, 10, 11, 20, 20, 20]


def test_runs_are_facts() -> None:
    _, facts = estimate_losses(made({"a": [9.0, 11.0]}, days=(4.0, 5.0), val_rows=48.0))
    assert [(f.variance, f.df, f.rows) for f in facts] == [(0.0, KNOWN, 48.0)] * 2
    assert facts[1].days.tolist() == [4.0, 5.0]


def test_what_a_seed_does_to_all_is_no_difference() -> None:
    sizes = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    shared = {name: [size * f for f in (0.9, 1.0, 1.1)] for name, size in sizes.items()}
    known, _ = estimate_losses(made(shared))
    assert all(found.variance < 1e-10 for found in known.values())
    few, _ = estimate_losses(made({name: shared[name] for name in "abc"}))  # too few to tell it
    assert few["b"].variance == pytest.approx(0.01 * 4 / 3)


def test_one_seed_does_not_show_the_scatter() -> None:
    runs = made({"a": [5.0], "b": [4.0]})
    known, _ = estimate_losses(runs)
    assert math.isnan(known["a"].variance)
    assert math.isnan(difference(known["a"], known["b"]).error)
    assumed, _ = estimate_losses(runs, assumed=0.05)
    assert assumed["a"].variance == pytest.approx((0.05 * 5.0) ** 2)
    # a configuration with one seed takes the variance of the others
    known, _ = estimate_losses(made({"a": [9.0, 10.0, 11.0], "b": [20.0]}))
    assert known["b"].variance == pytest.approx(0.01 * 400)
    assert known["b"].df == 2


def test_days_are_means_over_seeds_and_unknown_where_one_misses_them() -> None:
    runs = made({"a": [3.0, 5.0], "b": [3.0, 5.0], "c": [3.0, 5.0]})
    runs["days"] = [(1.0, 2.0), (3.0, 2.0), (1.0, 2.0), (), (1.0,), (2.0,)]
    known, _ = estimate_losses(runs)
    assert known["a"].days.tolist() == [2.0, 2.0]
    assert known["b"].days.tolist() == []
    assert known["c"].days.tolist() == [1.5]


def test_a_seed_that_occurs_twice_counts_once() -> None:
    runs = made({"a": [9.0, 10.0, 11.0], "b": [20.0, 20.0, 20.0]})
    once, _ = estimate_losses(runs)
    twice, _ = estimate_losses(pd.concat([runs, runs], ignore_index=True))
    assert twice["a"].variance == pytest.approx(once["a"].variance)
    assert (twice["a"].loss, twice["a"].df) == (once["a"].loss, once["a"].df)
