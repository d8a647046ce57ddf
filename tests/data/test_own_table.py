"""A sweep accepts a table of numbers that `featurize` cannot compute."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import bikefit
from bikefit.data.featurize import Split, write_own_table


@pytest.mark.slow
def test_a_sweep_on_a_table_of_other_numbers(quick: list[str]) -> None:
    hours = pd.read_parquet("data/clean/hours.parquet")
    by_time = hours.set_index("timestamp")["temperature"]
    hours["yesterday"] = hours["timestamp"].map(by_time.shift(freq="24h"))
    hours = hours.dropna(subset="yesterday")
    columns = ["yesterday", "temperature"]
    cut = Split(kind="days", seed=0, validation=0.2, test=0.2)
    write_own_table(Path("data/own/warmth"), hours, columns, standardized=columns, cut=cut)
    runs = bikefit.sweep([*quick, "data.root=data/own", "data.name=warmth", "seed=0,1"]).runs
    assert set(runs["table"]) == {"warmth"}
