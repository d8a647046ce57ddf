"""Run a benchmark in the project's root: `python -m benchmarks NAME [--write] [options]`.

A benchmark is a module of this folder with `measure(options)`, which returns Markdown by section
of the page `PAGE`; `--write` renews these sections.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from benchmarks.common import ROOT, machine

from bikefit.data.files import replace_section

NAMES = (
    "ablation",
    "against",
    "champion",
    "faults",
    "race",
    "scaling",
    "screenshots",
    "start_up",
    "verdicts",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark, print its sections and write them if asked."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES, help="`NAME --help` lists its options")
    name = parser.parse_args(given[:1]).name
    benchmark = import_module(f"benchmarks.{name}")
    parser = argparse.ArgumentParser(f"python -m benchmarks {name}", description=benchmark.__doc__)
    if hasattr(benchmark, "PAGE"):
        parser.add_argument("--write", action="store_true", help=f"renew {benchmark.PAGE}")
    if hasattr(benchmark, "add_options"):
        benchmark.add_options(parser)
    options = parser.parse_args(given[1:])
    measured_on = machine()  # before the benchmark loads the machine
    for section, text in benchmark.measure(options).items():
        print(f"\n{text}\n\n{measured_on}", flush=True)
        if options.write:
            replace_section(ROOT / benchmark.PAGE, section, f"{text}\n\n{measured_on}")


if __name__ == "__main__":
    main()
