"""Compare the engines: the same sweep on two processes of this machine and on two workers of each.

All workers are on this machine, so the differences are the cost of an engine, not the gain from
more machines.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from benchmarks.common import ROOT, run, scratch, spread, table
from benchmarks.reference import TRAIN

sys.path.insert(0, str(ROOT / "tests"))
import clusters

PAGE = "docs/cluster.md"
STRENGTHS = "0,1e-6,3e-6,1e-5,3e-5,1e-4,3e-4,1e-3,3e-3,1e-2,3e-2,1e-1"
SWEEP = (
    *(*TRAIN, "-m", "network.hidden=[64,32]", "training.epochs=40", "seed=0,1"),
    *(f"regularization.l2={STRENGTHS}", "hydra.launcher.processes=2", "rerun=true"),
)
Cluster = Callable[[], AbstractContextManager[tuple[str | None, dict[str, Any]]]]
ENGINES: dict[str, tuple[list[str], Cluster]] = {
    "processes of this machine": (["hydra/launcher=stack"], lambda: nullcontext((None, {}))),
    "Dask": (["hydra/launcher=dask"], clusters.dask),
    "Ray": (["hydra/launcher=ray"], clusters.ray),
    "Slurm": (
        [
            "hydra/launcher=slurm",
            "hydra.launcher.options.memory=1GB",
            "hydra.launcher.options.interface=lo",
        ],
        clusters.slurm_cluster,
    ),
}
HEAD = ("engine", "first sweep, s", "later sweeps, s", "validation losses differ by")
# Prints the validation losses of the latest sweep in an order that all sweeps share.
LOSSES = """
from bikefit.tracking.reading import latest_sweep, read_runs
runs = read_runs(latest_sweep())
print(runs.sort_values(["seed", "regularization.l2"])["best/val/loss"].tolist())
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--repetitions", type=int, default=3)


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Run the sweep several times on every engine and return the table."""
    rows: list[list[str]] = []
    expected: list[float] = []
    for name, (launcher, cluster) in ENGINES.items():
        with cluster() as (address, _), scratch() as folder:
            given = [f"hydra.launcher.address={address}"] if address else []
            command = [*SWEEP, *launcher, *given]
            seconds = [run(command, folder).seconds for _ in range(options.repetitions)]
            losses = json.loads(run([TRAIN[0], "-c", LOSSES], folder).output)
        expected = expected or losses
        error = max(abs(a - b) / b for a, b in zip(losses, expected, strict=True))
        rows.append([name, f"{seconds[0]:.1f}", spread(seconds[1:]), f"{error:.0e}"])
        print(rows[-1], flush=True)
    return {"engines": table(HEAD, rows)}
