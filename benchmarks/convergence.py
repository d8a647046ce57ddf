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
import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import bikefit.train  # noqa: F401  (registers what the config needs)
from bikefit.comparison.verdicts import Thresholds, read_thresholds
from bikefit.config import Settings, parse, regularization_label
from bikefit.training.fit import fit_stack
from bikefit.training.folds import read_pool
from bikefit.training.members import Member

CONF = Path(__file__).parents[1] / "conf"
SEEDS = (0, 1, 2)
LARGE = "network.hidden=[128,128]"
CASES = (
    ("network=linear",),
    *((f"network.hidden=[{width},{width}]",) for width in (3, 8, 32, 128, 256)),
    *((LARGE, f"regularization.l1={strength}") for strength in (0.01, 0.1)),
    *((LARGE, f"regularization.l2={strength}") for strength in (0.1, 0.3, 1)),
    *((LARGE, f"regularization.weight_decay={strength}") for strength in (1, 10)),
    *((LARGE, f"regularization.dropout={strength}") for strength in (0.5, 0.7, 0.8, 0.9)),
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
    results = fit_stack(members, read_pool(base.data.path))
    last = {name: [r.metrics[name][-1] for r in results] for name in ("train/loss", "val/loss")}
    found = last | {"unfinished": [r.final["unfinished"] for r in results]}
    return {name: np.array(values) for name, values in found.items()}


def case_of(table: str, case: tuple[str, ...]) -> dict[str, Any]:
    """Measure a configuration in both lengths, and what its run says of itself."""
    once, twice = (measure(table, case, factor) for factor in (1, 2))
    one = settings(f"data={table}", *case)
    network = "×".join(map(str, one.network.hidden)) or "linear"
    return {
        "table": table,
        "configuration": f"{regularization_label(one)} · {network}",
        "lr": one.optimizer.lr,
        "train": once["train/loss"].mean(),
        "longer_train": twice["train/loss"].mean(),
        "val": once["val/loss"].mean(),
        "spread": once["val/loss"].std(ddof=1),
        "longer_val": twice["val/loss"].mean(),
        "unfinished": once["unfinished"].mean(),
    }


def word(case: pd.Series, lowest: float, thresholds: Thresholds) -> str:
    """Say in a word or two what twice the epochs did.

    Args:
        case: a row of :func:`case_of`.
        lowest: validation loss of the table's best configuration, in whichever length.
        thresholds: of `conf/verdicts.yaml`.
    """
    change = case["longer_val"] - case["val"]
    if abs(change) <= 0.01 * case["val"]:
        return "finished"
    if abs(change) <= case["spread"]:
        return "within the noise"
    if change > 0:
        return "overfits more"
    behind = case["longer_val"] / lowest - 1
    said = ", and says so" if case["unfinished"] > thresholds.unfinished else ""
    left = f"; {behind:.0%} behind the best all the same" if behind > thresholds.close else ""
    return f"not finished{said}{left}"


def report(tables: tuple[str, ...], processes: int) -> str:
    """Write the table as Markdown."""
    thresholds = read_thresholds()
    cases = pd.DataFrame(
        joblib.Parallel(n_jobs=processes)(
            joblib.delayed(case_of)(table, case) for table in tables for case in CASES
        )
    )
    either = cases[["val", "longer_val"]].min(axis=1)
    lowest = either.groupby(cases["table"]).transform("min")
    rows = [
        f"| {case['table']} | {case['configuration']} | {case['lr']:g} "
        f"| {case['train']:.3f} → {case['longer_train']:.3f} "
        f"| {case['val']:.3f} ± {case['spread']:.3f} → {case['longer_val']:.3f} "
        f"| {case['longer_val'] - case['val']:+.3f} | {case['unfinished']:.1%} "
        f"| {word(case, best, thresholds)} |"
        for (_, case), best in zip(cases.iterrows(), lowest, strict=True)
    ]
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
deviation over seeds. *Finished*: the validation loss changes by less than a hundredth. *Within the
noise*: by more, but by less than one seed's standard deviation. *Overfits more*: the train loss
goes on falling and the validation loss rises, so that more epochs make the same verdict,
overfitting, stronger. *Behind the best all the same*: more epochs lower the loss, but twice as
many leave it further above the lowest of the table than "close" allows ({thresholds.close:.0%}):
what is left is not a matter of epochs. `unfinished` is what a run itself says: the share by which
its train loss would fall if it trained on, as far as a look ahead shows; above
{thresholds.unfinished:.1%} it is never called underfitting.

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
