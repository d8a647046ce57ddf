"""Fit the networks and trees of a plan on clean rows, for a fixed number of epochs."""

from __future__ import annotations

from collections.abc import Sequence

import joblib
import numpy as np
import pandas as pd

from bikefit.config import Settings
from bikefit.data.columns import TARGET, read_clean
from bikefit.data.features import Features
from bikefit.data.splits import PARTS
from bikefit.data.table import Table
from bikefit.data.transformer import Transformer
from bikefit.errors import BikefitError, DataError
from bikefit.final.choose import RefitPlan
from bikefit.final.model import Ensemble, Networks
from bikefit.training.fit import fit_stack
from bikefit.training.folds import Pool
from bikefit.training.members import Member, stack_key


class FitError(BikefitError):
    """The training of a network failed."""


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


def fit_plans(
    tasks: Sequence[tuple[RefitPlan, pd.DataFrame]], features: Features, processes: int | None
) -> list[Ensemble]:
    """Fit each plan on its clean rows, in parallel; None stands for one process per core."""
    print(f"Fitting {sum(len(plan.members) for plan, _ in tasks)} networks …")
    return joblib.Parallel(n_jobs=min(len(tasks), processes or joblib.cpu_count()))(
        joblib.delayed(fit_plan)(plan, features, hours) for plan, hours in tasks
    )


def fit_plan(plan: RefitPlan, features: Features, hours: pd.DataFrame) -> Ensemble:
    """Fit the networks and trees of a plan on clean rows; see :func:`refit_ensemble`."""
    networks = refit_ensemble(plan.members, plan.weights, features, hours)
    return networks.with_trees(plan.trees.fit(hours), plan.trees_weight) if plan.trees else networks


def refit_ensemble(
    members: Sequence[Settings], weights: Sequence[float], features: Features, hours: pd.DataFrame
) -> Ensemble:
    """Fit networks, each with a weight in the average, on clean rows, without validation rows.

    Raises:
        FitError: The training of a network failed.
    """
    transformer = Transformer.fit(features, hours)
    matrix = transformer.transform(hours)
    target, time = hours[TARGET].to_numpy(np.float32), hours["timestamp"].to_numpy()
    # Training needs validation rows. The first 24 rows serve as such, and nothing depends on them.
    rows = np.concatenate([np.arange(len(hours)), np.arange(len(hours))[:24]])
    pool = Pool(matrix[rows], target[rows], time[rows], train_rows=len(hours))
    stacks: dict[str, list[tuple[Member, float]]] = {}
    for settings, weight in zip(members, weights, strict=True):
        training = settings.training.model_copy(update={"probe": 0.0})  # its result is not used
        member = Member(settings.model_copy(update={"training": training}))
        stacks.setdefault(stack_key(member, pool), []).append((member, weight))
    networks = [_fit_networks([member for member, _ in s], pool, hours) for s in stacks.values()]
    return Ensemble(transformer, networks, [weight for s in stacks.values() for _, weight in s])


def _fit_networks(members: Sequence[Member], pool: Pool, hours: pd.DataFrame) -> Networks:
    results = fit_stack(members, pool)
    for member, result in zip(members, results, strict=True):
        if result.failure:
            raise FitError(f"the refit with seed {member.settings.seed} failed: {result.failure}")
    state = {name: np.stack([r.state[name] for r in results]) for name in results[0].state}
    target = hours[TARGET].to_numpy(np.float64)
    mean, std = float(target.mean()), float(target.std() or 1.0)
    return Networks(results[0].layers, state, members[0].settings.loss, mean, std)
