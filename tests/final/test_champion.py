"""When the alias moves."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.final.champion import decide
from bikefit.tracking import reading, registry

TIME = np.arange("2012-01-01", "2012-03-01", dtype="datetime64[h]")
RATE = np.exp(np.random.default_rng(0).uniform(2, 5, len(TIME)))
RENTALS = np.random.default_rng(1).poisson(RATE)


def predictions(factor: float | np.ndarray) -> pd.DataFrame:
    """Right expectations times a factor."""
    return pd.DataFrame({"timestamp": TIME, "rentals": RENTALS, "predicted": factor * RATE})


@pytest.fixture
def champion(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A champion whose expectations are 10 % too high."""
    buffer = io.BytesIO()
    predictions(1.1).to_parquet(buffer)
    found: dict[str, Any] = {"version": "1", "run_id": "r", "data.version": "v"}
    monkeypatch.setattr(registry, "champion", lambda name: found or None)
    found["artifact"] = buffer.getvalue()
    monkeypatch.setattr(reading, "read_artifact", lambda run, name: found["artifact"])
    return found


def test_the_first_is_champion(champion: dict[str, Any]) -> None:
    champion.clear()
    assert decide("m", 1, predictions(3), "v") == (
        True, "There was no champion of m: version 1 is the first.",
    )  # fmt: skip


def test_a_clearly_better_one_becomes_champion(champion: dict[str, Any]) -> None:
    better, said = decide("m", 2, predictions(1.0), "v")
    assert better
    assert said.startswith("Version 2 of m becomes champion: its test deviance is ")
    assert "lower than that of the champion, version 1" in said


def test_a_worse_one_does_not(champion: dict[str, Any]) -> None:
    better, said = decide("m", 2, predictions(1.2), "v")
    assert not better
    assert said.startswith("Version 2 of m does not become champion: its test deviance is")
    assert "higher than that of the champion, version 1" in said


def test_one_that_is_better_within_the_noise_does_not(champion: dict[str, Any]) -> None:
    even = np.arange(len(TIME)) // 24 % 2 == 0
    better, said = decide("m", 2, predictions(np.where(even, 1.02, 1.13)), "v")
    assert not better and "lower than" in said
    gain, error = map(float, re.findall(r"(\d+\.\d{3})", said))
    assert 0 < gain < 2 * error


def test_a_test_on_other_data_says_nothing(champion: dict[str, Any]) -> None:
    better, said = decide("m", 2, predictions(1.0), "w")
    assert not better and "was tested on other data (v, now w)" in said
    assert "--promote" in said


def test_without_its_predictions_nothing_can_be_said(champion: dict[str, Any]) -> None:
    champion["artifact"] = None
    assert "has no test_predictions.parquet" in decide("m", 2, predictions(1.0), "v")[1]


@pytest.mark.slow
def test_a_model_is_no_better_than_itself(refitted: Path) -> None:
    present = registry.champion("bikefit")
    assert present is not None
    content = reading.read_artifact(present["run_id"], "test_predictions.parquet")
    same = pd.read_parquet(io.BytesIO(content or b""))
    better, said = decide("bikefit", 2, same, present["data.version"])
    assert not better and "0.000 bikes/hour" in said
