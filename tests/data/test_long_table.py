"""A table 100 times as long as the real one passes the data stages within 2 GiB, in linear time."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow(seconds=60)
def test_a_table_100_times_as_long(tmp_path: Path) -> None:
    benchmark = runpy.run_path(str(ROOT / "benchmarks/long_table.py"))
    costs = {}
    for times in (10, 100):
        benchmark["make"](tmp_path / str(times), times)
        costs[times] = [
            benchmark["measure"](tmp_path / str(times), ["-m", f"bikefit.data.{stage}"])
            for stage in benchmark["STAGES"]
        ]
    for (some, _), (many, memory) in zip(costs[10], costs[100], strict=True):
        assert memory < 2048
        assert many < 12 * some
