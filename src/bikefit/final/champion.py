"""Is a new model better than the present champion by more than the noise?"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from bikefit.final.scores import day_sums, lead
from bikefit.tracking import reading, registry

PREDICTIONS = "test_predictions.parquet"
"""Artifact of a refit: timestamp, rentals and predicted (bikes/hour) of the test rows."""


STANDARD_ERRORS = 2.0  # of the paired difference by days, by which a new champion must be better


def decide(
    name: str, version: int, predictions: pd.DataFrame, data_version: str
) -> tuple[bool, str]:
    """Say whether a version becomes champion, and why.

    Both were measured on the same test rows, so the difference of their mean Poisson deviances is
    bootstrapped by whole days; the lead must be more than two of its standard errors.

    Args:
        name: of the registered model.
        version: the new one.
        predictions: its test rows, in the columns of :data:`PREDICTIONS`.
        data_version: of the table.
    """
    present = registry.champion(name)
    if present is None:
        return True, f"There was no champion of {name}: version {version} is the first."
    who = f"the champion, version {present['version']}"
    stays = f"Version {version} of {name} does not become champion"
    if present.get("data.version") != data_version:
        return False, (
            f"{stays}: {who}, was tested on other data ({present.get('data.version')}, now "
            f"{data_version}), so nothing can be said; --promote moves the alias all the same."
        )
    content = reading.read_artifact(present["run_id"], PREDICTIONS)
    if content is None:
        return False, f"{stays}: {who}, has no {PREDICTIONS}; --promote moves the alias."
    old = pd.read_parquet(io.BytesIO(content))
    if not np.array_equal(old["timestamp"], predictions["timestamp"]):
        return False, f"{stays}: {who}, was tested on other rows; --promote moves the alias."
    gain, error = lead(_sums(predictions), _sums(old))["deviance"]
    better = gain > STANDARD_ERRORS * error
    verb = "lower" if gain > 0 else "higher"
    measured = (
        f"its test deviance is {abs(gain):.3f} bikes/hour {verb} than that of {who}, with a "
        f"standard error of {error:.3f}; more than {STANDARD_ERRORS:g} of them are asked for"
    )
    if better:
        return True, f"Version {version} of {name} becomes champion: {measured}."
    return False, f"{stays}: {measured}."


def _sums(predictions: pd.DataFrame) -> np.ndarray:
    columns = ("timestamp", "rentals", "predicted")
    return day_sums(*(predictions[name].to_numpy() for name in columns))
