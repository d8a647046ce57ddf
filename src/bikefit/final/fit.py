"""Fit networks on clean rows for a fixed number of epochs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bikefit.config import Settings
from bikefit.data.bikes.columns import TARGET, read_clean
from bikefit.data.features import Features
from bikefit.data.splits import PARTS
from bikefit.data.table import Table
from bikefit.data.transformer import Transformer
from bikefit.errors import BikefitError, DataError
from bikefit.final.model import Ensemble
from bikefit.nn.fitted import FittedNetwork
from bikefit.training.fit import fit_stack
from bikefit.training.folds import Pool
from bikefit.training.members import Member, stack_key


def read_parts(table: Table) -> dict[str, pd.DataFrame]:
    """Return the clean rows of a table by ``train``, ``validation`` and ``test``, in time order.

    Raises:
        DataError: The clean table is missing or does not belong to the table, or the table has no
            test rows.
    """
    hours = read_clean().sort_values("timestamp", ignore_index=True)
    parts = {
        part: hours[hours["timestamp"].isin(table.read(part).timestamps)].reset_index(drop=True)
        for part in PARTS
    }
    if any(len(rows) != table.rows[part] for part, rows in parts.items()):
        raise DataError(f"the clean table does not belong to {table.path}: run `dvc repro`")
    if parts["test"].empty:
        raise DataError(
            f"table {table.name} has no test rows: set featurize.tables.{table.name}.split.test "
            "in params.yaml above 0, or choose a sweep over another table"
        )
    return parts


def merge_parts(*parts: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of several parts in time order."""
    return pd.concat(parts).sort_values("timestamp", ignore_index=True)


def fit_networks(settings: Sequence[Settings], features: Features, hours: pd.DataFrame) -> Ensemble:
    """Return the ensemble of networks fitted on all of the clean rows.

    Raises:
        BikefitError: The training of a network failed.
    """
    transformer = Transformer.fit(features, hours)
    matrix = transformer.transform(hours)
    target, time = hours[TARGET].to_numpy(np.float32), hours["timestamp"].to_numpy()
    # Training needs validation rows. The result does not depend on them: the first 24 rows, again.
    rows = np.append(np.arange(len(hours)), np.arange(24))
    pool = Pool(matrix[rows], target[rows], time[rows], train_rows=len(hours))
    members = [Member(one) for one in settings]
    keys = pd.Series([stack_key(member, pool) for member in members])
    mean, std = float(hours[TARGET].mean()), float(hours[TARGET].std(ddof=0))
    networks = {}
    for stack in keys.groupby(keys).groups.values():
        results = fit_stack([members[i] for i in stack], pool)
        for i, result in zip(stack, results, strict=True):
            if result.failure:
                seed = settings[i].seed
                raise BikefitError(f"the refit with seed {seed} failed: {result.failure}")
            networks[i] = FittedNetwork(result.layers, result.state, settings[i].loss, mean, std)
    return Ensemble(transformer, [networks[i] for i in range(len(members))])
