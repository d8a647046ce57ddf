"""The registered model: predicts the target and an interval, or a probability, for a user's rows.

A saved model is a folder without executable content: `transformer.json`, `weights.safetensors` with
parameters and buffers of all networks, `trees.txt` if boosted trees are part of the model, and
`model.json` with everything else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from bikefit.data.bikes.rows import InputStatistics
from bikefit.data.files import write_json
from bikefit.data.inputs import TableInputs
from bikefit.data.params import StrictModel, validate
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from bikefit.final.interval import CountInterval, ResidualInterval
from bikefit.final.trees import FittedTrees
from bikefit.nn.fitted import FittedNetwork

FORMAT = "bikefit model 4"  # of the files; models of other formats are refused


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Weighted average of networks and boosted trees; ``share`` is the weight of the trees."""

    transformer: Transformer
    networks: Sequence[FittedNetwork]
    trees: FittedTrees | None = None
    share: float = 0.0

    def predict_each(self, hours: pd.DataFrame) -> np.ndarray:
        """Return the predictions of each network for rows, ``(M, N)``, in units of the target."""
        features = torch.from_numpy(self.transformer.transform(hours)).double()
        return np.stack([network.predict(features) for network in self.networks])

    def predict(self, hours: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and spread for rows, ``(N,)`` each; see :func:`mean_and_spread`."""
        trees = self.trees.predict(hours) if self.trees else None
        return mean_and_spread(self.predict_each(hours), trees, self.share)


def mean_and_spread(
    networks: np.ndarray, trees: np.ndarray | None = None, share: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean of predictions, and the standard deviation between networks.

    Predictions of networks are ``(M, N)``, those of trees and the results ``(N,)``; ``share`` is
    the weight of the trees, 0 to 1. The standard deviation is 0 for a single network.
    """
    mean, spread = networks.mean(axis=0), networks.std(axis=0, ddof=int(len(networks) > 1))
    return mean if trees is None else (1 - share) * mean + share * trees, spread


@dataclass(frozen=True, eq=False)
class Model:
    """An ensemble with its prediction interval and what parses a user's rows.

    Args:
        ensemble: The networks and trees.
        interval: The interval; None for probabilities.
        inputs: Columns of a user's rows.
        target: Name of the target.
        unit: Unit of the target, "" without a unit.
    """

    ensemble: Ensemble
    interval: CountInterval | ResidualInterval | None
    inputs: InputStatistics | TableInputs
    target: str
    unit: str

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return predictions of a user's rows.

        Returns:
            ``expected``, ``low`` and ``high``, in units of the target, or ``probability`` of a
            target of 0 and 1; and ``error``, empty if the row is valid. Otherwise the numbers are
            NaN.
        """
        parsed, errors = self.inputs.parse(rows)
        columns = ["expected", "low", "high"] if self.interval else ["probability"]
        answers = pd.DataFrame(np.nan, index=rows.index, columns=columns)
        valid = (errors == "").to_numpy()
        if valid.any():
            mean, spread = self.ensemble.predict(parsed)
            bounds = self.interval.bounds(mean, spread) if self.interval else ()
            answers.loc[valid] = np.column_stack([mean, *bounds])
        return answers.assign(error=errors)

    def save(self, folder: Path) -> None:
        """Write the model's files to a folder."""
        ensemble, networks, state = self.ensemble, [], {}
        for i, network in enumerate(ensemble.networks):
            values = dict(vars(network))
            for name, value in values.pop("state").items():
                state[f"{i}/{name}"] = np.asarray(value, order="C")
            networks.append(values)
        ensemble.transformer.save(folder / "transformer.json")
        save_file(state, folder / "weights.safetensors")
        content = Content(
            networks=networks,
            share=ensemble.share,
            interval=self.interval,
            inputs=self.inputs,
            target=self.target,
            unit=self.unit,
        )
        if trees := ensemble.trees:
            (folder / "trees.txt").write_text(trees.text, encoding="utf-8")
            columns = list(trees.columns.items())  # in order, which a JSON object would not keep
            content = content.model_copy(
                update={"trees": Trees(start=trees.start, columns=columns)}
            )
        write_json(folder / "model.json", content.model_dump(mode="json"))


class Trees(StrictModel):
    """What `model.json` has of boosted trees."""

    start: date | None
    columns: list[tuple[str, tuple[str, ...] | None]]


class Content(StrictModel):
    """Content of `model.json`."""

    format: str = FORMAT
    networks: list[dict[str, Any]]
    share: float
    trees: Trees | None = None
    interval: CountInterval | ResidualInterval | None
    inputs: InputStatistics | TableInputs
    target: str
    unit: str


def load(folder: Path) -> Model:
    """Read a model that :meth:`Model.save` wrote; any other folder raises a DataError."""
    try:
        values = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if (written := values["format"]) != FORMAT:
            raise ValueError(
                f"its format is {written!r}, this version of bikefit reads {FORMAT!r}; `python -m "
                "bikefit.refit --promote` registers a new model"
            )
        content = validate("model.json", Content, values)
        states: list[dict[str, np.ndarray]] = [{} for _ in content.networks]
        for key, value in load_file(folder / "weights.safetensors").items():
            i, name = key.split("/", 1)
            states[int(i)][name] = value
        pairs = zip(states, content.networks, strict=True)
        networks = [FittedNetwork(state=state, **network) for state, network in pairs]
        trees = None
        if content.trees:
            text = (folder / "trees.txt").read_text(encoding="utf-8")
            trees = FittedTrees(text, content.trees.start, dict(content.trees.columns))
        transformer = Transformer.load(folder / "transformer.json")
        ensemble = Ensemble(transformer, networks, trees, content.share)
        model = Model(ensemble, content.interval, content.inputs, content.target, content.unit)
        model.predict(pd.DataFrame(index=[0]))  # a damaged value of the inputs raises an error
        return model
    except (OSError, ValueError, LookupError, TypeError, SafetensorError, DataError) as error:
        raise DataError(f"{folder} is not a model of bikefit: {error}") from None
