"""The trained network of a run, read from MLflow, with the rows that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from bikefit.config import Settings, parse
from bikefit.data.rows import in_order, read_rows
from bikefit.data.table import Table, read_table
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from bikefit.nn.fitted import FittedNetwork
from bikefit.nn.networks import Network
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """The trained network of a run.

    Args:
        network: Layers and parameters.
        transformer: Computes the features of rows.
        rows: Training and validation rows of :func:`~bikefit.data.rows.read_rows`, in order.
        table: Description of its table.
    """

    network: FittedNetwork
    transformer: Transformer
    rows: pd.DataFrame
    table: Table

    @property
    def module(self) -> Network:
        """The torch module in evaluation mode, ``(B, D) -> (B,)``."""
        return self.network.module(len(self.transformer.names))

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the predictions for rows, ``(N,)``, in the unit of the target."""
        return predict([self], rows)[0]


def predict(networks: Sequence[TrainedNetwork], rows: pd.DataFrame) -> list[np.ndarray]:
    """Return the predictions of each network; networks of a table share the features."""
    transformers = {network.table.path: network.transformer for network in networks}
    features = {
        path: torch.from_numpy(transformer.transform(rows)).double()
        for path, transformer in transformers.items()
    }
    return [network.network.predict(features[network.table.path]) for network in networks]


def load(run: str) -> TrainedNetwork:
    """Return the trained network of a run.

    Raises:
        TrackingError: There is no such run, or it has no weights.
        DataError: The run was not trained on all training rows of its table, the table is missing
            or was changed, or layers are from packages of ``network.allow``.
    """
    settings, table = settings_and_table(run)
    check_layers(run, settings)
    if settings.validation.name != "holdout" or settings.data.fraction < 1:
        raise DataError(f"run {run} did not train on all training rows of its table")
    layers, state = reading.read_artifact(run, "network.yaml"), reading.read_weights(run)
    if layers is None or state is None:
        raise TrackingError(f"run {run} has no weights: train with tracking.weights=true")
    rows, transformer = _rows_and_transformer(table.path, table.data_version)
    target = rows.loc[rows["part"] == "train", table.target]
    mean, std = float(target.mean()), float(target.std(ddof=0) or 1.0)
    listed = yaml.safe_load(layers)["layers"]
    network = FittedNetwork(listed, state, settings.loss, mean, std)
    return TrainedNetwork(network, transformer, rows, table)


def settings_of(run: str) -> Settings:
    """Return the settings of a run."""
    return parse(yaml.safe_load(reading.read_config(run)))


def settings_and_table(run: str) -> tuple[Settings, Table]:
    """Return the settings of a run and the table that it was trained on.

    Raises:
        TrackingError: There is no such run.
        DataError: The table is missing or was changed.
    """
    settings = settings_of(run)
    table = read_table(settings.data.path)
    if reading.read_run(run)["tags.data.version"].item() != table.data_version:
        raise DataError(f"{table.path} was changed since run {run} was trained: run `dvc repro`")
    return settings, table


def check_layers(run: str, settings: Settings) -> None:
    """Raise a DataError if layers are from packages of ``network.allow``."""
    if packages := settings.network.allow:
        raise DataError(
            f"run {run} has layers from {', '.join(packages)}: network.allow holds for the command "
            "that trained it only, so its network can be neither loaded nor refitted"
        )


@lru_cache(maxsize=1)
def _rows_and_transformer(path: Path, version: str) -> tuple[pd.DataFrame, Transformer]:
    """Return the training and validation rows of a table of this data version, in order."""
    rows = in_order(read_rows(read_table(path), "train", "validation"))
    return rows, Transformer.load(path / "transformer.json")
