"""Compare the time of the default comparison with that of another checkout, for example an older
commit with an environment in `.venv`. Whole commands run in turns; each starts with an empty store.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.common import ROOT, run, scratch, spread, table

PAGE = "benchmarks/results.md"
SWEEP = ("-m", "bikefit.train", "-m", "+experiment=comparison")
HEAD = ("default comparison", "repetitions", "seconds", "seconds over ours")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("checkout", type=Path, help="folder with data/ and .venv/")
    parser.add_argument("--repetitions", type=int, default=2)


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Train the default comparison with both checkouts and return the table."""
    checkout = options.checkout.resolve()
    pythons = {ROOT: sys.executable, checkout: str(checkout / ".venv/bin/python")}
    seconds: dict[Path, list[float]] = {root: [] for root in pythons}
    for _ in range(options.repetitions):
        for root, python in pythons.items():
            with scratch(root) as folder:
                seconds[root].append(run([python, *SWEEP], folder)[0])
            print(f"{root}: {seconds[root][-1]:.1f} s", flush=True)
    ratios = [other / own for own, other in zip(*seconds.values(), strict=True)]
    commits = [
        run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], root)[1].strip()
        for root in pythons
    ]
    rows = [
        [f"commit {commit}", options.repetitions, spread(of), ratio]
        for commit, of, ratio in zip(
            commits, seconds.values(), ("", f"{spread(ratios, 2)} ×"), strict=True
        )
    ]
    return {"against": table(HEAD, rows)}
