"""Compare the time of the reference sweep with peers that train the same grid."""

from __future__ import annotations

import argparse
import json
import math
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import ROOT, run, scratch, spread, table

from benchmarks import reference

PAGE = "benchmarks/results.md"
HEAD = ("24 runs", "repetitions", "seconds", "ms a run and epoch", "mean validation loss")
HEAD += ("seconds over ours",)


@dataclass
class Racer:
    """A way to train the grid.

    Args:
        name: First column of the table.
        command: Command that trains the grid.
        slow: Whether it is repeated `--slow-repetitions` times.
        metrics: Names of train and validation loss in its tracking store. Without a store, the
            command prints its loss as JSON.
    """

    name: str
    command: list[str]
    slow: bool = False
    metrics: tuple[str, str] | None = None
    loss: float = math.nan
    seconds: list[float] = field(default_factory=list)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--slow-repetitions", type=int, default=1, help="of the slow peers")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--tabpack", help="checkout of github.com/yandex-research/tabpack")


def racers(epochs: int, tabpack: str | None = None) -> list[Racer]:
    """Return bikefit, then its peers; TabPack only if there is a checkout."""

    def peer(script: str, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "benchmarks/peers" / script), *arguments]

    given = ("--epochs", str(epochs))
    grid = (f"l2={','.join(reference.L2)}", f"dropout={','.join(reference.DROPOUT)}", "seed=0,1")
    field = [
        Racer(
            "bikefit: `python -m bikefit.train -m …`",
            reference.command(epochs),
            metrics=("train/loss", "val/loss"),
        ),
        Racer(
            "Hydra `-m`, Lightning, DataLoader, MLFlowLogger on SQLite",
            peer("hydra_lightning.py", "-m", *grid, f"epochs={epochs}"),
            slow=True,
            metrics=("train_loss", "val_loss"),
        ),
        Racer(
            "the lecture's loop: DataLoader, penalty in the loss; nothing tracked",
            peer("plain_loop.py", *given),
            slow=True,
        ),
        Racer(
            "`MLPRegressor`, joblib; no dropout, no batch norm, nothing tracked",
            peer("mlp_regressor.py", *given),
        ),
    ]
    if tabpack:
        name = "TabPack; weight decay for L2, no batch norm, nothing tracked"
        command = peer("tabpack.py", *given, "--checkout", str(Path(tabpack).absolute()))
        field.append(Racer(name, command, slow=True))
    return field


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Run all racers in turns and return the table."""
    field = racers(options.epochs, options.tabpack)
    for repetition in range(options.repetitions):
        for racer in field:
            if not racer.slow or repetition < options.slow_repetitions:
                _run(racer, options.epochs)
                print(f"{racer.name}: {racer.seconds[-1]:.1f} s", flush=True)
    return {"race": table(HEAD, [_row(racer, field[0], options.epochs) for racer in field])}


def _run(racer: Racer, epochs: int) -> None:
    with scratch() as folder:
        seconds, output = run(racer.command, folder)
        if racer.metrics is not None:
            racer.loss = _mean_loss(folder / "mlflow.db", racer.metrics, epochs)
        else:
            racer.loss = json.loads(output.strip().splitlines()[-1])["val_loss"]
    racer.seconds.append(seconds)


def _mean_loss(database: Path, metrics: tuple[str, str], epochs: int) -> float:
    """Return the mean validation loss of the runs in a tracking store.

    Raises:
        RuntimeError: The store lacks an epoch of a run.
    """
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT count(*) FROM metrics WHERE key IN (?, ?)"
        (count,) = connection.execute(query, metrics).fetchone()
        query = "SELECT avg(value) FROM latest_metrics WHERE key = ?"
        (loss,) = connection.execute(query, metrics[1:]).fetchone()
    if count != (expected := 2 * reference.RUNS * epochs):
        raise RuntimeError(f"{database} has {count} losses instead of {expected}")
    return float(loss)


def _row(racer: Racer, ours: Racer, epochs: int) -> list[object]:
    each = [1000 * seconds / (reference.RUNS * epochs) for seconds in racer.seconds]
    ratios = [peer / own for peer, own in zip(racer.seconds, ours.seconds, strict=False)]
    return [
        racer.name,
        len(racer.seconds),
        spread(racer.seconds),
        spread(each),
        f"{racer.loss:.4f}",
        "" if racer is ours else f"{spread(ratios, 2)} ×",
    ]
