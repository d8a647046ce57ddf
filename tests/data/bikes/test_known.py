"""The table with a known rate."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data.bikes.derived import table_rows
from bikefit.data.bikes.known import expected_rentals, with_known_rate
from bikefit.data.rows import read_rows
from bikefit.data.table import read_table
from synthetic import clean_hours


def test_expected_rentals_by_hand() -> None:
    rows = pd.DataFrame(
        {
            "timestamp": pd.to_datetime(["2011-01-05T08", "2011-07-06T15", "2011-10-05T03"]),
            "season": ["winter", "summer", "autumn"],
            "temperature": [-4.0, 16.0, 10.0],
        }
    )
    winter = 18 * (1 + math.exp(-13.5)) + 60 * math.exp(-49 / 18 - 9)
    summer = 27 * (math.exp(-49 / 4) + math.exp(-4 / 6)) + 60 / math.e
    night = 33 * math.exp(-25 / 4) + 60 * math.exp(-8 - 2.56)
    expected = [10 + winter, 10 + summer, 10 + night]
    assert expected_rentals(rows) == pytest.approx(expected, rel=1e-3)


def test_rentals_are_poisson_counts_of_the_expected_rentals() -> None:
    rows = table_rows(clean_hours(days=60))
    known = with_known_rate(rows)
    pd.testing.assert_frame_equal(known, with_known_rate(rows))
    others = [name for name in rows if name != "rentals"]
    pd.testing.assert_frame_equal(known[others], rows[others])
    deviation = (known["rentals"] - known["expected"]) / np.sqrt(known["expected"])
    assert deviation.mean() == pytest.approx(0, abs=3 / math.sqrt(len(rows)))
    assert deviation.var() == pytest.approx(1, abs=0.15)


@pytest.mark.usefixtures("workplace")
def test_the_stage_keeps_the_expected_rentals_beside_the_features() -> None:
    table = read_table(Path("data/features/known"))
    assert table.source == "known"
    rows = read_rows(table, "validation")
    assert rows["expected"].tolist() == expected_rentals(rows).tolist()
    assert np.array_equal(rows["rentals"], table.read("validation").target)
    assert table.feature_names == read_table(Path("data/features/rich")).feature_names
