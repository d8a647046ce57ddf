"""Is training finished? `python benchmarks/convergence.py`: the default recipe, then twice as long.

Every network of the default comparison, from linear to the largest, is trained with the epochs of
`conf/training/default.yaml` and with twice as many, everything else equal. Where that changes the
validation loss by more than its spread over seeds, or by more than a hundredth, the table says
whether the run itself had said so (its metric `unfinished`) and what the longer training did to
the train loss. What the verdicts rest on is whether underfitting remains.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import bikefit.train  # noqa: F401  (registers what the config needs)
from bikefit.comparison.verdicts import read_thresholds
from bikefit.config import Settings, parse, regularization_label
from bikefit.training.fit import fit_stack
from bikefit.training.members import Member

CONF = Path(__file__).parents[1] / "conf"
SEEDS = (0, 1, 2)
LARGE = "network.hidden=[128,128]"
CASES = (
    ("network=linear",),
    *((f"network.hidden=[{width},{width}]",) for width in (3, 8, 32, 128, 256)),
    (LARGE, "regularization.l1=0.01"), (LARGE, "regularization.l2=0.1"),
    (LARGE, "regularization.l2=1"), (LARGE, "regularization.weight_decay=1"),
    (LARGE, "regularization.dropout=0.5"), (LARGE, "regularization.dropout=0.9"),
)  # fmt: skip


def settings(*overrides: str) -> Settings:
    """Compose a config as the shell does."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    return parse(config)


def measure(table: str, case: tuple[str, ...], factor: int) -> dict[str, np.ndarray]:
    """Train a configuration over all seeds, `factor` times as long as the default."""
    base = settings(f"data={table}", "optimizer=adamw", *case)
    longer = base.training.model_copy(update={"epochs": factor * base.training.epochs})
    members = [
        Member(base.model_copy(update={"training": longer, "seed": seed})) for seed in SEEDS
    ]  # fmt: skip
    results = fit_stack(members)
    last = {name: [r.metrics[name][-1] for r in results] for name in ("train/loss", "val/loss")}
    found = last | {"unfinished": [r.final["unfinished"] for r in results]}
    return {name: np.array(values) for name, values in found.items()}


def row(table: str, case: tuple[str, ...]) -> str:
    """A configuration's row of the table."""
    once, twice = (measure(table, case, factor) for factor in (1, 2))
    one = settings(f"data={table}", *case)
    network = "×".join(map(str, one.network.hidden)) or "linear"
    val, longer = once["val/loss"], twice["val/loss"]
    change, spread = longer.mean() - val.mean(), val.std(ddof=1)
    says = once["unfinished"].mean()
    if abs(change) <= max(spread, 0.01 * val.mean()):
        word = "finished"
    else:
        word = "overfits more" if change > 0 else "not finished"
        word += ", and says so" if says > read_thresholds().unfinished else ""
    return (
        f"| {table} | {regularization_label(one)} · {network} | {one.optimizer.lr:g} "
        f"| {once['train/loss'].mean():.3f} → {twice['train/loss'].mean():.3f} "
        f"| {val.mean():.3f} ± {spread:.3f} → {longer.mean():.3f} | {change:+.3f} "
        f"| {says:.1%} | {word} |"
    )


def report(tables: tuple[str, ...], processes: int) -> str:
    """Write the table as Markdown."""
    rows = joblib.Parallel(n_jobs=processes)(
        joblib.delayed(row)(table, case) for table in tables for case in CASES
    )
    epochs = settings().training.epochs
    head = "\n".join([
        "| table | configuration | learning rate | train loss | validation loss | change "
        "| `unfinished` | |",
        "|:--|:--|--:|--:|--:|--:|--:|:--|",
    ])  # fmt: skip
    return (
        f"""# Is training finished?

`make bench-convergence` wrote this: the default recipe ({epochs} epochs, one cycle, the network's
own learning rate) against twice as many epochs, {len(SEEDS)} seeds each; ± is the standard
deviation over seeds. *Finished*: the validation loss changes by less than that, or by less than a
hundredth. *Overfits more*: the train loss goes on falling and the validation loss rises, so that
more epochs make the same verdict, overfitting, stronger. `unfinished` is what a run itself says:
the share by which its train loss would fall if it trained on, as far as a look ahead shows; above
{read_thresholds().unfinished:.0%} it is never called underfitting.

{head}
"""
        + "\n".join(rows)
        + "\n"
    )


def main() -> None:
    """Train, print, and perhaps write."""
    parser = argparse.ArgumentParser(description="Is training finished?")
    parser.add_argument("--tables", nargs="+", default=["rich", "full"])
    parser.add_argument("--processes", type=int, default=joblib.cpu_count())
    parser.add_argument("--write", action="store_true", help="write benchmarks/convergence.md")
    options = parser.parse_args()
    text = report(tuple(options.tables), options.processes)
    print(text)
    if options.write:
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    import convergence  # under its own name, so that worker processes find what they are sent

    convergence.main()
