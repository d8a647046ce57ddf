"""Verdicts against the losses that stand beside them in the report, read with pandas alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import commands
from conftest import ROOT

SWEEP = [
    *("training.epochs=15", "training.batch_size=64", "seed=0,1,2"),
    "+hydra.sweeper.grids=[{network.hidden: '[1],[2],[4],[16],[64]'}, "
    "{network.hidden: '[64]', regularization.l2: '1e-3,1e-1,1,10'}]",
]
FORBIDDEN = {1: ("overfitting", "good fit"), -1: ("underfitting", "good fit")}


def contradictions(table: pd.DataFrame) -> list[str]:
    """Name configurations whose verdict the lowest mean loss of their path contradicts."""
    done = table.dropna(subset=["val_loss"])
    width = done["network"].str.extract(r"^mlp (\d+)$")[0].astype(float)
    on_widths = done[(done["regularization"] == "none") & width.notna()]
    widest = done[done["network"] == "mlp 64"]
    found = []
    for path, flexibility in ((on_widths, width), (widest, -done["regularization.l2"])):
        place = flexibility.groupby(done["configuration"]).first()
        losses = path.groupby("configuration")["val_loss"]
        mean, error = losses.mean(), losses.std() / losses.count() ** 0.5
        best = mean.idxmin()
        for name in mean.index.drop(best):
            lead, noise = mean[name] - mean[best], (error[name] ** 2 + error[best] ** 2) ** 0.5
            if lead < 0.05 * mean[name] or lead <= 3 * noise:
                continue
            side = 1 if place[best] > place[name] else -1
            given = done.loc[done["configuration"] == name, "verdict"]
            found += [f"{name}: {v}" for v in given if v in FORBIDDEN[side]]
    return found


@pytest.fixture
def table(workplace: Path) -> Iterator[pd.DataFrame]:
    """What the commands leave of a small sweep with a path of widths and one of l2."""
    (workplace / "conf").symlink_to(ROOT / "conf")
    for module, arguments in (("train", ["-m", *SWEEP]), ("compare", ["--reports", "reports"])):
        done = commands.run("-m", f"bikefit.{module}", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    yield pd.read_csv("reports/comparison.csv")


@pytest.mark.slow(seconds=20)
def test_no_verdict_contradicts_its_path(table: pd.DataFrame) -> None:
    assert table["configuration"].nunique() == 9
    assert table["verdict"].isin(["underfitting", "overfitting"]).any()
    assert contradictions(table) == []


def test_a_contradiction_is_found() -> None:
    rows = [
        (f"none · mlp {width}", "none", f"mlp {width}", 0.0, loss + seed / 100, "underfitting")
        for width, loss in ((4, 9.0), (16, 6.0), (64, 4.0))
        for seed in range(3)
    ]
    names = [
        "configuration",
        "regularization",
        "network",
        "regularization.l2",
        "val_loss",
        "verdict",
    ]
    made = pd.DataFrame(rows, columns=names)
    assert contradictions(made) == []
    for wrong in ("overfitting", "good fit"):
        made.loc[made["network"] == "mlp 16", "verdict"] = wrong
        assert contradictions(made) == [f"none · mlp 16: {wrong}"] * 3
