"""What tracking costs: 100 runs of 50 epochs with 8 metrics an epoch."""

from __future__ import annotations

import argparse

from benchmarks.sweep.document import table
from benchmarks.sweep.sampled import sampled

METRICS = 8  # loss, rmse, deviance on train and validation; penalty; share of zeros
LIMIT = 0.10
DROPOUT = ("0", "0.1", "0.2", "0.3", "0.4")
HIDDEN = "[64,64]"


def measure(options: argparse.Namespace) -> str:
    """Return the table of what the sweep spends on tracking."""
    runs, epochs = options.tracked_runs, options.tracked_epochs
    seeds = max(1, runs // len(DROPOUT))
    found = sampled([
        "-m", "bikefit.train", "-m", "data=full", f"network.hidden={HIDDEN}", "loss=mse",
        f"training.epochs={epochs}", f"regularization.dropout={','.join(DROPOUT)}",
        f"seed=range({seeds})",
    ])  # fmt: skip
    seconds = found.parent.spent("MLflow")
    closing = found.parent.main.get("closing: verdicts, table, reading back", 0.0)
    cores = sum(sum(one.cores.values()) for one in (found.parent, found.server, *found.workers))
    written = sum(v for k, v in found.parent.cores.items() if k.startswith("MLflow"))
    verdict = "met" if written < LIMIT * cores else "missed"
    rows = [
        ["whole sweep", f"{found.seconds:.1f}", "100 %", f"{cores:.1f}", "100 %"],
        ["tracking (all threads of the command)", f"{seconds:.1f}",
         f"{seconds / found.seconds:.1%}", f"{written:.1f}", f"{written / cores:.1%}"],
        ["closing: verdicts, table, reading back", f"{closing:.1f}",
         f"{closing / found.seconds:.1%}", "", ""],
    ]  # fmt: skip
    head = ("", "seconds", "share", "seconds of a core", "share")
    return (
        f"{table(head, rows)}\n\n"
        f"{seeds * len(DROPOUT)} runs × {epochs} epochs × {METRICS} metrics, hidden layers "
        f"{HIDDEN}, batch size 256, on table `full`; weights, predictions and configs are "
        f"written too. {1000 * written / (seeds * len(DROPOUT)):.0f} ms of a core a run. The "
        "command writes while its workers train on all cores and waits for a core half of the "
        "time; what the sweep is longer by is its share of the cores. "
        f"Goal: less than {LIMIT:.0%} of them, {verdict}. Larger networks make the share smaller."
    )
