"""Fit networks on rows for a fixed number of epochs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bikefit.config import Settings
from bikefit.data.transformer import Transformer
from bikefit.errors import BikefitError
from bikefit.final.model import Ensemble
from bikefit.nn.fitted import FittedNetwork
from bikefit.training.fit import fit_stack
from bikefit.training.folds import Pool
from bikefit.training.members import Member, stack_key


def fit_networks(
    settings: Sequence[Settings], transformer: Transformer, rows: pd.DataFrame, target: str
) -> Ensemble:
    """Return the ensemble of networks fitted on all of the rows.

    The transformer is fitted again; ``target`` is the column of the target.

    Raises:
        BikefitError: The training of a network failed.
    """
    transformer = transformer.refit(rows)
    matrix = transformer.transform(rows)
    values = rows[target].to_numpy(np.float32)
    # Training needs validation rows. The result does not depend on them: the first 24 rows, again.
    used = np.append(np.arange(len(rows)), np.arange(min(24, len(rows))))
    pool = Pool(matrix[used], values[used], used, used, train_rows=len(rows))
    members = [Member(one) for one in settings]
    keys = pd.Series([stack_key(member, pool) for member in members])
    mean, std = float(rows[target].mean()), float(rows[target].std(ddof=0))
    networks = {}
    for stack in keys.groupby(keys).groups.values():
        results = fit_stack([members[i] for i in stack], pool)
        for i, result in zip(stack, results, strict=True):
            if result.failure:
                seed = settings[i].seed
                raise BikefitError(f"the refit with seed {seed} failed: {result.failure}")
            networks[i] = FittedNetwork(result.layers, result.state, settings[i].loss, mean, std)
    return Ensemble(transformer, [networks[i] for i in range(len(members))])
