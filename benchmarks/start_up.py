"""Time the commands that train little or nothing: what a user waits for before training."""

from __future__ import annotations

import argparse
import sys

from benchmarks.common import ROOT, Measured, run, scratch, spread, table
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
    rows = [
        _row("`python -m bikefit.train --help`", [_once([*TRAIN, "--help"]) for _ in repetitions]),
        _row("one run of one epoch, new store", [_once(ONE_RUN) for _ in repetitions]),
        _row("one run of one epoch, store there", [_with_store() for _ in repetitions]),
    ]
    with scratch() as folder:
        status = run([*DVC, "status"], folder).output
        if "up to date" not in status:
            raise SystemExit("the pipeline is not up to date: run `dvc repro` first")
        repro = [run([*DVC, "repro"], folder) for _ in repetitions]
    rows.append(_row("`dvc repro` with nothing to do", repro))
    return {"start-up": table(("whole process", "seconds"), rows)}


def _once(command: list[str] | tuple[str, ...]) -> Measured:
    with scratch() as folder:
        return run(command, folder)


def _with_store() -> Measured:
    with scratch() as folder:
        run([*ONE_RUN, "seed=1"], folder)  # another seed: the run of the same seed would be reused
        return run(ONE_RUN, folder)


def _row(name: str, measured: list[Measured]) -> list[object]:
    return [name, spread([one.seconds for one in measured], 2)]
