"""The reference sweep against its peers, in turns."""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.sweep import reference
from benchmarks.sweep.document import spread, table
from benchmarks.sweep.processes import Measured, run, scratch

PEERS = Path(__file__).parent / "peers"


@dataclass
class Racer:
    """One way to train the grid.

    Args:
        name: for the table.
        arguments: of Python, from the number of epochs.
        goal: how many times longer than ours it should take.
        slow: takes part in fewer rounds.
        inside: the time that counts is the one it reports of itself.
        metrics: names of train and validation loss in its store, if it has one.
    """

    name: str
    arguments: Callable[[int], list[str]]
    goal: float | None = None
    slow: bool = False
    inside: bool = False
    metrics: tuple[str, str] | None = None
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    loss: float | None = None


def _peer(script: str) -> Callable[[int], list[str]]:
    return lambda epochs: [str(PEERS / script), "--epochs", str(epochs)]


def _hydra_peer(epochs: int) -> list[str]:
    return [
        str(PEERS / "hydra_lightning.py"), "-m", f"l2={','.join(reference.L2)}",
        f"dropout={','.join(reference.DROPOUT)}", "seed=0,1", f"epochs={epochs}",
    ]  # fmt: skip


def racers() -> list[Racer]:
    """List ours and the peers."""
    return [
        Racer("bikefit: `python -m bikefit.train -m …`", reference.command,
              metrics=("train/loss", "val/loss")),
        Racer("Hydra `-m`, Lightning, DataLoader, MLFlowLogger on SQLite", _hydra_peer,
              goal=12, slow=True, metrics=("train_loss", "val_loss")),
        Racer("the lecture's loop: DataLoader, penalty in the loss; nothing tracked",
              _peer("plain_loop.py"), goal=7, slow=True),
        Racer("`MLPRegressor`, joblib; no dropout, no batch norm, nothing tracked",
              _peer("mlp_regressor.py"), goal=1.3),
        Racer("the matrix products alone", _peer("products.py"), inside=True),
    ]  # fmt: skip


def measure(options: argparse.Namespace) -> str:
    """Run all in turns and return the table."""
    field_ = racers()
    for repetition in range(options.repetitions):
        for racer in field_:
            if not racer.slow or repetition < options.slow_repetitions:
                _run(racer, options.epochs)
                print(f"{racer.name}: {racer.seconds[-1]:.1f} s", flush=True)
    return f"{_table(field_)}\n\n{_notes(options)}"


def _run(racer: Racer, epochs: int) -> None:
    with scratch() as folder:
        measured = run(racer.arguments(epochs), folder)
        if racer.metrics is not None:
            racer.loss = _check_store(folder / "mlflow.db", racer.metrics, epochs)
    said = _last_line(measured) if racer.metrics is None else {}
    racer.loss = said.get("val_loss", racer.loss)
    racer.seconds.append(said["seconds"] if racer.inside else measured.seconds)
    racer.processor.append(measured.processor)
    racer.memory.append(measured.memory)


def _last_line(measured: Measured) -> dict[str, float]:
    return dict(json.loads(measured.output.strip().splitlines()[-1]))


def _check_store(database: Path, metrics: tuple[str, str], epochs: int) -> float:
    """Return the mean validation loss of the runs.

    Raises:
        RuntimeError: the store lacks an epoch of a run.
    """
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT count(*) FROM metrics WHERE key IN (?, ?)"
        (count,) = connection.execute(query, metrics).fetchone()
        query = "SELECT avg(value) FROM latest_metrics WHERE key = ?"
        (loss,) = connection.execute(query, metrics[1:]).fetchone()
    if count != (expected := 2 * reference.RUNS * epochs):
        raise RuntimeError(f"{expected} losses should be tracked, the store has {count}")
    return float(loss)


def _table(field_: Sequence[Racer]) -> str:
    ours, rows = field_[0], []
    for racer in filter(lambda one: one.seconds, field_):
        ratios = [peer / own for peer, own in zip(racer.seconds, ours.seconds, strict=False)]
        rows.append([
            racer.name, len(racer.seconds), spread(racer.seconds), spread(racer.processor),
            f"{max(racer.memory):,.0f} MB", "" if racer.loss is None else f"{racer.loss:.4f}",
            *_ratio(racer, ratios),
        ])  # fmt: skip
    head = ("24 runs", "repetitions", "seconds", "of the processor", "peak memory",
            "mean validation loss", "seconds over ours", "goal", "met")  # fmt: skip
    return table(head, rows)


def _ratio(racer: Racer, ratios: Sequence[float]) -> tuple[str, str, str]:
    """Write the ratio with its spread, the goal, and whether it is met or by how much missed."""
    if racer.goal is None:
        return "", "", ""
    reached = median(ratios) / racer.goal
    met = "yes" if reached >= 1 else f"no: {reached:.0%} of it"
    return f"{spread(ratios, 1 if racer.goal >= 10 else 2)} ×", f"≥ {racer.goal:g} ×", met


def _notes(options: argparse.Namespace) -> str:
    return (
        f"Table `full`, hidden layers [128, 128], batch norm before the activation, "
        f"l2 {', '.join(reference.L2)} × dropout {', '.join(reference.DROPOUT)} × seeds 0, 1; "
        f"{options.epochs} epochs, batch size 256, squared error, Adam 1e-3. Run in turns, every "
        "repetition whole processes in an empty folder with a new store: imports, making the "
        "database, closing table and verdicts are in. Seconds: median (lowest-highest); a ratio "
        "is taken within each repetition. Of the processor: seconds of a core, all processes; "
        "they say more where the machine is busy. Only the products are timed from inside, without "
        "start-up (the faster of a process a core and a thread a core). Peak memory: resident "
        "memory summed over all processes, shared pages counted in each. The mean validation "
        "loss is of two seeds, whose scatter is in it; the peers in torch begin with the same "
        "networks, ours with others, and `MLPRegressor` trains another model."
    )
