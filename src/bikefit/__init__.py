"""bikefit finds out which regularization makes a neural network fit rental-bike data well.

From Python the doors are those of the shell: :func:`sweep` is `python -m bikefit.train -m`,
:func:`compare` is `python -m bikefit.compare` and :func:`predict` is `python -m bikefit.predict`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # nothing is loaded before a door is gone through
    import pandas as pd

    from bikefit.comparison.compared import Comparison

__all__ = ["compare", "predict", "sweep"]


def sweep(overrides: Sequence[str]) -> Comparison:
    """Train a sweep in the current folder, the project's root, and compare its configurations.

    Args:
        overrides: what stands after `python -m bikefit.train -m`, one a word, such as
            ``["regularization=none,l2,dropout", "seed=0,1"]``.

    Raises:
        TrainingError: a setting is wrong or data are missing; names the key and what is allowed.
        TrackingError: MLflow has not taken all results; `bikefit.send` sends them.
    """
    from bikefit.train import sweep as train

    return compare(train(overrides))


def compare(sweep: str | None = None) -> Comparison:
    """Compare the configurations of a sweep: tables, verdicts, figures.

    Args:
        sweep: run id of it; None for the latest.

    Raises:
        TrackingError: there is no such sweep.
    """
    from bikefit.comparison.compared import compare as found

    return found(sweep)


def predict(
    rows: pd.DataFrame | Mapping[str, Any], model: str = "models:/bikefit@champion"
) -> pd.DataFrame:
    """Predict the rentals of hours.

    Args:
        rows: a table, or one row, with the columns ``at``, ``temp`` (°C), ``humidity`` (%),
            ``windspeed`` (km/h), ``weather`` and, if known, ``feels_like`` (°C) and ``holiday``.
        model: a registered model, or a folder of one.

    Returns:
        A row for each: ``expected``, ``low`` and ``high`` (bikes/hour; 9 of 10 such hours lie
        between), and ``error``, which says what is wrong with a row, and is empty where nothing is.

    Raises:
        DataError: there is no such model, or the folder holds none.
    """
    import pandas as pd

    from bikefit.predict import find

    return find(model).predict(pd.DataFrame([rows]) if isinstance(rows, Mapping) else rows)


class _Package(ModuleType):
    """Keeps its doors: importing the command of the same name would put the module there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
