"""Inject every fault of `tests/faults` many times and count what is lost.

Prints for each fault how often it was injected and survived, and how many runs were lost. The exit
status is 1 if a fault was not survived or something was lost.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.common import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from faults import registered, tally


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("word", nargs="?", default="", help="only faults with this in their name")
    parser.add_argument("--times", type=int, help="injections of each; default: as registered")
    parser.add_argument("--seed", type=int, default=int(time.time()))


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Inject the faults, print the counts, and exit."""
    faults = [fault for fault in registered() if options.word in fault.name]
    width = max((len(fault.name) for fault in faults), default=0)
    failed = not faults
    print(f"{'fault':{width}}  injected  survived  lost  (seed {options.seed})")
    for fault in faults:
        outcome = tally(fault, options.times or fault.times, options.seed)
        if outcome.impossible:
            print(f"{fault.name:{width}}  not possible here: {outcome.impossible}")
            continue
        survived = outcome.injected - len(outcome.errors)
        numbers = f"{outcome.injected:8}  {survived:8}  {outcome.lost:4}"
        print(f"{fault.name:{width}}  {numbers}", flush=True)
        print(*outcome.errors[:3], sep="\n", file=sys.stderr)
        failed |= bool(outcome.errors or outcome.lost)
    sys.exit(int(failed))
