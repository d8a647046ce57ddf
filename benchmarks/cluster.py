"""What engines and servers cost: `python -m benchmarks.cluster [--write]`.

The same sweep on two processes of this machine, on two workers of Dask, Ray, submitit and Slurm,
and with an MLflow server instead of a file. All workers run on this machine, so the benchmark
measures the overhead of an engine and not the gain from more machines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.sweep.document import spread
from benchmarks.sweep.processes import ROOT, run, scratch

from bikefit.data.files import renew

sys.path.insert(0, str(ROOT / "tests"))

import clusters
import servers

SWEEP = ["-m", "bikefit.train", "-m", "network.hidden=[64,32]", "training.epochs=40", "seed=0,1",
         "regularization.l2=0,1e-6,3e-6,1e-5,3e-5,1e-4,3e-4,1e-3,3e-3,1e-2,3e-2,1e-1",
         "hydra.launcher.processes=2", "rerun=true"]  # fmt: skip
TIMES = 3
Cluster = Callable[[], AbstractContextManager[tuple[str | None, dict[str, Any]]]]
ENGINES: dict[str, tuple[str, Cluster]] = {
    "processes of this machine": ("stack", lambda: nullcontext((None, {}))),
    "Dask": ("dask", clusters.dask),
    "Ray": ("ray", clusters.ray),
    "submitit, its own processes": ("slurm", clusters.submitit),
    "Slurm": ("slurm", clusters.slurm_itself),
}


def losses(folder: Path) -> list[float]:
    """Read the validation losses of the latest sweep, in an order that all sweeps have."""
    code = """
from bikefit.tracking import reading
runs = reading.read_runs(reading.latest_sweep())
print(runs.sort_values(["seed", "regularization.l2"])["best/val/loss"].tolist())
"""
    return list(json.loads(run(["-c", code], folder).output))


def engines() -> pd.DataFrame:
    """Run the sweep on every engine, several times one after the other."""
    rows, expected = [], None
    for name, (preset, cluster) in ENGINES.items():
        with cluster() as (address, _), scratch() as folder:
            chosen = [f"hydra/launcher={preset}"]
            if address:
                chosen.append(f"hydra.launcher.address={address}")
            if preset == "slurm":
                chosen.append("hydra.launcher.options.mem_gb=1")
            seconds = [run([*SWEEP, *chosen], folder).seconds for _ in range(TIMES)]
            found = losses(folder)
        expected = expected or found
        rows.append([name, f"{seconds[0]:.1f}", spread(seconds[1:]), apart(found, expected)])
        print(rows[-1], flush=True)
    return pd.DataFrame(
        rows, columns=["engine", "first sweep, s", "later sweeps, s", "validation losses differ by"]
    )


def stores() -> pd.DataFrame:
    """Run the sweep with a file as store and with a server."""
    rows = []
    with servers.postgresql() as address, scratch() as folder:
        server = {"MLFLOW_TRACKING_URI": address}
        for name, given in {"a file": {}, "the server": server}.items():
            seconds = [run(SWEEP, folder, given).seconds for _ in range(TIMES)]
            rows.append([f"the sweep, its runs written to {name}", spread(seconds)])
    return pd.DataFrame(rows, columns=["", "wall time, s"])


def apart(found: list[float], expected: list[float]) -> str:
    """Write the largest relative difference."""
    largest = max(abs(a - b) / b for a, b in zip(found, expected, strict=True))
    return "0" if largest == 0 else f"{largest:.0e}"


def main() -> None:
    """Measure, print, and renew the section in `docs/cluster.md` if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew docs/cluster.md")
    options = parser.parse_args()
    tables = {"engines": engines(), "stores": stores()}
    said = f"{os.cpu_count()} cores, Python {sys.version.split()[0]}; 24 runs of 40 epochs."
    for name, table in tables.items():
        text = f"{table.to_markdown(index=False)}\n\n{said}"
        print(text)
        if options.write:
            renew(ROOT / "docs/cluster.md", name, text)


if __name__ == "__main__":
    main()
