"""Rows of a table for a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bikefit.data.bikes.model_data import read_model_data
from bikefit.data.table import read_table
from bikefit.errors import DataError


def test_parts_are_those_of_the_table(workplace: Path) -> None:
    table = read_table(Path("data/features/full"))
    data = read_model_data(table)
    for name, rows in data.parts.items():
        assert rows["rentals"].tolist() == table.read(name).target.tolist()
    assert data.rows()["timestamp"].is_monotonic_increasing
    assert len(data.rows()) == 960


def test_rows_that_cannot_be_read_are_refused(workplace: Path) -> None:
    table = replace(read_table(Path("data/features/full")), path=workplace / "none")
    with pytest.raises(DataError, match="rows of table full cannot be read: run `dvc repro feat"):
        read_model_data(table)
