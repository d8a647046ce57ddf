"""Paths of a sweep: configurations that differ in one setting alone, and what they say of each.

The most direct evidence of the recipe's step 6. Whether more or less flexibility is better is
read from a neighbour that differs in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bikefit.comparison.labels import FRACTION, settings
from bikefit.comparison.noise import CONFIDENCE, Difference, Sample, difference
from bikefit.comparison.ranking import comparison, measure
from bikefit.config import STRENGTHS

# The last part of a swept key: its name, its unit, and whether more of it makes a network more (+1)
# or less (-1) flexible; all others are drawn without regions.
KEYS: dict[str, tuple[str, str, int]] = {
    **{key: (sign, "", direction) for key, (sign, direction) in STRENGTHS.items()},
    "width": ("width", "units a layer", 1), "depth": ("depth", "hidden layers", 1),
    "epochs": ("epochs", "", 1), "patience": ("patience", "epochs", 1),
    "lr": ("learning rate", "", 0), "batch_size": ("batch size", "rows", 0), "p_norm": ("p", "", 0),
}  # fmt: skip


@dataclass(frozen=True)
class Path:
    """Configurations that differ in one setting alone.

    Args:
        key: the setting.
        values: of it, ascending.
        configurations: in the order of the values.
        fixed: what else is set, where there are several paths of the same key.
    """

    key: str
    values: tuple[float, ...]
    configurations: tuple[str, ...]
    fixed: str = ""

    @property
    def last(self) -> str:
        """The key without its group."""
        return self.key.rsplit(".", 1)[-1]

    @property
    def label(self) -> str:
        """What the setting is called."""
        name = KEYS[self.last][0] if self.last in KEYS else self.last.replace("_", " ")
        layer = self.key.removeprefix("regularization.layers.")
        return name if layer == self.key else f"{layer.split('.')[0]} {name}"

    @property
    def axis(self) -> str:
        """The label with its unit."""
        unit = KEYS[self.last][1] if self.last in KEYS else ""
        return f"{self.label} ({unit})" if unit else self.label

    @property
    def direction(self) -> int:
        """+1 if more of it is more flexible, -1 if less, 0 if that cannot be said."""
        return KEYS[self.last][2] if self.last in KEYS else 0

    @property
    def trains_on(self) -> bool:
        """Whether more of it is training that goes on: whom that helps was not finished."""
        return self.last == "epochs"

    def sides(self, configuration: str) -> dict[int, list[str]]:
        """List who is less (-1) and who more (+1) flexible than a configuration of the path."""
        if not self.direction:
            return {}
        place = self.configurations.index(configuration)
        lower, higher = self.configurations[:place], self.configurations[place + 1 :]
        found = {-self.direction: list(lower), self.direction: list(higher)}
        return {side: others for side, others in found.items() if others}

    def value(self, configuration: str) -> float:
        """Return the setting's value of a configuration of the path."""
        return self.values[self.configurations.index(configuration)]


@dataclass(frozen=True)
class Evidence:
    """What a path says of a configuration: the best of those more or of those less flexible.

    Args:
        path: on which both lie.
        side: +1 if the other is more flexible, -1 if less.
        start, end: the setting's value of the configuration and of the other.
        gain: by how much the other's loss is lower.
        loss: of the configuration.
    """

    path: Path
    side: int
    start: float
    end: float
    gain: Difference
    loss: float

    def clear(self, least: float, confidence: float = CONFIDENCE) -> bool:
        """Say whether the other is better beyond the noise and by more than a share of the loss."""
        return self.gain.value > least * self.loss and self.gain.beyond(confidence)


def evidence(
    name: str, sample: Sample, paths: Sequence[Path], others: Mapping[str, Sample], level: float
) -> list[Evidence]:
    """Ask every path of a configuration whether its best on either side is better.

    Args:
        name: of the configuration.
        sample: of it, or of one of its runs.
        paths: of the sweep.
        others: samples of the configurations that were validated on the same rows.
        level: see :func:`bikefit.comparison.noise.difference`.
    """
    found = []
    for path in paths:
        if name not in path.configurations:
            continue
        for side, beside in path.sides(name).items():
            known = [other for other in beside if other in others]
            if known:
                best = min(known, key=lambda other: others[other].loss)
                gain = difference(sample, others[best], level)
                found.append(
                    Evidence(path, side, path.value(name), path.value(best), gain, sample.loss)
                )
    return found


def find_paths(runs: pd.DataFrame) -> list[Path]:
    """Find every setting along which a sweep has configurations with all other settings equal.

    Widths and depths are read from networks whose layers are equally wide.

    Args:
        runs: as :func:`bikefit.tracking.reading.read_runs` gives them.

    Returns:
        Those that reach the lowest validation loss first, key by key.
    """
    if runs.empty or "loss" not in runs:
        return []
    table, frame = comparison(runs), numbered(runs)
    loss, names = table[f"val_{measure(table)}"], table["configuration"]
    found: list[Path] = []
    for key in [k for k in frame if pd.api.types.is_numeric_dtype(frame[k])]:
        others = [other for other in frame if other != key]
        finished = frame[loss.notna() & frame[key].notna()]
        if finished[key].nunique() < 2:
            continue
        groups = [
            group.index
            for _, group in finished.groupby(others, dropna=False, sort=False)
            if group[key].nunique() >= 2
        ]
        groups.sort(key=lambda group: loss[group].min())
        firsts = frame.loc[[group[0] for group in groups]]
        apart = [str(other) for other in others if firsts[other].nunique() > 1]
        for group in groups:
            values = frame[key].loc[group].groupby(names[group]).first().sort_values()
            told = {other: firsts[other][group[0]] for other in apart}
            if told.get(FRACTION) == 1:  # all rows are what goes without saying
                del told[FRACTION]
            fixed = ", ".join(_setting(other, value) for other, value in told.items())
            found.append(
                Path(str(key), tuple(map(float, values)), tuple(map(str, values.index)), fixed)
            )
    return found


def numbered(runs: pd.DataFrame) -> pd.DataFrame:
    """The settings, widths and depth in the place of the list of widths, truths as text."""
    frame = runs[settings(runs)].copy()
    hidden = frame.pop("network.hidden") if "network.hidden" in frame else pd.Series("", runs.index)
    widths = hidden.astype(object).fillna("").astype(str).str.strip("[]")
    lists = widths.str.split(",")
    even = lists.map(lambda width: len(set(width)) == 1)
    frame["network.width"] = pd.to_numeric(lists.str[0].where(even), errors="coerce")
    frame["network.depth"] = lists.map(len).where(widths != "", 0)
    frame["network.shape"] = widths.mask(even, "")
    truths = frame.select_dtypes("bool")
    return frame.assign(**{str(key): truths[key].astype(str) for key in truths})


def _setting(key: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{key.rsplit('.', 1)[-1].replace('_', ' ')} {text or 'none'}"
