"""How the time of a stack grows with members, batch size, width and rows."""

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
from benchmarks.sweep import reference
from benchmarks.sweep.document import table
from benchmarks.sweep.processes import ROOT

MEMBERS = tuple(2**i for i in range(10))
BATCH_SIZES = (32, 64, 128, 256, 512, 1024)
WIDTHS = (16, 32, 64, 128, 256, 512)
ROWS = (1_296, 10_000, 100_000, 1_000_000)
MEMBERS_OF_ROWS = 4
T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """One stack to train."""

    members: int = 12
    batch_size: int = 256
    width: int = 128
    root: str = str(ROOT / "data/features")

    def overrides(self, epochs: int) -> list[str]:
        """Return what differs from the reference sweep."""
        return [
            f"data.root={self.root}", f"network.hidden=[{self.width},{self.width}]",
            f"training.batch_size={self.batch_size}", f"training.epochs={epochs}",
        ]  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Of one stack: seconds before and after its epochs, of its last epoch; peak memory, MB."""

    set_up: float
    epoch: float
    memory: float


def measure(options: argparse.Namespace) -> str:
    """Return the four tables."""
    base = Point()
    parts = [
        _table("members", MEMBERS, [replace(base, members=m) for m in MEMBERS]),
        _table("batch size", BATCH_SIZES, [replace(base, batch_size=b) for b in BATCH_SIZES]),
        _table("width", WIDTHS, [replace(base, width=w) for w in WIDTHS]),
    ]
    with tempfile.TemporaryDirectory(prefix="bikefit-bench-") as name:
        points = []
        for rows in ROWS:
            _apart(_repeat, rows, Path(name) / str(rows))  # which fills the memory of who does it
            points.append(Point(members=MEMBERS_OF_ROWS, root=str(Path(name) / str(rows))))
        parts.append(_table("rows", ROWS, points))
    return "\n\n".join([*parts, _notes()])


def _table(what: str, values: Sequence[int], points: Sequence[Point]) -> str:
    """Measure each point in a process of its own and write a line for each."""
    rows = []
    for value, point in zip(values, points, strict=True):
        cost = _apart(_train, point)
        per_member = 1000 * cost.epoch / point.members
        rows.append([f"{value:,}", f"{per_member:.1f}", f"{cost.epoch:.2f}",
                     f"{cost.set_up:.2f}", f"{cost.memory:,.0f}"])  # fmt: skip
        print(what, value, cost, flush=True)
    head = (what, "ms a member-epoch", "s an epoch", "s before and after", "peak memory, MB")
    return table(head, rows)


def _apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call in a fork, which has all imports and a peak of memory of its own."""
    import bikefit.training.fit  # noqa: F401

    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def _train(point: Point) -> Cost:
    from bikefit.training.fit import fit_stack
    from bikefit.training.folds import read_pool

    members = reference.members(point.members, *point.overrides(epochs=2))
    ends = [0.0]
    start = time.perf_counter()
    pool = read_pool(members[0].settings.data.path)
    fit_stack(members, pool, lambda _: ends.append(time.perf_counter()))
    seconds = time.perf_counter() - start
    epoch = ends[-1] - ends[-2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # kB on Linux
    return Cost(seconds - 2 * epoch, epoch, peak)


def _repeat(rows: int, root: Path) -> None:
    """Write table `full` with its rows repeated or cut to a number, split as before."""
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


def _notes() -> str:
    return (
        "One stack through `bikefit.training.fit.fit_stack`, in one process with one thread (a "
        "sweep runs one a core), strengths and seeds as in the reference sweep: 12 strengths a "
        "seed. Where a table does not say otherwise: 12 members, table `full`, batch size 256, "
        f"width 128; the table of rows has {MEMBERS_OF_ROWS} members, and its rows are those of "
        "`full`, repeated or cut, three quarters of them for training. Timed is the "
        "second epoch, training and evaluation. Peak memory is that of the process, imports "
        "included."
    )
