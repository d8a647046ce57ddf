"""Every fault the project must survive, many times over: `make faults`.

Prints a line for each: injected how many times, survived how many, anything lost. The faults are
those of `tests/faults`, which the tests inject a few times. The exit status says whether all were
survived and nothing was lost.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from faults import registered, tally  # noqa: E402


def main() -> int:
    """Inject all faults, or those whose name contains a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="only faults with this in their name")
    parser.add_argument("--times", type=int, help="how often each; default: as the table says")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    chosen = [one for one in registered() if options.word in one.name]
    width = max((len(one.name) for one in chosen), default=0)
    bad = not chosen
    print(f"{'fault':{width}}  injected  survived  lost  (seed {options.seed})")
    for one in chosen:
        found = tally(one, options.times or one.times, options.seed)
        if found.impossible:
            print(f"{one.name:{width}}  not possible here: {found.impossible}")
            continue
        print(f"{one.name:{width}}  {found.injected:8}  {found.survived:8}  {found.lost:4}",
              flush=True)  # fmt: skip
        for trouble in found.troubles[:3]:
            print(trouble, file=sys.stderr)
        bad |= found.survived < found.injected or found.lost > 0
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
