"""Splits, folds and subsets of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikefit.data.splits import PARTS, Kind, folds, split, split_units, subset
from bikefit.errors import DataError

KINDS: tuple[Kind, ...] = ("random", "days", "chronological")
HOURS = np.datetime64("2011-01-01T00", "us") + np.arange(24 * 30) * np.timedelta64(1, "h")
DAYS = HOURS.astype("datetime64[D]")
UNITS = {
    "random": split_units(HOURS, "random"),
    "days": split_units(HOURS, "days"),
    "chronological": split_units(HOURS, "chronological"),
    "groups": np.arange(len(HOURS)) // 24 * 7 % 101,
}
ORDER = np.random.default_rng(0).permutation(len(HOURS))
each_kind = pytest.mark.parametrize("kind", [*KINDS, "groups"])


def counts(labels: np.ndarray) -> list[int]:
    return [int((labels == part).sum()) for part in PARTS]


@each_kind
def test_parts_have_their_sizes_and_depend_on_the_seed(kind: Kind) -> None:
    labels = split(UNITS[kind], kind, 0, 0.2, 0.1)
    assert counts(labels) == [504, 144, 72]
    assert counts(split(UNITS[kind], kind, 0, 0.0, 0.0)) == [720, 0, 0]
    assert (labels == split(UNITS[kind], kind, 0, 0.2, 0.1)).all()
    assert (labels == split(UNITS[kind], kind, 1, 0.2, 0.1)).all() == (kind == "chronological")
    assert (len({*zip(DAYS, labels, strict=True)}) == 30) == (kind != "random")
    if kind == "chronological":
        assert list(labels) == ["train"] * 504 + ["validation"] * 144 + ["test"] * 72


@each_kind
def test_the_test_rows_do_not_depend_on_the_validation_fraction(kind: Kind) -> None:
    some, more = (split(UNITS[kind], kind, 3, fraction, 0.2) for fraction in (0.1, 0.4))
    assert ((some == "test") == (more == "test")).all()


@each_kind
def test_the_order_of_rows_does_not_matter(kind: Kind) -> None:
    assert (
        split(UNITS[kind][ORDER], kind, 2, 0.2, 0.2) == split(UNITS[kind], kind, 2, 0.2, 0.2)[ORDER]
    ).all()
    straight, mixed = folds(UNITS[kind], kind, 4, 1), folds(UNITS[kind][ORDER], kind, 4, 1)
    for (_, some), (_, others) in zip(straight, mixed, strict=True):
        assert set(HOURS[some]) == set(HOURS[ORDER][others])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 120),
    step=st.integers(1, 30),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    validation=st.floats(0, 1, exclude_max=True),
    test=st.floats(0, 1, exclude_max=True),
)
def test_no_part_is_empty(
    rows: int, step: int, kind: Kind, seed: int, validation: float, test: float
) -> None:
    times = HOURS[0] + np.arange(rows) * np.timedelta64(step, "h")
    try:
        sizes = counts(split(split_units(times, kind), kind, seed, validation, test))
    except DataError:
        return
    assert sum(sizes) == rows
    assert sizes[0] > 0
    assert (sizes[1] == 0, sizes[2] == 0) == (validation == 0, test == 0)
    if kind != "days":
        assert sizes[2] == round(test * rows)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 120),
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 6),
    seed=st.integers(0, 9),
)
def test_folds_partition_the_rows(rows: int, kind: Kind, n: int, seed: int) -> None:
    times = HOURS[0] + np.arange(rows) * np.timedelta64(5, "h")
    days = times.astype("datetime64[D]")
    limit = len(np.unique(days)) if kind == "days" else rows
    if not 2 <= n <= limit:
        with pytest.raises(DataError, match=f"folds = {n}: must be from 2 to {limit}"):
            folds(split_units(times, kind), kind, n, seed)
        return
    pairs, others = (
        folds(split_units(times, kind), kind, n, seed),
        folds(split_units(times, kind), kind, n, seed),
    )
    np.testing.assert_equal(pairs, others)
    assert len(pairs) == n
    assert sorted(np.concatenate([held_out for _, held_out in pairs])) == list(range(rows))
    for train, held_out in pairs:
        assert sorted([*train, *held_out]) == list(range(rows))
        assert len(train) > 0
        if kind == "days":
            assert not set(days[train]) & set(days[held_out])
        if kind == "chronological":
            assert list(held_out) == list(range(held_out[0], held_out[-1] + 1))


@each_kind
def test_larger_subsets_contain_smaller_ones(kind: Kind) -> None:
    some, more = (subset(UNITS[kind], kind, fraction, 0) for fraction in (0.1, 0.4))
    assert (len(some), len(more)) == (72, 288)
    assert set(some) < set(more)
    assert (subset(UNITS[kind], kind, 1.0, 0) == np.arange(720)).all()
    assert (len(np.unique(DAYS[some])) == 3) == (kind != "random")
    if kind == "chronological":
        assert some[0] == 720 - 72


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("random", 0, 0.6, 0.5), "validation = 0.6: would be 432, must be between 0 and 360"),
        (("days", 0, 0.5, 0.49), "validation = 0.5: would be 15, must be between 0 and 15"),
        (("days", 0, 0.001, 0.0), "split.validation = 0.001: would be 0, must be between 0 and 30"),
    ],
)
def test_empty_parts_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(split_units(HOURS, arguments[0]), *arguments)
