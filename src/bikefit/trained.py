"""The trained network of a run, read from MLflow, with the hours that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from bikefit.config import parse
from bikefit.data.bikes.columns import TARGET, read_clean
from bikefit.data.table import PartName, read_table
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from bikefit.nn.fitted import FittedNetwork
from bikefit.nn.networks import Network
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError

USED: tuple[PartName, ...] = ("train", "validation")


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """The trained network of a run.

    Args:
        network: Layers and parameters.
        transformer: Computes the features of clean rows.
        hours: Clean rows of the table with ``part``: train or validation.
    """

    network: FittedNetwork
    transformer: Transformer
    hours: pd.DataFrame

    @property
    def module(self) -> Network:
        """The torch module in evaluation mode, ``(B, D) -> (B,)``."""
        return self.network.module(len(self.transformer.features.names))

    def predict(self, hours: pd.DataFrame) -> np.ndarray:
        """Return expected rentals for clean rows, ``(N,)``, bikes/hour."""
        features = torch.from_numpy(self.transformer.transform(hours)).double()
        return self.network.predict(features)


def load(run: str) -> TrainedNetwork:
    """Return the trained network of a run.

    Raises:
        TrackingError: There is no such run, or it has no weights.
        DataError: The run was not trained on all training rows of its table, or the table is
            missing or was changed.
    """
    settings = parse(yaml.safe_load(reading.read_config(run)))
    if settings.validation.name != "holdout" or settings.data.fraction < 1:
        raise DataError(f"run {run} did not train on all training rows of its table")
    layers, state = reading.read_artifact(run, "network.yaml"), reading.read_weights(run)
    if layers is None or state is None:
        raise TrackingError(f"run {run} has no weights: train with tracking.weights=true")
    table = read_table(settings.data.path)
    if reading.read_run(run)["tags.data.version"].item() != table.data_version:
        raise DataError(f"{table.path} was changed since run {run} was trained: run `dvc repro`")
    hours = _hours(table.path, table.data_version)
    target = hours.loc[hours["part"] == "train", TARGET]
    mean, std = float(target.mean()), float(target.std(ddof=0) or 1.0)
    listed = yaml.safe_load(layers)["layers"]
    network = FittedNetwork(listed, state, settings.loss, mean, std)
    return TrainedNetwork(network, Transformer.load(table.path / "transformer.json"), hours)


@lru_cache(maxsize=1)
def _hours(path: Path, version: str) -> pd.DataFrame:
    """Return the clean rows of a table of this data version."""
    table, hours = read_table(path), read_clean()
    parts = {time: part for part in USED for time in table.read(part).timestamps}
    hours = hours.assign(part=hours["timestamp"].map(parts)).dropna(subset=["part"])
    if len(hours) != len(parts):
        raise DataError(f"the clean table does not belong to {path}: run `dvc repro`")
    return hours.sort_values("timestamp", ignore_index=True)
