"""The progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bikefit.sweeps import progress
from bikefit.sweeps.progress import ProgressBar
from bikefit.sweeps.recording import Recorder


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The descriptions of the bar."""
    texts: list[str] = []
    real = progress.tqdm.set_description_str

    def show(self: Any, text: str, refresh: bool = True) -> None:
        texts.append(text)
        real(self, text, refresh)

    monkeypatch.setattr(progress.tqdm, "set_description_str", show)
    return texts


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ([3.0, 2.5], "epoch 2 · train loss 2.5 · validation loss 4"),
        ([3.0, np.nan], "epoch 2 · train loss nan · validation loss 4"),  # diverged
    ],
)
def test_a_single_run_shows_its_losses(train: list[float], expected: str, shown: list[str]) -> None:
    recorder = Recorder()
    history = {"train/loss": np.array(train), "val/loss": np.array([5.0, 4.0])}
    recorder.histories[Path("a")] = [1, 2], [history]
    with ProgressBar(jobs=1, epochs=6, enabled=False) as bar:
        bar.update(recorder)
        assert bar.bar.n == 2
    assert shown == [expected]


def test_a_sweep_counts_the_epochs_of_all_members(shown: list[str]) -> None:
    recorder = Recorder()
    recorder.histories[Path("a")] = [1, 2, 3], [{}, {}]
    with ProgressBar(jobs=3, epochs=20, enabled=False) as bar:
        bar.epochs_done = 10
        bar.update(recorder)
        assert bar.bar.n == 16
    assert shown == []
