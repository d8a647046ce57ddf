"""The model that is registered: raw rows in, expected rentals and an interval out.

A folder of three files that hold nothing that could run: `transformer.json`, `weights.safetensors`
with the parameters and buffers of all members, and `model.json` with all else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file, save_file

from bikefit.data import transformer as features
from bikefit.data.files import write_json
from bikefit.data.stage import DataError
from bikefit.final.interval import Interval
from bikefit.final.rows import Habits, read
from bikefit.nn.losses import SMALLEST_RATE, Loss, LossName
from bikefit.nn.networks import LayerSpec, build
from bikefit.nn.stacking import Stack

FORMAT = "bikefit model 1"
CHUNK = 4096  # rows predicted at once: bounds memory


@dataclass(frozen=True, eq=False)
class Ensemble:
    """M networks whose mean is predicted.

    Args:
        transformer: from clean rows to features.
        layers: the network as the list of its layers.
        state: parameters and buffers by name, ``(M, …)`` each.
        loss: mse or poisson, which tells the link.
        mean, std: of the target on the rows that the networks were fitted on, bikes/hour.
    """

    transformer: features.Transformer
    layers: Sequence[dict[str, Any]]
    state: dict[str, np.ndarray]
    loss: LossName
    mean: float
    std: float

    @torch.no_grad()
    def predict(self, hours: pd.DataFrame) -> np.ndarray:
        """Return each member's expected rentals for clean rows (bikes/hour), ``(M, N)``.

        Nothing is random and no row depends on another: networks are in evaluation mode, and in
        double precision, so that the number of rows asked for changes no digit that counts. The
        mse loss can predict less than nothing: below 1 bike/hour counts as 1.
        """
        matrix = torch.from_numpy(features.apply(self.transformer, hours)).double()
        stack = self._stack()
        loss = Loss(self.loss, torch.tensor(self.mean).double(), torch.tensor(self.std).double())
        parts = [loss.predict(stack(part)) for part in matrix.split(CHUNK)]
        rentals = torch.cat(parts, dim=1) if parts else matrix.new_empty(stack.size, 0)
        return (rentals.clamp_min(SMALLEST_RATE) if self.loss == "mse" else rentals).numpy()

    def _stack(self) -> Stack:
        width = len(self.transformer.features.names)
        specs = [
            LayerSpec(layer["name"], layer["_target_"],
                      {k: v for k, v in layer.items() if k not in ("name", "_target_")})
            for layer in self.layers
        ]  # fmt: skip
        members = len(next(iter(self.state.values())))
        stack = Stack([build(specs, width)] * members)
        stack.load({name: torch.from_numpy(value) for name, value in self.state.items()})
        return stack.double().eval()


@dataclass(frozen=True, eq=False)
class Model:
    """An ensemble with its interval, and how rows of a user are read."""

    ensemble: Ensemble
    interval: Interval
    habits: Habits

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Predict rows in the columns of :mod:`bikefit.final.rows`.

        Returns:
            A row for each, with its index: ``expected``, ``low`` and ``high`` (bikes/hour), and
            ``error``, a text where the row is wrong (its numbers are NaN), else empty.
        """
        hours, errors = read(rows, self.habits)
        found = pd.DataFrame(np.nan, index=rows.index, columns=["expected", "low", "high"])
        right = (errors == "").to_numpy()
        if right.any():
            members = self.ensemble.predict(hours)
            mean, spread = members.mean(axis=0), spread_of(members)
            low, high = self.interval.bounds(mean, spread)
            found.loc[right] = np.column_stack([mean, low, high])
        return found.assign(error=errors)

    def save(self, folder: Path) -> None:
        """Write the three files."""
        one = self.ensemble
        folder.mkdir(parents=True, exist_ok=True)
        features.save(one.transformer, folder / "transformer.json")
        state = {name: np.ascontiguousarray(value) for name, value in one.state.items()}
        save_file(state, folder / "weights.safetensors")
        about = {
            "format": FORMAT, "layers": list(one.layers), "loss": one.loss,
            "target": {"mean": one.mean, "std": one.std},
            "interval": asdict(self.interval), "habits": asdict(self.habits),
        }  # fmt: skip
        write_json(folder / "model.json", about)


def load(folder: Path) -> Model:
    """Read a model that :meth:`Model.save` wrote.

    Raises:
        DataError: the folder holds no model, or one of another format.
    """
    try:
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}, this version reads {FORMAT!r}")
        habits = about["habits"] | {"feels_like": tuple(about["habits"]["feels_like"])}
        ensemble = Ensemble(
            features.load(folder / "transformer.json"), about["layers"],
            load_file(folder / "weights.safetensors"), about["loss"], **about["target"],
        )  # fmt: skip
        return Model(ensemble, Interval(**about["interval"]), Habits(**habits))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is not a model of bikefit: {error}") from None


def spread_of(members: np.ndarray) -> np.ndarray:
    """Standard deviation between the members, ``(M, N)`` to ``(N,)``; 0 for one member."""
    return members.std(axis=0, ddof=1) if len(members) > 1 else np.zeros(members.shape[1])
