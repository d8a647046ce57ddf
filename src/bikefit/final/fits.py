"""Fitting a chosen configuration again, on rows that nobody holds out, as one stack of seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bikefit.config import Settings
from bikefit.data.features import Features
from bikefit.data.featurize import Split, assemble, describe, write_table
from bikefit.data.table import Table
from bikefit.data.transformer import Transformer, load
from bikefit.final.choice import Choice
from bikefit.final.model import Ensemble
from bikefit.training.fit import fit_stack
from bikefit.training.members import Member, MemberResult

NAME = "fitted"


def parts(table: Table, hours: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Divide clean rows as featurize divided the table; rows of no part are left out."""
    time = hours["timestamp"].to_numpy()
    return {
        part: hours[np.isin(time, table.read(part).timestamps)].reset_index(drop=True)
        for part in ("train", "validation", "test")
    }


def fit(choice: Choice, table: Table, hours: pd.DataFrame, seeds: int) -> Ensemble:
    """Fit an ensemble on all of the clean rows given, in the same way as the sweep did.

    Raises:
        RuntimeError: the training failed.
    """
    features = load(table.path / "transformer.json").features
    return fit_ensemble(choice.settings, features, hours, seeds)


def fit_ensemble(
    settings: Settings, features: Features, hours: pd.DataFrame, seeds: int
) -> Ensemble:
    """Fit networks of several seeds on clean rows.

    The rows become a table of their own with features fitted on all of them. Training measures
    itself on some rows after each epoch; here these are rows it trains on, and nothing is chosen
    by them: epochs are fixed.

    Raises:
        RuntimeError: the training failed.
    """
    with tempfile.TemporaryDirectory() as root:
        transformer = _write(Path(root) / NAME, features, hours)
        data = settings.data.model_copy(update={"name": NAME, "root": root})
        training = settings.training.model_copy(update={"probe": 0.0})  # nobody would read it
        members = [
            Member(settings.model_copy(update={"data": data, "training": training, "seed": seed}))
            for seed in range(seeds)
        ]
        return _ensemble(fit_stack(members), settings, transformer, hours)


def _write(folder: Path, features: Features, hours: pd.DataFrame) -> Transformer:
    cut = Split(kind="days", seed=0, validation=0, test=0)  # nothing is held out
    transformer, content = assemble(hours, features, np.full(len(hours), "train"))
    content["validation"] = content["train"].slice(0, 24)
    names, scaled = transformer.features.names, transformer.features.standardized
    write_table(folder, transformer, content, describe(NAME, names, scaled, content, cut))
    return transformer


def _ensemble(
    results: Sequence[MemberResult], settings: Settings, transformer: Transformer,
    hours: pd.DataFrame,
) -> Ensemble:  # fmt: skip
    failures = [f"seed {i}: {r.failure}" for i, r in enumerate(results) if r.failure]
    if failures:
        raise RuntimeError(f"fitting again failed: {'; '.join(failures)}")
    state = {name: np.stack([r.state[name] for r in results]) for name in results[0].state}
    target = hours["rentals"].to_numpy(np.float64)
    mean, std = float(target.mean()), float(target.std() or 1.0)
    return Ensemble(transformer, results[0].layers, state, settings.loss, mean, std)
