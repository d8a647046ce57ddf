"""What MLflow runs to serve the model: code instead of a pickle, with the model's files beside it.

Logged by :func:`bikefit.tracking.registry.register`; MLflow loads it in a process of its own.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from bikefit.final.model import load


class Served(PythonModel):
    """Answers raw rows; see :class:`bikefit.final.model.Model`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the model's files, once."""
        self.model = load(Path(context.artifacts["model"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Return expected, low, high and error of each row; no number is None, null in JSON."""
        answer = self.model.predict(model_input).astype(object)
        return answer.where(answer.notna(), None)


set_model(Served())
