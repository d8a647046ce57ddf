"""What a user waits for before anything is trained."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.sweep import reference
from benchmarks.sweep.document import spread, table
from benchmarks.sweep.processes import ROOT, Measured, run, scratch

ONE_RUN = ["-m", "bikefit.train", *reference.SHARED, "training.epochs=1"]


def measure(options: argparse.Namespace) -> str:
    """Return the table of start-up times."""
    rows = []
    for name, arguments, warm in (
        ("`python -m bikefit.train --help`", ["-m", "bikefit.train", "--help"], False),
        ("one run of one epoch, new store", ONE_RUN, False),
        ("one run of one epoch, store there", ONE_RUN, True),
    ):
        rows.append(_row(name, [_scratch(arguments, warm) for _ in range(options.repetitions)]))
    rows.append(_repro(options.repetitions))
    return table(("whole process", "seconds", "peak memory"), rows)


def _scratch(arguments: list[str], warm: bool) -> Measured:
    with scratch() as folder:
        if warm:
            run([*arguments, "seed=1"], folder)  # the same seed would not be trained again
        return run(arguments, folder)


def _repro(repetitions: int) -> list[object]:
    """Time `dvc repro` where it has nothing to do; it is not started where it would train."""
    name = "`dvc repro` with nothing to do"
    with scratch() as folder:  # for what it says; it works in the project's root
        status = _dvc(["status"], folder)
        if "up to date" not in status.output:
            return [name, "the pipeline is not up to date: `dvc repro` first", ""]
        return _row(name, [_dvc(["repro"], folder) for _ in range(repetitions)])


def _dvc(arguments: list[str], folder: Path) -> Measured:
    return run(["-m", "dvc", "--cd", str(ROOT), *arguments], folder)


def _row(name: str, measured: list[Measured]) -> list[object]:
    seconds = spread([m.seconds for m in measured], 2)
    return [name, seconds, f"{max(m.memory for m in measured):,.0f} MB"]
