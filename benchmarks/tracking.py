"""Measure the cost of tracking: 100 runs of 50 epochs with 8 metrics, sampled by py-spy.

Needs `pip install -c constraints.txt -e ".[bench]"`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.common import run, scratch, table
from benchmarks.reference import TRAIN

PAGE = "benchmarks/results.md"
RATE = 100  # samples per second
DROPOUT = ("0", "0.1", "0.2", "0.3", "0.4")
# Frames outside of tracking: imports, and the verdicts and the table at the end.
OTHER = ("<frozen importlib", "bikefit/comparison/")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--seeds", type=int, default=20, help="times 5 strengths of dropout")
    parser.add_argument("--epochs", type=int, default=50)


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Return the table with the share of tracking."""
    grid = [f"regularization.dropout={','.join(DROPOUT)}", f"seed=range({options.seeds})"]
    network = ["data=full", "network.hidden=[64,64]", "loss=mse"]
    sweep = [*TRAIN, "-m", *network, f"training.epochs={options.epochs}", *grid]
    sampler = f"py-spy record --subprocesses --rate {RATE} --format raw --output samples".split()
    with scratch() as folder:
        run([*sampler, "--", *sweep], folder)
        total, tracking = (samples / RATE for samples in count(folder / "samples"))
    runs = options.seeds * len(DROPOUT)
    rows = [
        ["whole sweep", f"{total:.1f}", "100 %"],
        ["tracking", f"{tracking:.1f}", f"{tracking / total:.1%}"],
    ]
    text = table(("", "seconds of a core", "share"), rows)
    return {"tracking": f"{text}\n\n{1000 * tracking / runs:.0f} ms of a core per run."}


def count(file: Path) -> tuple[int, int]:
    """Return the number of samples of busy threads, and of those in `bikefit.tracking`.

    Args:
        file: Output of `py-spy record --format raw`: frames joined by ";", then the count.
    """
    total = tracking = 0
    for line in file.read_text().splitlines():
        stack, samples = line.rsplit(" ", 1)
        total += int(samples)
        if "bikefit/tracking/" in stack and not any(part in stack for part in OTHER):
            tracking += int(samples)
    return total, tracking
