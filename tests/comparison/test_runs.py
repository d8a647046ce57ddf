from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from bikefit.comparison.runs import configuration_labels

Run = Callable[..., dict[str, Any]]


def test_what_most_runs_have_goes_without_saying(run: Run) -> None:
    runs = pd.DataFrame([run(seed=s, **{"training.epochs": e}) for s, e in
                         [(0, 30), (1, 30), (2, 30), (0, 60), (1, 8)]])  # fmt: skip
    assert configuration_labels(runs).tolist() == [
        *["none · mlp 256×256"] * 3,
        "none · mlp 256×256 · training.epochs=60", "none · mlp 256×256 · training.epochs=8",
    ]  # fmt: skip
    assert configuration_labels(runs.iloc[[0, 3]]).tolist() == [
        "none · mlp 256×256 · training.epochs=30", "none · mlp 256×256 · training.epochs=60",
    ]  # fmt: skip


def test_all_rows_go_without_saying_however_few_runs_have_them(run: Run) -> None:
    runs = pd.DataFrame([run(seed=s, **{"data.fraction": f}) for s, f in [(0, 0.1), (1, 0.1),
                                                                          (0, 1.0)]])  # fmt: skip
    assert configuration_labels(runs).tolist() == [
        *["none · mlp 256×256 · data.fraction=0.1"] * 2, "none · mlp 256×256",
    ]  # fmt: skip
