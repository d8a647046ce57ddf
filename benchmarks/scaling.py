"""Measure how the time and the memory of a stack grow with members, batch size, width and rows.

One stack in one process with one thread, with the strengths of the reference sweep. An epoch is
half the difference between trainings of three epochs and of one; training and evaluation are in it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
from benchmarks.common import ROOT, fit, table

from benchmarks import reference

PAGE = "benchmarks/results.md"
MEMBERS = tuple(2**i for i in range(10))
BATCH_SIZES = (32, 64, 128, 256, 512, 1024)
WIDTHS = (16, 32, 64, 128, 256, 512)
ROWS = (1_296, 10_000, 100_000, 1_000_000)
MEMBERS_OF_ROWS = 4
HEAD = ("ms a member-epoch", "s an epoch", "s before and after", "peak memory, MB")
T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """A stack to train."""

    members: int = 12
    batch_size: int = 256
    width: int = 128
    root: str = str(ROOT / "data/features")


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Return the four tables."""
    base = Point()
    tables = [
        _table("members", MEMBERS, [replace(base, members=m) for m in MEMBERS]),
        _table("batch size", BATCH_SIZES, [replace(base, batch_size=b) for b in BATCH_SIZES]),
        _table("width", WIDTHS, [replace(base, width=w) for w in WIDTHS]),
    ]
    with tempfile.TemporaryDirectory(prefix="bikefit-bench-") as name:
        roots = [Path(name) / str(rows) for rows in ROWS]
        for rows, root in zip(ROWS, roots, strict=True):
            _in_fork(_repeat_rows, rows, root)
        points = [Point(members=MEMBERS_OF_ROWS, root=str(root)) for root in roots]
        tables.append(_table("rows", ROWS, points))
    return {"scaling": "\n\n".join(tables)}


def _table(name: str, values: Sequence[int], points: Sequence[Point]) -> str:
    rows = []
    for value, point in zip(values, points, strict=True):
        set_up, epoch, memory = _in_fork(_train, point)
        per_member = 1000 * epoch / point.members
        cells = [f"{per_member:.1f}", f"{epoch:.2f}", f"{set_up:.2f}", f"{memory:,.0f}"]
        rows.append([f"{value:,}", *cells])
        print(name, *rows[-1], flush=True)
    return table((name, *HEAD), rows)


def _in_fork(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a fork: imports are shared, peak memory is its own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def _train(point: Point) -> tuple[float, float, float]:
    """Return seconds before and after the epochs, seconds of an epoch, and peak memory in MB."""
    _, one, three = (_seconds(point, epochs) for epochs in (1, 1, 3))  # the first loads kernels
    epoch = (three - one) / 2
    return one - epoch, epoch, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _seconds(point: Point, epochs: int) -> float:
    members = reference.members(
        point.members,
        f"data.root={point.root}",
        f"network.hidden=[{point.width},{point.width}]",
        f"training.batch_size={point.batch_size}",
        f"training.epochs={epochs}",
    )
    start = time.perf_counter()
    fit(members)
    return time.perf_counter() - start


def _repeat_rows(rows: int, root: Path) -> None:
    """Write table `full` with its training and validation rows repeated or cut to a number."""
    source, target = ROOT / "data/features/full", root / "full"
    target.mkdir(parents=True)
    content: dict[str, Any] = json.loads((source / "table.json").read_text())
    counts = {part: content["rows"][part] for part in ("train", "validation")}
    for part, count in counts.items():
        wanted = round(rows * count / sum(counts.values()))
        file = pq.read_table(source / f"{part}.parquet")
        pq.write_table(file.take(np.arange(wanted) % count), target / f"{part}.parquet")
        content["rows"][part] = wanted
    (target / "table.json").write_text(json.dumps(content))
