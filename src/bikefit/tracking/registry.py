"""Registered models in MLflow, and their version in use (the champion)."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from mlflow import artifacts, pyfunc
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec

from bikefit.tracking.connection import (
    NotFoundError,
    RetryingProxy,
    TrackingError,
    address,
    artifact_location,
    artifacts_of,
    client,
    local_path,
    server,
)
from bikefit.tracking.local_models import store_folder
from bikefit.tracking.names import MODEL

CHAMPION = "champion"  # alias of the version in use


def register(
    run: str,
    name: str,
    folder: Path,
    example: pd.DataFrame,
    answer: pd.DataFrame,
    optional: Sequence[str],
    requirements: Sequence[str],
    tags: Mapping[str, str],
) -> int:
    """Attach a saved model and its code to a run, register it and return the version's number.

    Args:
        run: Id of a refit's run.
        name: Name of the registered model.
        folder: Folder written by :meth:`bikefit.final.model.Model.save`.
        example: Input rows, whose types become the signature.
        answer: The model's predictions for ``example``.
        optional: Input columns that may be absent.
        requirements: Exact versions of packages. Inferring them in MLflow would be slow.
        tags: Tags of the registered version.
    """
    package = Path(__file__).parents[1]
    inferred = infer_signature(example, answer)
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(column.type, column.name, required=column.name not in optional)
        for column in inferred.inputs
    ]
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        # MLflow warns about type hints, from which it would infer a signature.
        warnings.filterwarnings("ignore", ".*type hint.*")
        warnings.filterwarnings("ignore", "Operation with range is deprecated")  # within MLflow
        logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
        code = Path(temporary) / package.name
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__"))
        saved = Path(temporary) / MODEL
        pyfunc.save_model(
            saved,
            python_model=str(package / "final/served.py"),
            artifacts={MODEL: str(folder)},
            code_paths=[str(code)],
            pip_requirements=list(requirements),
            signature=ModelSignature(Schema(columns), inferred.outputs),
            input_example=example,
        )
        artifacts_of(run).log_artifacts(str(saved), MODEL)
    try:
        client().get_registered_model(name)
    except NotFoundError:
        client().create_registered_model(name)
    source = f"{artifact_location(run)}/{MODEL}"
    return int(client().create_model_version(name, source, run, tags=dict(tags)).version)


def champion(name: str) -> dict[str, str] | None:
    """Return ``version``, ``run_id`` and the tags of the champion; None if there is none."""
    try:
        version = client().get_model_version_by_alias(name, CHAMPION)
    except NotFoundError:
        return None
    return {**version.tags, "version": str(version.version), "run_id": str(version.run_id)}


def promote(name: str, version: int) -> None:
    """Make a version the champion."""
    client().set_registered_model_alias(name, CHAMPION, str(version))
    model_folder(f"models:/{name}@{CHAMPION}")  # stores the folder for the next prediction


def model_folder(uri: str) -> Path:
    """Return the folder of ``models:/bikefit@champion`` or ``models:/bikefit/2``.

    Files on a server are downloaded; for a database, the folder is stored for `find_folder`.
    """
    name, _, alias = uri.removeprefix("models:/").partition("@")
    name, _, version = (name, "", "") if alias else name.partition("/")
    missing = f"no model {uri} in {address()}: run `python -m bikefit.refit` first"
    try:
        version = version or client().get_model_version_by_alias(name, alias).version
        location = client().get_model_version_download_uri(name, version)
    except NotFoundError as error:
        raise TrackingError(missing) from error
    saved = RetryingProxy(artifacts).download_artifacts(local_path(location))
    folder = Path(saved) / "artifacts" / MODEL
    if not folder.is_dir():
        raise TrackingError(missing)
    if server() is None:
        store_folder(uri, folder)
    return folder
