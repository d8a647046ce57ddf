"""When a version becomes the champion."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.final import publish
from bikefit.tracking import reading, registry

TIME = np.arange("2012-01-01", "2012-03-01", dtype="datetime64[h]")
RATE = np.exp(np.random.default_rng(0).uniform(2, 5, len(TIME)))
RENTALS = np.random.default_rng(1).poisson(RATE)


def make_rows(factor: float | np.ndarray) -> pd.DataFrame:
    """The test rows with predictions that are the truth times a factor."""
    return pd.DataFrame({"timestamp": TIME, "rentals": RENTALS, "predicted": factor * RATE})


@pytest.fixture
def champion(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A champion whose predictions are 10 % too high."""
    buffer = io.BytesIO()
    make_rows(1.1).to_parquet(buffer)
    tags: dict[str, Any] = {"version": "1", "run_id": "r", "data.version": "v"}
    monkeypatch.setattr(registry, "champion", lambda name: tags or None)
    monkeypatch.setattr(reading, "read_artifact", lambda run, name: buffer.getvalue())
    return tags


def compare(number: int, version: str, rows: pd.DataFrame) -> tuple[bool, str]:
    table = SimpleNamespace(data_version=version, target="rentals", unit="bikes/hour")
    data: Any = SimpleNamespace(table=table, model_name="bikefit")
    return publish.compare_with_champion("poisson", data, number, rows)


def test_the_first_version_becomes_champion(champion: dict[str, Any]) -> None:
    champion.clear()
    assert compare(1, "v", make_rows(3))[0]


EVEN = np.arange(len(TIME)) // 24 % 2 == 0


@pytest.mark.parametrize(
    ("factor", "better", "message"),
    [
        (1.0, True, "Version 2 of bikefit becomes champion: its test deviance is .* lower than"),
        (1.2, False, "Version 2 of bikefit does not become champion: its test .* higher than"),
        (np.where(EVEN, 1.02, 1.13), False, "lower than that of the champion, version 1"),
    ],
)
def test_the_lead_must_exceed_two_standard_errors(
    champion: dict[str, Any], factor: float | np.ndarray, better: bool, message: str
) -> None:
    decision, reason = compare(2, "v", make_rows(factor))
    assert decision == better
    assert re.search(message, reason)
    lead, error = map(float, re.findall(r"\d+\.\d{3}", reason))
    assert (lead > 2 * error) == (better or "higher" in reason)


def test_a_champion_of_other_data_stays(champion: dict[str, Any]) -> None:
    better, reason = compare(2, "w", make_rows(1.0))
    assert not better and "was tested with data version v, not w; use --promote" in reason


@pytest.mark.slow
def test_a_model_is_not_better_than_itself(refitted: Path) -> None:
    tags = registry.champion("bikefit")
    assert tags is not None
    content = reading.read_artifact(tags["run_id"], publish.TEST_PREDICTIONS)
    rows = pd.read_parquet(io.BytesIO(content or b""))
    better, reason = compare(2, tags["data.version"], rows)
    assert not better
    assert "its test deviance equals that of the champion, version 1 (standard error 0" in reason
    assert reason.endswith("standard errors); use --promote to make it the champion.")
