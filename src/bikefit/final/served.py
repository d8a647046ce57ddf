"""Code that MLflow runs to load and serve the registered model."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from bikefit.final.model import load

Params = dict[str, Any] | None


class ServedModel(PythonModel):
    """Adapter of :class:`bikefit.final.model.Model` to MLflow."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model's files."""
        self.model = load(Path(context.artifacts["model"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Params = None
    ) -> pd.DataFrame:
        """Return expected, low, high and error of each row; missing numbers are None (null)."""
        answer = self.model.predict(model_input).astype(object)
        return answer.where(answer.notna(), None)


set_model(ServedModel())
