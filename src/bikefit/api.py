"""The commands as functions. Importing this module loads nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bikefit.comparison.result import Comparison


def sweep(overrides: Sequence[str]) -> Comparison:
    """Train a sweep in the current folder, the project's root, and compare its configurations.

    Args:
        overrides: The words after `python -m bikefit.train -m`, such as
            ``["regularization=none,l2,dropout", "seed=0,1"]``.

    Raises:
        ConfigError: A setting is wrong.
        DataError: The table is missing.
        TrackingError: MLflow has not taken all results; `python -m bikefit.send` sends them.
    """
    from bikefit.train import sweep as train

    return compare(train(overrides))


def compare(sweep: str | None = None) -> Comparison:
    """Compare the configurations of a sweep: tables, verdicts, figures.

    Args:
        sweep: Run id of the sweep; None for the latest sweep.

    Raises:
        TrackingError: There is no such sweep.
    """
    from bikefit.comparison import result

    return result.compare(sweep)


def predict(
    rows: pd.DataFrame | Mapping[str, Any], model: str = "models:/bikefit@champion"
) -> pd.DataFrame:
    """Predict the rentals of hours.

    Args:
        rows: A table, or one row, with the columns ``at``, ``temp`` (°C), ``humidity`` (%),
            ``windspeed`` (km/h), ``weather`` and optionally ``feels_like`` (°C) and ``holiday``.
        model: A registered model, or the folder of a model.

    Returns:
        One row per hour: ``expected``, ``low`` and ``high`` (bikes/hour; ``low`` and ``high`` bound
        a 90 % prediction interval), and ``error``, the reason why a row has no prediction, or "".

    Raises:
        DataError: There is no such model.
    """
    import pandas as pd

    from bikefit.final.predict import open_model

    return open_model(model).predict(pd.DataFrame([rows]) if isinstance(rows, Mapping) else rows)
