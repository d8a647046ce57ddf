"""Paths of a sweep: configurations that differ in only one setting.

Paths are the most direct evidence for the recipe's step 6: whether a more or less flexible
configuration is better, all other settings being equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bikefit.comparison.runs import FRACTION, settings_of
from bikefit.config import STRENGTHS

# By the last part of a setting's key: its name, its unit, and whether more of it makes a network
# more (+1) or less (-1) flexible, or neither (0). For other settings the train loss decides.
KEYS: dict[str, tuple[str, str, int]] = {
    **{key: (label, "", -1) for key, label in STRENGTHS.items()},
    "width": ("width", "units per layer", 1),
    "depth": ("depth", "hidden layers", 1),
    "epochs": ("epochs", "", 1),
    "patience": ("patience", "epochs", 1),
    "lr": ("learning rate", "", 0),
    "batch_size": ("batch size", "rows", 0),
    "p_norm": ("p", "", 0),
    "fraction": ("fraction of the training rows", "", 0),
}


@dataclass(frozen=True)
class SettingPath:
    """Configurations that differ in only one setting.

    Args:
        key: Key of the setting.
        values: Values of the setting, ascending.
        configurations: Ids of the configurations, in the order of the values.
        direction: +1 if more of the setting is more flexible, -1 if less flexible, 0 if undefined.
        fixed: Other settings, if the sweep has several paths of the same key.
    """

    key: str
    values: tuple[float, ...]
    configurations: tuple[str, ...]
    direction: int
    fixed: str = ""

    @property
    def last(self) -> str:
        """The key without its group."""
        return self.key.rsplit(".", 1)[-1]

    @property
    def label(self) -> str:
        """The name of the setting."""
        name, _, _ = KEYS.get(self.last, (self.last.replace("_", " "), "", 0))
        layer = self.key.removeprefix("regularization.layers.")
        return name if layer == self.key else f"{layer.split('.')[0]} {name}"

    @property
    def axis_label(self) -> str:
        """The name of the setting with its unit."""
        unit = KEYS[self.last][1] if self.last in KEYS else ""
        return f"{self.label} ({unit})" if unit else self.label

    def alternatives(self, configuration: str) -> dict[int, list[str]]:
        """Return the less (-1) and the more (+1) flexible configurations of the path."""
        position = self.configurations.index(configuration)
        lower, higher = self.configurations[:position], self.configurations[position + 1 :]
        sides = {-self.direction: list(lower), self.direction: list(higher)}
        return {change: others for change, others in sides.items() if others and change}


def find_paths(table: pd.DataFrame) -> list[SettingPath]:
    """Return the paths of a sweep, for every setting first those with the lowest validation loss.

    Widths and depths are read from networks whose layers are equally wide.

    Args:
        table: of :func:`bikefit.comparison.runs.run_table`.
    """
    frame, loss, ids = path_settings(table), table["val_loss"], table["configuration_id"]
    train = table.groupby("configuration_id")["train_loss"].mean()
    paths: list[SettingPath] = []
    for key in frame.select_dtypes("number"):
        others = [other for other in frame if other != key]
        finished = frame[loss.notna() & frame[key].notna()]
        grouped = finished.groupby(others, dropna=False, sort=False)
        groups = [group.index for _, group in grouped if group[key].nunique() >= 2]
        groups.sort(key=lambda group: loss[group].min())
        firsts = frame.loc[[group[0] for group in groups]]
        varied = [str(other) for other in others if firsts[other].nunique() > 1]
        for group in groups:
            values = frame[key].loc[group].groupby(ids[group]).first().sort_values()
            fixed = ", ".join(
                _setting(other, value)
                for other, value in firsts.loc[group[0], varied].items()
                if not (other == FRACTION and value == 1)
            )
            last = str(key).rsplit(".", 1)[-1]
            direction = KEYS[last][2] if last in KEYS else _direction(train[values.index])
            names = tuple(values.index)
            paths.append(SettingPath(str(key), tuple(values), names, direction, fixed))
    return paths


def _direction(train: pd.Series) -> int:
    """Return +1 if the train loss falls along a path, -1 if it rises: flexibility lowers it."""
    return int(np.sign(train.iloc[0] - train.iloc[-1]))


def path_settings(table: pd.DataFrame) -> pd.DataFrame:
    """Return the settings of a run table, with width and depth instead of the list of widths.

    True and False are text, because only numbers make a path.
    """
    frame = settings_of(table)
    hidden = frame.get("network.hidden", pd.Series("", index=frame.index, dtype=object))
    frame = frame.drop(columns="network.hidden", errors="ignore")
    hidden = hidden.astype(object).fillna("").astype(str).str.strip("[]")
    widths = hidden.str.split(",")
    even = widths.map(lambda width: len(set(width)) == 1)
    frame["network.width"] = pd.to_numeric(widths.str[0].where(even), errors="coerce")
    frame["network.depth"] = widths.map(len).where(hidden != "", 0)
    frame["network.shape"] = hidden.mask(even, "")
    return frame.astype(dict.fromkeys(frame.select_dtypes("bool"), str))


def _setting(key: Any, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{str(key).rsplit('.', 1)[-1].replace('_', ' ')} {text or 'none'}"
