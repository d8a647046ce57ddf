import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikefit.data.splits import PARTS, folds, split
from bikefit.errors import DataError

KINDS = ("random", "days", "chronological")
HOURS = np.datetime64("2011-01-01T00", "us") + np.arange(24 * 30) * np.timedelta64(1, "h")
DAYS = HOURS.astype("datetime64[D]")


def counts(labels: np.ndarray) -> dict[str, int]:
    return {part: int((labels == part).sum()) for part in PARTS}


@pytest.mark.parametrize("kind", KINDS)
def test_sizes(kind: str) -> None:
    labels = split(HOURS, kind, 0, 0.2, 0.1)
    assert counts(labels) == {"train": 504, "validation": 144, "test": 72}
    assert counts(split(HOURS, kind, 0, 0.0, 0.0)) == {"train": 720, "validation": 0, "test": 0}


def test_days_stay_on_one_side() -> None:
    labels = split(HOURS, "days", 1, 0.2, 0.2)
    for day in np.unique(DAYS):
        assert len(set(labels[day == DAYS])) == 1
    assert len(set(split(HOURS, "random", 1, 0.2, 0.2)[DAYS[0] == DAYS])) > 1


def test_chronological_puts_the_test_last() -> None:
    labels = split(HOURS, "chronological", 5, 0.25, 0.25)
    assert list(labels) == ["train"] * 360 + ["validation"] * 180 + ["test"] * 180


@pytest.mark.parametrize("kind", KINDS)
def test_seeds(kind: str) -> None:
    first, again, other = (split(HOURS, kind, seed, 0.2, 0.2) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first == other).all() == (kind == "chronological")


@pytest.mark.parametrize("kind", KINDS)
def test_the_test_rows_do_not_depend_on_the_validation_fraction(kind: str) -> None:
    some, more = (split(HOURS, kind, 3, fraction, 0.2) for fraction in (0.1, 0.4))
    assert ((some == "test") == (more == "test")).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_does_not_matter(kind: str) -> None:
    order = np.random.default_rng(0).permutation(len(HOURS))
    assert (split(HOURS[order], kind, 2, 0.2, 0.2) == split(HOURS, kind, 2, 0.2, 0.2)[order]).all()
    for (_, straight), (_, mixed) in zip(
        folds(HOURS, kind, 4, 1), folds(HOURS[order], kind, 4, 1), strict=True
    ):
        assert set(HOURS[straight]) == set(HOURS[order][mixed])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 120),
    step=st.integers(1, 30),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    validation=st.floats(0, 1, exclude_max=True),
    test=st.floats(0, 1, exclude_max=True),
)
def test_parts_are_right_or_refused(
    rows: int, step: int, kind: str, seed: int, validation: float, test: float
) -> None:
    times = HOURS[0] + np.arange(rows) * np.timedelta64(step, "h")
    try:
        labels = split(times, kind, seed, validation, test)
    except DataError:
        return
    found = counts(labels)
    units = len(np.unique(times.astype("datetime64[D]"))) if kind == "days" else rows
    assert sum(found.values()) == rows
    assert found["train"] > 0
    assert (found["validation"] == 0) == (validation == 0)
    assert (found["test"] == 0) == (test == 0)
    if kind != "days":
        assert found["test"] == round(test * units)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 120),
    kind=st.sampled_from(KINDS),
    n=st.integers(2, 6),
    seed=st.integers(0, 9),
)
def test_folds_partition_the_rows(rows: int, kind: str, n: int, seed: int) -> None:
    times = HOURS[0] + np.arange(rows) * np.timedelta64(5, "h")
    days = times.astype("datetime64[D]")
    if n > (len(np.unique(days)) if kind == "days" else rows):
        with pytest.raises(DataError, match=f"folds = {n}: must be from 2 to"):
            folds(times, kind, n, seed)
        return
    pairs = folds(times, kind, n, seed)
    assert len(pairs) == n
    assert sorted(np.concatenate([held_out for _, held_out in pairs])) == list(range(rows))
    for train, held_out in pairs:
        assert sorted([*train, *held_out]) == list(range(rows))
        assert len(train) > 0
        if kind == "days":
            assert not set(days[train]) & set(days[held_out])
        if kind == "chronological":
            assert list(held_out) == list(range(held_out[0], held_out[-1] + 1))


def test_folds_by_hand() -> None:
    cut = folds(HOURS[:6], "chronological", 3, 0)
    assert [list(held_out) for _, held_out in cut] == [[0, 1], [2, 3], [4, 5]]
    assert list(cut[1][0]) == [0, 1, 4, 5]
    assert [len(held_out) for _, held_out in folds(HOURS, "days", 5, 0)] == [144] * 5
    one, same, other = (folds(HOURS, "random", 5, seed)[0][1] for seed in (0, 0, 1))
    assert (one == same).all()
    assert not (one == other).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dayz", 0, 0.2, 0.2), "split.kind = 'dayz': must be one of random, days, chronological"),
        (("random", 0, 1.0, 0.0), "split.validation = 1.0: must be at least 0 and below 1"),
        (("random", 0, 0.2, -0.1), "split.test = -0.1: must be at least 0 and below 1"),
        (("random", 0, 0.6, 0.5), "leaves none for training"),
        (("days", 0, 0.5, 0.49), "leaves none for training"),
        (("days", 0, 0.001, 0.0), "split.validation = 0.001: gives none of the 30 days"),
        (("random", 0, float("nan"), 0.0), "split.validation = nan"),
    ],
)
def test_impossible_splits_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(DataError) as error:
        split(HOURS, *arguments)
    assert message in str(error.value)


def test_impossible_folds_are_refused() -> None:
    with pytest.raises(DataError, match="folds = 31: must be from 2 to 30, the number of days"):
        folds(HOURS, "days", 31, 0)
    with pytest.raises(DataError, match="folds = 1: must be from 2 to 720, the number of rows"):
        folds(HOURS, "random", 1, 0)
