"""Members: one network each with its own strengths, seed and fold. Known without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from bikefit.config import Settings
from bikefit.nn.specs import LayerSpec, mlp
from bikefit.training.folds import Pool


@dataclass(frozen=True)
class Member:
    """One network to train.

    Args:
        settings: what the job's config says.
        fold: number of its fold, or None with holdout validation.
        fingerprint: names its checkpoints; without one it keeps none.
        version: data version that its table must have where it is trained; any, if empty.
    """

    settings: Settings
    fold: int | None = None
    fingerprint: str = ""
    version: str = ""


class Stopped(Exception):  # noqa: N818  (nothing went wrong)
    """Training was asked to stop."""


@dataclass(frozen=True)
class Failure:
    """Why a member has no result.

    Args:
        reason: in words; the last line says it in short.
        killed: stopped from outside rather than failed.
    """

    reason: str
    killed: bool = False


@dataclass(frozen=True)
class MemberResult:
    """What came out of one member.

    Args:
        metrics: by name, one value an epoch, the first of epoch 1.
        final: what was measured once, at the selected epoch (losses of a constant prediction,
            model averaging).
        selected: epoch whose parameters count: the best with early stopping, else the last.
        failure: why the member failed or was stopped, or None.
        state: parameters and buffers of the selected epoch by name.
        predictions: time, rentals and predicted rentals (bikes/hour) of the validation rows, in
            time order.
        layers: the network as the list of its layers, as ``network.layers`` may state it.
        parameters: number of parameters of the network.
        train_rows, val_rows: number of rows it trained on and was validated on.
    """

    metrics: dict[str, np.ndarray]
    final: dict[str, float]
    selected: int
    failure: Failure | None
    state: dict[str, np.ndarray]
    predictions: tuple[np.ndarray, np.ndarray, np.ndarray]
    layers: list[dict[str, Any]]
    parameters: int
    train_rows: int
    val_rows: int


def layers(settings: Settings, features: int) -> list[LayerSpec]:
    """Write the network that the settings describe as a list of layers."""
    network = settings.network
    if network.layers is not None:
        opened = network.allow or ()
        return [LayerSpec(layer.name, layer.target, layer.args, opened) for layer in network.layers]
    regularization = settings.regularization
    return mlp(
        features,
        network.hidden,
        network.activation,
        regularization.batch_norm,
        regularization.dropout_scaling,
    )


def stack_key(member: Member, pool: Pool) -> str:
    """Return as text what members of a stack must have in common; ``pool`` holds its rows."""
    settings = member.settings
    fold = pool.folds(settings)[member.fold or 0]
    features = pool.features.shape[1]
    shared = {
        "table": str(settings.data.path),
        "layers": [str(spec) for spec in layers(settings, features)],
        "loss": settings.loss,
        "optimizer": settings.optimizer.model_dump(exclude={"lr"}),
        "averaged": settings.regularization.averaged,
        "epochs": settings.training.epochs,
        "probe": settings.training.probe_epochs,
        "batch": min(settings.training.batch_size, len(fold.train)),
        "steps": len(fold.train) // min(settings.training.batch_size, len(fold.train)),
        "accelerator": settings.trainer.accelerator,
    }
    return json.dumps(shared, sort_keys=True)
