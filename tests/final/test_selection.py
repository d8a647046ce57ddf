"""Greedy selection by hand, and what days that it has not seen say of it."""

from __future__ import annotations

import numpy as np
import pytest

from bikefit.final.selection import greedy, judge

DAYS = np.repeat(np.array(["2012-01-01", "2012-01-02", "2012-01-03", "2012-01-04"], "M8[D]"), 2)


def deviance(target: float, predicted: float) -> float:
    return 2 * (target * np.log(target / predicted) - target + predicted)


@pytest.mark.parametrize(("steps", "counts"), [(1, [1, 0]), (2, [1, 1]), (3, [2, 1])])
def test_a_network_is_taken_again_where_that_is_best(steps: int, counts: list[int]) -> None:
    # 3 is nearer to 5 than 9 is (deviance 1.1 against 2.1), (3 + 9) / 2 = 6 than 3 (0.2), and
    # (3 + 9 + 3) / 3 is 5 itself.
    predicted = np.array([[3.0, 3.0], [9.0, 9.0]])
    assert greedy(predicted, np.array([5.0, 5.0]), steps).tolist() == counts


def test_among_equals_the_first_is_taken() -> None:
    mirrored = np.array([[2.0, 6.0], [6.0, 2.0], [2.0, 6.0]])
    target = np.array([4.0, 4.0])
    assert greedy(mirrored, target, 1).tolist() == [1, 0, 0]
    assert greedy(mirrored, target, 2).tolist() == [1, 1, 0]  # their mean is right
    assert greedy(mirrored, target, 3).tolist() == [2, 1, 0]


def test_what_is_alone_better_may_be_left_for_what_is_together_better() -> None:
    predicted = np.array([[5.0, 5.0], [1.5, 6.5], [6.5, 1.5]])
    target = np.array([4.0, 4.0])
    counts = greedy(predicted, target, 25)
    assert counts.sum() == 25
    assert (counts[1:] > counts[0]).all()


def test_the_lead_over_the_present_choice() -> None:
    target = np.full(8, 10.0)
    predicted = np.array([np.full(8, 12.0), np.full(8, 10.0)])
    found = judge(predicted, target, DAYS, present=np.array([1.0, 0.0]), steps=5)
    assert found.lead == pytest.approx(deviance(10, 12))
    assert found.error == pytest.approx(0)  # every day says the same
    assert found.mean.tolist() == target.tolist()


def test_luck_on_the_selecting_days_is_found_out() -> None:
    # Each of two networks is right on one of two days: the other day says how wrong it is.
    target = np.full(2, 10.0)
    days = np.array(["2012-01-01", "2012-01-02"], "M8[D]")
    predicted = np.array([[10.0, 20.0], [20.0, 10.0]])
    found = judge(predicted, target, days, present=np.ones(2), steps=1)
    assert found.mean.tolist() == [20, 20]
    assert found.lead == pytest.approx(deviance(10, 15) - deviance(10, 20))
    assert found.lead < 0


def test_the_error_knows_that_halves_share_days() -> None:
    draw = np.random.default_rng(0)
    target = draw.poisson(50, 8).astype(float)
    predicted = 50 * np.exp(0.2 * draw.standard_normal((6, 8)))
    found = judge(predicted, target, DAYS, present=np.ones(6), steps=3)
    again = judge(predicted, target, DAYS, present=np.ones(6), steps=3)
    assert (found.lead, found.error) == (again.lead, again.error)
    # 20 judgements, each as long as its selection: their variance times 1 / 20 + 1
    assert found.error > 0
