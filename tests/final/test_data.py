"""Rows of a table for a refit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bikefit.data.table import read_table
from bikefit.errors import DataError
from bikefit.final.data import read_data


def test_parts_are_those_of_the_table(workplace: Path) -> None:
    table = read_table(Path("data/features/full"))
    data = read_data(table.path)
    for name, rows in data.parts.items():
        assert rows["rentals"].tolist() == table.read(name).target.tolist()
    assert data.rows()["timestamp"].is_monotonic_increasing
    assert len(data.rows()) == 960


def test_rows_that_cannot_be_read_are_refused(workplace: Path) -> None:
    shutil.copytree("data/features/full", "full", ignore=shutil.ignore_patterns("rows"))
    with pytest.raises(DataError, match="rows of table full cannot be read: run `dvc repro feat"):
        read_data(Path("full"))
