"""What a search finds in the time that the default grid takes: `make bench-search`.

The default comparison (`+experiment=comparison`) is trained and timed. Random search and the
search of `+experiment=tune` then get as many seconds; random search trains every proposal to the
end. The winner of each, by mean validation loss, is trained anew with seeds that no search has
seen, since the lowest of many losses is lucky. No test row is read.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.sweep.document import machine, spread, table
from benchmarks.sweep.processes import ROOT, run, scratch

RESULTS = ROOT / "benchmarks/results.md"
LOSS = "best/val/loss"
FRESH = range(1000, 1005)  # seeds of the last measurement
NAMES = {
    "grid": "default grid (`+experiment=comparison`)",
    "random": "random search, no early stopping",
    "tpe": "`+experiment=tune`: TPE, successive halving",
}


@dataclass(frozen=True)
class Found:
    """What one search came to.

    Args:
        seconds: of the whole command.
        runs: that finished.
        loss: mean validation loss of the winner's own runs.
        fresh: its validation losses with seeds of their own.
    """

    seconds: float
    runs: int
    loss: float
    fresh: list[float]


def measure(options: argparse.Namespace) -> str:
    """Run all in turns and return the table with its notes."""
    found: dict[str, list[Found]] = {name: [] for name in NAMES}
    found["grid"].append(_found(["+experiment=comparison", *options.override]))
    budget = found["grid"][0].seconds
    for seed in range(options.seed, options.seed + options.repetitions):
        for name in ("random", "tpe"):
            found[name].append(_found([*_search(name, seed, budget), *options.override]))
            print(name, found[name][-1], flush=True)
    rows = [_row(name, of) for name, of in found.items()]
    head = ("", "repetitions", "seconds", "runs", "validation loss of the winner",
            "of the winner with fresh seeds")  # fmt: skip
    return f"{table(head, rows)}\n\n{_notes(budget, options)}"


def _search(name: str, seed: int, seconds: float) -> list[str]:
    """Return the overrides of one search."""
    early = ["hydra.sweeper.rungs=1"] if name == "random" else []
    return [
        "+experiment=tune", f"hydra.sweeper.sampler={name}", f"hydra.sweeper.seed={seed}",
        "hydra.sweeper.trials=null", f"hydra.sweeper.seconds={seconds:.1f}", *early,
    ]  # fmt: skip


def _found(arguments: Sequence[str]) -> Found:
    """Sweep in an empty folder, then train the winner with fresh seeds."""
    with scratch() as folder:
        # 1: at a random learning rate a training may diverge, which is no reason to stop
        measured = run(["-m", "bikefit.train", "-m", *arguments], folder, statuses=(0, 1))
        with _inside(folder):
            return _result(measured.seconds)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Make a folder the current one, where its store is found."""
    before = Path.cwd()
    os.chdir(folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        yield
    finally:
        os.chdir(before)


def _result(seconds: float) -> Found:
    """Find the winner of the sweep in the current folder and train it anew."""
    import yaml

    from bikefit.comparison.ranking import comparison, rank
    from bikefit.config import parse
    from bikefit.sweeps.jobs import Job, train
    from bikefit.tracking import reading

    runs = reading.read_runs(reading.latest_sweep())
    best = rank(runs).iloc[0]
    own = comparison(runs).query("configuration == @best.configuration")
    settings = parse(yaml.safe_load(reading.read_config(own["run_id"].iloc[0])))
    jobs = [Job(settings.model_copy(update={"seed": seed}), f"seed {seed}") for seed in FRESH]
    fresh = [float(loss) for loss in train(jobs, sweep=None, processes=1)]  # type: ignore[arg-type]
    return Found(seconds, int(runs[LOSS].count()), float(best["val_loss"]), fresh)


def _row(name: str, found: Sequence[Found]) -> list[object]:
    fresh = [fmean(one.fresh) for one in found]
    error = stdev(fresh) / len(fresh) ** 0.5 if len(fresh) > 1 else _error(found[0].fresh)
    return [
        NAMES[name], len(found), spread([one.seconds for one in found], 0),
        spread([one.runs for one in found], 0), spread([one.loss for one in found], 3),
        f"{fmean(fresh):.3f} ± {error:.3f}",
    ]  # fmt: skip


def _error(values: Sequence[float]) -> float:
    return stdev(values) / len(values) ** 0.5


def _notes(budget: float, options: argparse.Namespace) -> str:
    changed = f" Changed: `{' '.join(options.override)}`." if options.override else ""
    return (
        f"Whole commands in empty folders, start and closing table included; the searches were "
        f"given `hydra.sweeper.seconds={budget:.0f}` and begin no batch that would end later, "
        "judged by how long the one before took. Median (lowest-highest) over the searches' seeds; "
        "validation loss: half Poisson deviance, bikes/hour. The last column is the mean over "
        f"{len(FRESH)} seeds that no search has seen, ± its standard error (over the repetitions "
        f"where there are several, else over these seeds).{changed}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3, help="of the searches")
    parser.add_argument("--seed", type=int, default=3, help="of the first search")
    parser.add_argument("--write", action="store_true", help="renew benchmarks/results.md")
    parser.add_argument("override", nargs="*", help="of all three, e.g. training.epochs=4")
    options = parser.parse_args(arguments)
    on = machine()  # before the measurement loads the machine
    text = f"{measure(options)}\n\n{on}"
    print(f"\n{text}\n", flush=True)
    if options.write:
        from bikefit.data.files import renew

        renew(RESULTS, "search", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
