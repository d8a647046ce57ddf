"""MLflow's model registry: models that are used, and which of them is the champion."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import artifacts, pyfunc
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec

from bikefit.tracking import connection
from bikefit.tracking.connection import GONE, TrackingError
from bikefit.tracking.names import MODEL

CHAMPION = "champion"  # alias of the version in use


def register(
    run: str, name: str, folder: Path, example: pd.DataFrame, answer: pd.DataFrame,
    optional: Sequence[str], requirements: Sequence[str], tags: Mapping[str, str],
) -> int:  # fmt: skip
    """Log a saved model to a run, as code and plain files, and register it.

    Args:
        run: id of a refit's run.
        name: of the registered model.
        folder: what :meth:`bikefit.final.model.Model.save` wrote.
        example: input rows, whose types become the signature.
        answer: what the model says to them.
        optional: input columns that may be absent.
        requirements: exact pins; given, so that MLflow need not find them out, which is slow.
        tags: of the registered version.

    Returns:
        The number of the version.
    """
    connection.client()  # opens the store safely
    source = Path(__file__).parents[1]  # the package
    with (
        tempfile.TemporaryDirectory() as place,
        warnings.catch_warnings(),
        connection.convert_errors(),
        mlflow.start_run(run_id=run),
    ):
        # MLflow on its own type hints, and on ours, in place of which there is a signature.
        warnings.filterwarnings("ignore", ".*type hint.*")
        warnings.filterwarnings("ignore", "Operation with range is deprecated")  # within MLflow
        logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
        inferred = infer_signature(example, answer)
        columns: list[ColSpec | TensorSpec] = [
            ColSpec(column.type, column.name, required=column.name not in optional)
            for column in inferred.inputs
        ]
        code = Path(place) / source.name
        shutil.copytree(source, code, ignore=shutil.ignore_patterns("__pycache__"))
        logged = pyfunc.log_model(
            name=MODEL,
            python_model=str(source / "final/served.py"),
            artifacts={MODEL: str(folder)},
            code_paths=[str(code)],
            pip_requirements=list(requirements),
            signature=ModelSignature(Schema(columns), inferred.outputs),
            input_example=example,
            registered_model_name=name,
        )
    version = int(logged.registered_model_version)
    for key, value in tags.items():
        connection.client().set_model_version_tag(name, str(version), key, value)
    return version


def champion(name: str) -> dict[str, str] | None:
    """Return ``version``, ``run_id`` and the tags of the champion; None where there is none."""
    try:
        found = connection.client().get_model_version_by_alias(name, CHAMPION)
    except TrackingError as error:
        if error.code in GONE:
            return None
        raise
    return {**found.tags, "version": str(found.version), "run_id": str(found.run_id)}


def promote(name: str, version: int) -> None:
    """Make a version the champion."""
    connection.client().set_registered_model_alias(name, CHAMPION, str(version))


def model_folder(uri: str) -> Path:
    """Return the folder of a registered model's files, like that of ``models:/bikefit@champion``.

    Raises:
        TrackingError: there is no such model.
    """
    connection.client()
    try:
        return Path(artifacts.download_artifacts(uri)) / "artifacts" / MODEL
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"no model {uri} in {connection.address()}: run `python -m bikefit.refit` first"
        ) from error
