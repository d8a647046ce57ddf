"""Measure the data stages and training on a table 100 times as long as the real one.

Synthetic raw tables with 1, 10 and 100 times the 724 days of the real one, and with its kinds of
faults, pass the data stages; then stacks train on the longest. Each step is a process of its own,
of which processor time and peak memory are measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from benchmarks.common import ROOT, Measured, run, table

sys.path.insert(0, str(ROOT / "tests"))
from synthetic import raw_hours

PAGE = "docs/cluster.md"
DAYS = 724  # of 24 hours: as many rows as the real table has
TIMES = (1, 10, 100)
MEMBERS = (1, 8, 32)
STAGES = ("clean", "look", "featurize")
FIT = """
import sys
from benchmarks.common import fit, settings
small = ("network.hidden=[8]", "training.epochs=1", "training.batch_size=4096")
members = range(int(sys.argv[1]))
fit([settings(*small, f"regularization.l2={1e-6 * m}") for m in members])
"""


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Return the table of the data stages and that of training."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bikefit-long-") as name:
        for times in TIMES:
            folder = Path(name) / str(times)
            count = make(folder, times)
            rows.append([f"{count:,}", *(_cell(measure_stage(folder, s)) for s in STAGES)])
            print(rows[-1], flush=True)
        data = table(("rows", *STAGES), rows)
        fits = [python(folder, ["-c", FIT, str(members)]) for members in MEMBERS]
    training = table(
        ("members of a stack", "one epoch, with start", "peak"),
        [[m, *_cell(one).split(", ")] for m, one in zip(MEMBERS, fits, strict=True)],
    )
    return {"long table": f"{data}\n\n{training}"}


def make(folder: Path, times: int) -> int:
    """Write params and a raw table `times` as long as the real one; return its rows."""
    raw = raw_hours(days=DAYS * times, start="1850-01-01")
    draw = np.random.default_rng(0)
    raw.loc[draw.choice(len(raw), 22 * times, replace=False), "hum"] = 0.0  # failed sensor
    for begin in 24 * draw.choice(DAYS * times, times, replace=False):  # constant for a day
        raw.loc[begin : begin + 23, "atemp"] = 0.25
    raw = raw.drop(draw.choice(len(raw), 165 * times, replace=False))  # missing hours
    (folder / "data/raw").mkdir(parents=True)
    raw.to_csv(folder / "data/raw/hour.csv", index=False)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["featurize"]["tables"] = {"full": params["featurize"]["tables"]["full"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return len(raw)


def measure_stage(folder: Path, stage: str) -> Measured:
    """Run a data stage in a folder."""
    return python(folder, ["-m", f"bikefit.data.{stage}"])


def python(folder: Path, arguments: Sequence[str]) -> Measured:
    """Run Python in a folder on one core."""
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    return run([sys.executable, *arguments], folder, environment)


def _cell(measured: Measured) -> str:
    return f"{measured.processor:.1f} s, {measured.memory:,.0f} MiB"
