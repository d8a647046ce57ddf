"""Measure: `python -m benchmarks.sweep [part …] [--write]`, in the project's root.

Parts are sections of `benchmarks/results.md`, which `--write` renews: race, start-up, profile,
tracking (all of `make bench`) and scaling (`make bench-scaling`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.sweep import profiling, race, scaling, start_up, tracked
from benchmarks.sweep.document import machine
from benchmarks.sweep.processes import ROOT

RESULTS = ROOT / "benchmarks/results.md"
PARTS = {
    "race": race.measure,
    "start-up": start_up.measure,
    "profile": profiling.measure,
    "tracking": tracked.measure,
    "scaling": scaling.measure,
}
BENCH = ("race", "start-up", "profile", "tracking")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts one after the other, print each and write it if asked."""
    options = _parse(arguments)
    for part in options.part or BENCH:
        on = machine()  # before the measurement loads the machine
        text = f"{PARTS[part](options)}\n\n{on}"
        print(f"\n{text}\n", flush=True)
        if options.write:
            from bikefit.data.files import renew

            renew(RESULTS, part, text)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument(
        "part", nargs="*", help=f"of {', '.join(PARTS)}; default: {' '.join(BENCH)}"
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--slow-repetitions", type=int, default=1, help="of the slow peers")
    parser.add_argument("--epochs", type=int, default=20, help="of the reference sweep")
    parser.add_argument("--tracked-runs", type=int, default=100)
    parser.add_argument("--tracked-epochs", type=int, default=50)
    parser.add_argument("--write", action="store_true", help="renew benchmarks/results.md")
    options = parser.parse_args(arguments)
    if unknown := set(options.part) - set(PARTS):  # argparse's choices refuse an empty list
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
