"""Members of a stack and their results. Importing this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bikefit.config import Settings
from bikefit.nn.specs import LayerSpec, mlp
from bikefit.training.folds import Pool

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Member:
    """A network to train, with its strengths, seed and fold.

    Args:
        settings: Settings of its job.
        fold: Number of its fold; None for holdout validation.
        fingerprint: Hash of all that its result depends on; needed for checkpoints.
        version: Data version that the table must have on the machine that trains; any if empty.
    """

    settings: Settings
    fold: int | None = None
    fingerprint: str = ""
    version: str = ""


class Stopped(Exception):  # noqa: N818  (not an error)
    """Training stops because the user interrupted the command."""


STOPPED = "stopped before the end of the first epoch"


@dataclass(frozen=True)
class MemberResult:
    """Result of a member; only ``failure`` is set if it failed before the end of its first epoch.

    Args:
        metrics: Values of each epoch by metric name, ``(E,)``; those of training rows are means
            over a sample of them.
        final: Values at the selected epoch by metric name (metrics of all training rows, loss of a
            constant prediction, probe, model averaging).
        selected: Number of the epoch whose parameters are used, from 1: the best with early
            stopping, otherwise the last.
        failure: Reason why the member failed or was stopped; the last line is a summary. Empty if
            it has finished.
        killed: Whether the member was stopped before the end of training.
        state: Parameters and buffers of the selected epoch by name.
        predictions: :meth:`~bikefit.training.folds.Pool.labels` and ``predicted`` of the
            validation rows, in the order of the keys, ``(V,)`` each.
        layers: Layers of the network in the format of ``network.layers``.
        parameters: Number of parameters of the network.
        train_rows, val_rows: Number of training and validation rows.
        timestamps: End of each epoch, in ms since 1970.
    """

    metrics: Arrays = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)
    selected: int = 0
    failure: str = ""
    killed: bool = False
    state: Arrays = field(default_factory=dict)
    predictions: Arrays = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    parameters: int = 0
    train_rows: int = 0
    val_rows: int = 0
    timestamps: list[int] = field(default_factory=list)


def layer_specs(settings: Settings, features: int) -> list[LayerSpec]:
    """Return the layers of the network of a configuration, for D = ``features`` columns."""
    network, regularization = settings.network, settings.regularization
    if network.layers is None:
        batch_norm, scaling = regularization.batch_norm, regularization.dropout_scaling
        return mlp(features, network.hidden, network.activation, batch_norm, scaling)
    allowed = network.allow or ()
    return [LayerSpec(layer.name, layer.target, layer.args, allowed) for layer in network.layers]


def stack_key(member: Member, pool: Pool) -> str:
    """Return a key: members with equal keys can share a stack. ``pool`` has their rows."""
    settings = member.settings
    rows = len(pool.folds(settings)[member.fold or 0].train)
    batch_size = min(settings.training.batch_size, rows)
    shared = (
        settings.data.path,
        layer_specs(settings, pool.features.shape[1]),
        settings.loss,
        settings.optimizer.model_dump(exclude={"lr"}),
        settings.regularization.averaged,
        settings.training.epochs,
        settings.training.probe_epochs,
        batch_size,
        rows // batch_size,
        settings.trainer.accelerator,
    )
    return str(shared)
