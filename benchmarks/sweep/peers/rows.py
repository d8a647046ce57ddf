"""The rows that every peer trains on: table `full`, the target in units of its deviation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd


class Rows(NamedTuple):
    """Features ``(N, D)`` and target ``(N,)``, float32."""

    features: np.ndarray
    target: np.ndarray


def read() -> tuple[Rows, Rows]:
    """Read training and validation rows from the current folder's `data/features/full`."""
    train, validation = (
        pd.read_parquet(f"data/features/full/{part}.parquet") for part in ("train", "validation")
    )
    mean, std = train["rentals"].mean(), train["rentals"].std(ddof=0)

    def rows(table: pd.DataFrame) -> Rows:
        features = table.drop(columns=["timestamp", "rentals"])
        target = (table["rentals"] - mean) / std
        # Copies, since rows that lie one after the other are fetched faster.
        return Rows(np.array(features, np.float32, order="C"), np.array(target, np.float32))

    return rows(train), rows(validation)
