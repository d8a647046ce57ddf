"""Measure how the time and the memory of a stack grow with its members.

One stack in one process with one thread, with the strengths of the reference sweep. An epoch is
half the difference between trainings of three epochs and of one; training and evaluation are in it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

from benchmarks.common import fit, table

from benchmarks import reference

PAGE = "benchmarks/results.md"
HEAD = ("members", "ms a member-epoch", "s an epoch", "s before and after", "peak memory, MB")


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Return the table of 1 to 512 members."""
    rows = []
    for members in (2**i for i in range(10)):
        with multiprocessing.get_context("fork").Pool(1) as pool:  # its peak memory is its own
            rest, epoch, memory = pool.apply(train, (members,))
        cells = [f"{1000 * epoch / members:.1f}", f"{epoch:.2f}", f"{rest:.2f}", f"{memory:,.0f}"]
        rows.append([members, *cells])
        print(*rows[-1], flush=True)
    return {"scaling": table(HEAD, rows)}


def train(members: int) -> tuple[float, float, float]:
    """Return seconds before and after the epochs, seconds of an epoch, and peak memory in MB."""
    _, one, three = (seconds(members, epochs) for epochs in (1, 1, 3))  # the first warms up
    epoch = (three - one) / 2
    return one - epoch, epoch, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def seconds(members: int, epochs: int) -> float:
    """Return the time of a training."""
    settings = reference.members(members, f"training.epochs={epochs}")
    start = time.perf_counter()
    fit(settings)
    return time.perf_counter() - start
