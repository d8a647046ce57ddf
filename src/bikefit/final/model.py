"""The registered model: predicts expected rentals and an interval for rows that users write.

A saved model is a folder without executable content: `transformer.json`, `weights.safetensors` with
parameters and buffers of all networks, `trees.txt` if boosted trees are part of the average, and
`model.json` with everything else.
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
CHUNK = 4096  # rows that are predicted together, which limits memory


@dataclass(frozen=True, eq=False)
class Networks:
    """M networks with the same layers, which predict as one stack."""

    layers: Sequence[dict[str, Any]]
    state: dict[str, np.ndarray]  # parameters and buffers by name, (M, …) each
    loss: LossName
    mean: float  # of the training rows' target, like the standard deviation, bikes/hour
    std: float

    @torch.no_grad()
    def predict(self, features: torch.Tensor) -> np.ndarray:
        """Return each network's expected rentals for ``(N, D)`` features, ``(M, N)``, bikes/hour.

        Networks predict in evaluation mode and in double precision, so that a prediction does not
        depend on the other rows. Predictions of the squared loss below 1 bike/hour are set to 1.
        """
        specs = []
        for layer in self.layers:
            arguments = dict(layer)
            specs.append(LayerSpec(arguments.pop("name"), arguments.pop("_target_"), arguments))
        members = len(next(iter(self.state.values())))
        stack = Stack([build(specs, features.shape[1])] * members)
        stack.load({name: torch.from_numpy(value) for name, value in self.state.items()})
        stack.double().eval()
        loss = Loss(self.loss, torch.tensor(self.mean).double(), torch.tensor(self.std).double())
        chunks = [loss.predict(stack(chunk)) for chunk in features.split(CHUNK)]
        rentals = torch.cat(chunks, dim=1)
        return (rentals.clamp_min(SMALLEST_RATE) if self.loss == "mse" else rentals).numpy()


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Weighted average of networks and, optionally, of boosted trees."""

    transformer: Transformer
    stacks: Sequence[Networks]
    weights: Sequence[float]  # of the networks in the order of the stacks, then of the trees
    trees: FittedTrees | None = None

    def members(self, hours: pd.DataFrame) -> np.ndarray:
        """Return each member's expected rentals for clean rows, ``(M, N)``, bikes/hour."""
        features = torch.from_numpy(self.transformer.transform(hours)).double()
        predicted = [stack.predict(features) for stack in self.stacks]
        if self.trees is not None:
            predicted.append(self.trees.predict(hours)[None])
        return np.concatenate(predicted)

    def predict(self, hours: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and spread of the members for clean rows, ``(N,)`` each, bikes/hour."""
        return average(self.members(hours), self.weights)

    def with_trees(self, trees: FittedTrees, weight: float) -> Ensemble:
        """Return the average of these networks and of trees with the given weight, 0 to 1."""
        share = max(1 - weight, 1e-12)  # above 0, so that the networks can be averaged alone
        networks = share * np.array(self.weights) / sum(self.weights)
        return replace(self, weights=[*networks.tolist(), weight], trees=trees)


@dataclass(frozen=True, eq=False)
class Model:
    """An ensemble with its prediction interval and the statistics that parse a user's rows."""

    ensemble: Ensemble
    interval: Interval
    statistics: InputStatistics

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Predict rows with the columns of :mod:`bikefit.final.rows`.

        Returns:
            ``expected``, ``low`` and ``high`` (bikes/hour) and ``error`` of each row, with its
            index. ``error`` is empty if the row is valid; otherwise the numbers are NaN.
        """
        hours, errors = parse_rows(rows, self.statistics)
        answers = pd.DataFrame(np.nan, index=rows.index, columns=["expected", "low", "high"])
        valid = (errors == "").to_numpy()
        if valid.any():
            mean, spread = self.ensemble.predict(hours)
            low, high = self.interval.bounds(mean, spread)
            answers.loc[valid] = np.column_stack([mean, low, high])
        return answers.assign(error=errors)

    def save(self, folder: Path) -> None:
        """Write the model's files to a folder."""
        ensemble = self.ensemble
        ensemble.transformer.save(folder / "transformer.json")
        state = {
            f"{i}/{name}": np.ascontiguousarray(value)
            for i, stack in enumerate(ensemble.stacks)
            for name, value in stack.state.items()
        }
        save_file(state, folder / "weights.safetensors")
        content: dict[str, Any] = {
            "format": FORMAT,
            "stacks": [
                {"layers": list(s.layers), "loss": s.loss, "mean": s.mean, "std": s.std}
                for s in ensemble.stacks
            ],
            "weights": list(ensemble.weights),
            "interval": asdict(self.interval),
            "habits": asdict(self.statistics),
        }
        if ensemble.trees is not None:
            (folder / "trees.txt").write_text(ensemble.trees.text, encoding="utf-8")
            content["trees"] = {"names": ensemble.trees.names, "start": ensemble.trees.start}
        write_json(folder / "model.json", content)


def load(folder: Path) -> Model:
    """Read a model that :meth:`Model.save` wrote.

    Raises:
        DataError: The folder holds no model, or a model of another format.
    """
    try:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, this version reads {FORMAT!r}")
        states: list[dict[str, np.ndarray]] = [{} for _ in content["stacks"]]
        for key, value in load_file(folder / "weights.safetensors").items():
            i, name = key.split("/", 1)
            states[int(i)][name] = value
        pairs = zip(states, content["stacks"], strict=True)
        stacks = [Networks(state=state, **stack) for state, stack in pairs]
        trees = None
        if "trees" in content:
            text = (folder / "trees.txt").read_text(encoding="utf-8")
            trees = FittedTrees(text, **content["trees"])
        fitted = Transformer.load(folder / "transformer.json")
        return Model(
            Ensemble(fitted, stacks, content["weights"], trees),
            Interval(**content["interval"]),
            InputStatistics(**content["habits"]),
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder} is not a model of bikefit: {error}") from None


def average(
    members: np.ndarray, weights: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted mean and standard deviation of members, ``(M, N)`` to ``(N,)`` each.

    Equal weights give the unbiased variance. The standard deviation of a single member is 0.
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    mean = shares @ members
    correction = 1 - float(shares @ shares)  # 1 - 1 / M for equal weights
    if correction < 1e-9:
        return mean, np.zeros(members.shape[1])
    return mean, np.sqrt(shares @ (members - mean) ** 2 / correction)
