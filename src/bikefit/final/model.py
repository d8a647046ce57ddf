"""The model that is registered: raw rows in, expected rentals and an interval out.

A folder of files that hold nothing that could run: `transformer.json`, `weights.safetensors` with
the parameters and buffers of all networks, `trees.txt` where boosted trees are averaged with them,
and `model.json` with all else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file, save_file

from bikefit.data.files import write_json
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from bikefit.final.interval import Interval
from bikefit.final.rows import InputStatistics, parse_rows
from bikefit.final.trees import FittedTrees
from bikefit.nn.losses import SMALLEST_RATE, Loss, LossName
from bikefit.nn.networks import LayerSpec, build
from bikefit.nn.stacking import Stack

FORMAT = "bikefit model 2"
CHUNK = 4096  # rows predicted at once: bounds memory


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks of equal layers, which predict as one stack.

    Args:
        layers: of each network, as a list.
        state: parameters and buffers by name, ``(M, …)`` each.
        loss: mse or poisson, which tells the link.
        mean, std: of the target on the rows that the networks were fitted on, bikes/hour.
    """

    layers: Sequence[dict[str, Any]]
    state: dict[str, np.ndarray]
    loss: LossName
    mean: float
    std: float

    @torch.no_grad()
    def predict(self, matrix: torch.Tensor) -> np.ndarray:
        """Return each network's expected rentals for features ``(N, D)``, ``(M, N)``, bikes/hour.

        Nothing is random and no row depends on another: networks are in evaluation mode, and in
        double precision, so that the number of rows asked for changes no digit that counts. The
        mse loss can predict less than nothing: below 1 bike/hour counts as 1.
        """
        stack = self._stack(matrix.shape[1])
        loss = Loss(self.loss, torch.tensor(self.mean).double(), torch.tensor(self.std).double())
        parts = [loss.predict(stack(part)) for part in matrix.split(CHUNK)]
        rentals = torch.cat(parts, dim=1) if parts else matrix.new_empty(stack.size, 0)
        return (rentals.clamp_min(SMALLEST_RATE) if self.loss == "mse" else rentals).numpy()

    def _stack(self, width: int) -> Stack:
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
class Ensemble:
    """M members whose weighted mean is predicted; networks of equal layers stand together.

    Args:
        transformer: from clean rows to features.
        stacks: the networks.
        weights: of the networks in the order of the stacks, and then of the trees, ``(M,)``.
        trees: boosted trees, if any.
    """

    transformer: Transformer
    stacks: Sequence[Networks]
    weights: Sequence[float]
    trees: FittedTrees | None = None

    def members(self, hours: pd.DataFrame) -> np.ndarray:
        """Return each member's expected rentals for clean rows (bikes/hour), ``(M, N)``."""
        matrix = torch.from_numpy(self.transformer.transform(hours)).double()
        found = [stack.predict(matrix) for stack in self.stacks]
        if self.trees is not None:
            found.append(self.trees.predict(hours)[None])
        return np.concatenate(found)

    def with_trees(self, trees: FittedTrees, share: float) -> Ensemble:
        """Return the average of these networks and of trees with the weight ``share``."""
        networks = (1 - share) * np.array(self.weights) / sum(self.weights)
        return replace(self, weights=[*networks.tolist(), share], trees=trees)

    def predict(self, hours: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and spread of the members for clean rows (bikes/hour), ``(N,)`` each."""
        return average(self.members(hours), self.weights)


@dataclass(frozen=True, eq=False)
class Model:
    """An ensemble with its interval, and how rows of a user are read."""

    ensemble: Ensemble
    interval: Interval
    statistics: InputStatistics

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Predict rows in the columns of :mod:`bikefit.final.rows`.

        Returns:
            A row for each, with its index: ``expected``, ``low`` and ``high`` (bikes/hour), and
            ``error``, a text where the row is wrong (its numbers are NaN), else empty.
        """
        hours, errors = parse_rows(rows, self.statistics)
        found = pd.DataFrame(np.nan, index=rows.index, columns=["expected", "low", "high"])
        right = (errors == "").to_numpy()
        if right.any():
            mean, spread = self.ensemble.predict(hours)
            low, high = self.interval.bounds(mean, spread)
            found.loc[right] = np.column_stack([mean, low, high])
        return found.assign(error=errors)

    def save(self, folder: Path) -> None:
        """Write the files."""
        one = self.ensemble
        folder.mkdir(parents=True, exist_ok=True)
        one.transformer.save(folder / "transformer.json")
        state = {
            f"{place}/{name}": np.ascontiguousarray(value)
            for place, stack in enumerate(one.stacks)
            for name, value in stack.state.items()
        }
        save_file(state, folder / "weights.safetensors")
        stacks = [
            {"layers": list(stack.layers), "loss": stack.loss, "mean": stack.mean, "std": stack.std}
            for stack in one.stacks
        ]
        about = {
            "format": FORMAT, "stacks": stacks, "weights": list(one.weights),
            "interval": asdict(self.interval), "habits": asdict(self.statistics),
        }  # fmt: skip
        if one.trees is not None:
            (folder / "trees.txt").write_text(one.trees.text, encoding="utf-8")
            about["trees"] = {"names": list(one.trees.names), "start": one.trees.start}
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
        statistics = about["habits"] | {"feels_like": tuple(about["habits"]["feels_like"])}
        states: list[dict[str, np.ndarray]] = [{} for _ in about["stacks"]]
        for key, value in load_file(folder / "weights.safetensors").items():
            place, name = key.split("/", 1)
            states[int(place)][name] = value
        stacks = [
            Networks(state=state, **stack)
            for state, stack in zip(states, about["stacks"], strict=True)
        ]
        transformer = Transformer.load(folder / "transformer.json")
        trees = None
        if "trees" in about:
            text = (folder / "trees.txt").read_text(encoding="utf-8")
            trees = FittedTrees(text, **about["trees"])
        ensemble = Ensemble(transformer, stacks, about["weights"], trees)
        return Model(ensemble, Interval(**about["interval"]), InputStatistics(**statistics))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder} is not a model of bikefit: {error}") from None


def average(
    members: np.ndarray, weights: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted mean and standard deviation of members, ``(M, N)`` to ``(N,)`` each.

    Equal weights give the usual unbiased variance; a single member has the spread 0.
    """
    share = np.asarray(weights, np.float64) / np.sum(weights)
    mean = share @ members
    room = 1 - float(share @ share)  # 1 - 1 / M for equal weights
    if room < 1e-9:
        return mean, np.zeros(members.shape[1])
    return mean, np.sqrt(share @ (members - mean) ** 2 / room)
