"""Time the commands that train little or nothing: what a user waits for before training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.common import ROOT, run, scratch, spread, table
from benchmarks.reference import SHARED, TRAIN

PAGE = "benchmarks/results.md"
ONE_RUN = (*TRAIN, *SHARED, "training.epochs=1")
DVC = (sys.executable, "-m", "dvc", "--cd", str(ROOT))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--repetitions", type=int, default=3)


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Return the table of start-up times."""
    repetitions = range(options.repetitions)
    help_, new = [*TRAIN, "--help"], "one run of one epoch, new store"
    rows = [
        ["`python -m bikefit.train --help`", spread([_seconds(help_) for _ in repetitions], 2)],
        [new, spread([_seconds(ONE_RUN) for _ in repetitions], 2)],
        ["one run of one epoch, store there", spread([_with_store() for _ in repetitions], 2)],
    ]
    with scratch() as folder:
        run([*DVC, "repro"], folder)  # so that the next ones have nothing to do
        repro = [run([*DVC, "repro"], folder)[0] for _ in repetitions]
    rows.append(["`dvc repro` with nothing to do", spread(repro, 2)])
    return {"start-up": table(("whole process", "seconds"), rows)}


def _seconds(command: Sequence[str]) -> float:
    with scratch() as folder:
        return run(command, folder)[0]


def _with_store() -> float:
    with scratch() as folder:
        run([*ONE_RUN, "seed=1"], folder)  # another seed: the run of the same seed would be reused
        return run(ONE_RUN, folder)[0]
