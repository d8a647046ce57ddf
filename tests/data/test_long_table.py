"""A table 100 times as long as the real one passes the data stages within 2 GiB, in linear time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import long_table


@pytest.mark.slow(seconds=60)
def test_a_table_100_times_as_long(tmp_path: Path) -> None:
    costs = {}
    for times in (10, 100):
        folder = tmp_path / str(times)
        long_table.make(folder, times)
        costs[times] = [long_table.measure_stage(folder, stage) for stage in long_table.STAGES]
    for some, many in zip(costs[10], costs[100], strict=True):
        assert many.memory < 2048
        assert many.processor < 12 * some.processor
