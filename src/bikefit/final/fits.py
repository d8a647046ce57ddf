"""Fitting chosen networks again, on rows that nobody holds out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bikefit.config import Settings
from bikefit.data.features import Features
from bikefit.data.featurize import Split, assemble, write_table
from bikefit.data.table import Table
from bikefit.data.transformer import Transformer
from bikefit.errors import BikefitError
from bikefit.final.choice import Choice
from bikefit.final.model import Ensemble, Networks
from bikefit.final.trees import FittedTrees
from bikefit.training.fit import fit_stack
from bikefit.training.folds import Pool, read_pool
from bikefit.training.members import Member, stack_key

NAME = "fitted"


class FitError(BikefitError):
    """The training of a network on all rows failed."""


def parts(table: Table, hours: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Divide clean rows as featurize divided the table; rows of no part are left out."""
    time = hours["timestamp"].to_numpy()
    return {
        part: hours[np.isin(time, table.read(part).timestamps)].reset_index(drop=True)
        for part in ("train", "validation", "test")
    }


def fit(choice: Choice, table: Table, hours: pd.DataFrame) -> tuple[Ensemble, FittedTrees | None]:
    """Fit the networks of a choice, and its trees if it has any, on all of the clean rows given.

    Raises:
        FitError: the training failed.
    """
    features = Transformer.load(table.path / "transformer.json").features
    networks = fit_ensemble(choice.members, choice.weights, features, hours)
    return networks, choice.trees.fit(hours) if choice.trees else None


def fit_ensemble(
    members: Sequence[Settings], weights: Sequence[float], features: Features, hours: pd.DataFrame
) -> Ensemble:
    """Fit networks on clean rows; those that can share a stack train side by side.

    The rows become a table of their own with features fitted on all of them. Training measures
    itself on some rows after each epoch; here these are rows it trains on, and nothing is chosen
    by them: epochs are fixed.

    Args:
        members: settings of each network, its seed among them.
        weights: of each network in the average.
        features: of all networks.
        hours: the rows.

    Raises:
        FitError: the training failed.
    """
    with tempfile.TemporaryDirectory() as root:
        transformer = _write(Path(root) / NAME, features, hours)
        pool = read_pool(Path(root) / NAME)
        stacks: dict[str, list[tuple[Member, float]]] = {}
        for settings, weight in zip(members, weights, strict=True):
            data = settings.data.model_copy(update={"name": NAME, "root": root})
            training = settings.training.model_copy(update={"probe": 0.0})  # nobody would read it
            member = Member(settings.model_copy(update={"data": data, "training": training}))
            stacks.setdefault(stack_key(member, pool), []).append((member, weight))
        fitted = [_networks([member for member, _ in s], pool, hours) for s in stacks.values()]
        ordered = [weight for stack in stacks.values() for _, weight in stack]
        return Ensemble(transformer, fitted, ordered)


def _write(folder: Path, features: Features, hours: pd.DataFrame) -> Transformer:
    cut = Split(kind="days", seed=0, validation=0, test=0)  # nothing is held out
    transformer, content = assemble(hours, features, np.full(len(hours), "train"))
    content["validation"] = content["train"].slice(0, 24)
    write_table(folder, content, features.standardized, cut)
    return transformer


def _networks(members: Sequence[Member], pool: Pool, hours: pd.DataFrame) -> Networks:
    results = fit_stack(members, pool)
    failures = [
        f"seed {m.settings.seed}: {r.failure}"
        for m, r in zip(members, results, strict=True)
        if r.failure
    ]
    if failures:
        raise FitError(f"fitting again failed: {'; '.join(failures)}")
    state = {name: np.stack([r.state[name] for r in results]) for name in results[0].state}
    target = hours["rentals"].to_numpy(np.float64)
    mean, std = float(target.mean()), float(target.std() or 1.0)
    return Networks(results[0].layers, state, members[0].settings.loss, mean, std)
