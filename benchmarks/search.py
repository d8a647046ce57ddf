"""Compare searches with the default grid in the same time.

The default comparison (`+experiment=comparison`) is trained and timed. Random search and the
search of `+experiment=tune` then get as many seconds; random search trains every proposal to its
end. The winner of each, by mean validation loss, is trained again with seeds that no search has
seen, because the lowest of many losses is biased. Test rows are not read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from benchmarks.common import ROOT, run, scratch, spread, table
from benchmarks.reference import TRAIN

PAGE = "benchmarks/results.md"
FRESH = "1000,1001,1002,1003,1004"  # seeds of the last measurement
NAMES = {
    "grid": "default grid (`+experiment=comparison`)",
    "random": "random search, no early stopping",
    "tpe": "`+experiment=tune`: TPE, successive halving",
}
HEAD = (
    *("", "repetitions", "seconds", "runs", "validation loss of the winner"),
    "of the winner with fresh seeds",
)
# Prints the finished runs of the latest sweep, the mean loss of its winner, and the winner's
# losses with fresh seeds.
WINNER = """
import json, sys, yaml
from benchmarks.common import fit
from bikefit.comparison.ranking import rank
from bikefit.comparison.runs import run_table
from bikefit.config import parse
from bikefit.tracking.reading import latest_sweep, read_config, read_runs
runs = run_table(read_runs(latest_sweep()))
best = rank(runs).iloc[0]
winners = runs.query("configuration_id == @best.configuration_id")
settings = parse(yaml.safe_load(read_config(winners["run_id"].iloc[0])))
seeds = map(int, sys.argv[1].split(","))
results = fit([settings.model_copy(update={"seed": seed}) for seed in seeds])
losses = [float(one.metrics["val/loss"][one.selected - 1]) for one in results]
print(json.dumps([int(runs["val_loss"].count()), float(best["val_loss"]), losses]))
"""


@dataclass(frozen=True)
class Result:
    """Result of a search.

    Args:
        seconds: Wall time of the command.
        runs: Number of runs with a validation loss.
        loss: Mean validation loss of the winner.
        fresh: Validation losses of the winner with fresh seeds.
    """

    seconds: float
    runs: int
    loss: float
    fresh: list[float]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--repetitions", type=int, default=3, help="of the searches")
    parser.add_argument("--seed", type=int, default=3, help="of the first search")
    parser.add_argument("override", nargs="*", help="of all three, e.g. training.epochs=4")


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Run the grid, then the searches in turns, and return the table."""
    results = {"grid": [_sweep(["+experiment=comparison", *options.override])]}
    budget = f"{results['grid'][0].seconds:.1f}"
    for seed in range(options.seed, options.seed + options.repetitions):
        for name in ("random", "tpe"):
            search = [
                "+experiment=tune",
                f"hydra.sweeper.sampler={name}",
                f"hydra.sweeper.seed={seed}",
                "hydra.sweeper.trials=null",
                f"hydra.sweeper.seconds={budget}",
                *(["hydra.sweeper.rungs=1"] if name == "random" else []),
            ]
            results.setdefault(name, []).append(_sweep([*search, *options.override]))
            print(name, results[name][-1], flush=True)
    return {"search": table(HEAD, [_row(name, of) for name, of in results.items()])}


def _sweep(arguments: Sequence[str]) -> Result:
    with scratch() as folder:
        # Status 1: a training diverged, which random learning rates may cause.
        seconds, _ = run([*TRAIN, "-m", *arguments], folder, statuses=(0, 1))
        path = {"PYTHONPATH": str(ROOT)}
        _, output = run([TRAIN[0], "-c", WINNER, FRESH], folder, path)
        return Result(seconds, *json.loads(output.splitlines()[-1]))


def _row(name: str, results: Sequence[Result]) -> list[object]:
    """Return a row; the standard error is over repetitions, or of one repetition over seeds."""
    means = [fmean(one.fresh) for one in results]
    values = means if len(means) > 1 else results[0].fresh
    return [
        NAMES[name],
        len(results),
        spread([one.seconds for one in results], 0),
        spread([one.runs for one in results], 0),
        spread([one.loss for one in results], 3),
        f"{fmean(means):.3f} ± {stdev(values) / len(values) ** 0.5:.3f}",
    ]
