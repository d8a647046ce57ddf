"""Which configurations underfit, which overfit, which fit well, why, and what to try next.

The rule is in `docs/verdicts.md`. Nothing here reads from or writes to MLflow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import yaml
from pydantic import Field, ValidationError

from bikefit.comparison.noise import differences
from bikefit.comparison.paths import SettingPath, find_paths
from bikefit.comparison.runs import FRACTION
from bikefit.comparison.sentences import number
from bikefit.config import ConfigError
from bikefit.data.params import StrictModel, explain_errors

UNDERFITTING, OVERFITTING, GOOD_FIT = "underfitting", "overfitting", "good fit"
UNDECIDED = "undecided"
VERDICTS = (GOOD_FIT, UNDERFITTING, OVERFITTING, UNDECIDED)
CHANGES = {UNDERFITTING: +1, OVERFITTING: -1}  # in which direction of flexibility to go
THRESHOLDS = Path("conf/verdicts.yaml")

NEXT = {
    UNDERFITTING: "make it more flexible (larger model, weaker regularization, more epochs)",
    OVERFITTING: "make it less flexible (smaller model, stronger regularization) or add data",
    GOOD_FIT: "stop tuning",
}
MORE_DATA = "stop tuning; more data could narrow the gap of {} to the train loss"
MORE_SEEDS = "more seeds or more validation rows would decide"
ANOTHER_METHOD = "another method, as in the best configuration"
TRAIN_ON = "more epochs or a higher learning rate"
WIDEN = "a sweep with a more and a less flexible configuration would decide"

Share = Annotated[float, Field(gt=0, lt=1)]


class ThresholdError(ConfigError):
    """The file of thresholds is invalid."""


class Thresholds(StrictModel):
    """Thresholds of the rule; ``conf/verdicts.yaml`` explains the keys."""

    close: Share = 0.12
    unfinished: Share = 0.025


def read_thresholds(path: Path = THRESHOLDS) -> Thresholds:
    """Read thresholds; the defaults hold if there is no file.

    Raises:
        ThresholdError: names each wrong key, its value and what is allowed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Thresholds.model_validate({} if content is None else content)
    except FileNotFoundError:
        return Thresholds()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ThresholdError(f"{path} is not valid YAML: {error}") from None
    except ValidationError as errors:
        raise ThresholdError(f"{path}: {explain_errors(errors)}") from None


def judge(
    runs: pd.DataFrame,
    paths: Sequence[SettingPath] = (),
    thresholds: Thresholds | None = None,
) -> pd.DataFrame:
    """Judge configurations whose runs have the same training and validation rows.

    Args:
        runs: One row per run with a result: ``configuration_id``, ``seed``, ``train_loss`` and
            ``val_loss`` (lower is better), and optionally ``days`` and ``fold_losses`` (see
            :func:`bikefit.comparison.noise.differences`), and ``unfinished``, the fraction of the
            train loss by which further training would lower it.
        paths: Paths of these configurations.
        thresholds: The defaults if None.

    Returns:
        ``verdict``, ``reason`` and ``next`` by the id of the configuration.
    """
    t = thresholds or Thresholds()
    means = runs.groupby("configuration_id", sort=False)[["train_loss", "val_loss"]].mean()
    unfinished = runs.reindex(columns=["configuration_id", "unfinished"])
    means["unfinished"] = unfinished.groupby("configuration_id")["unfinished"].mean()
    best = means.sort_values("val_loss").iloc[0]
    # Seeds alone are the noise of the train loss.
    seeds = runs.drop(columns=["days", "fold_losses"], errors="ignore")
    train = differences(seeds, "train_loss", str(best.name)).add_prefix("train_")
    table = means.join(differences(runs, "val_loss", str(best.name))).join(train)
    judged = {
        name: _good_fit(row, best, len(table), t)
        or _bad_fit(row, best, table["val_loss"], paths, t)
        for name, row in table.iterrows()
    }
    return pd.DataFrame.from_dict(judged, orient="index", columns=["verdict", "reason", "next"])


def _good_fit(
    row: pd.Series, best: pd.Series, configurations: int, t: Thresholds
) -> tuple[str, str, str] | None:
    val = f"validation loss {number(row['val_loss'], best['val_loss'])}"
    if configurations == 1:
        return UNDECIDED, f"{val} has no other configuration to compare with", WIDEN
    if row["difference"] > t.close * abs(best["val_loss"]):
        return None
    gap = row["val_loss"] - row["train_loss"]
    following = MORE_DATA.format(number(gap, best["val_loss"])) if gap > 0 else NEXT[GOOD_FIT]
    if row.name == best.name:
        return GOOD_FIT, f"{val} is the best", following
    return GOOD_FIT, _above(row, best), following


def _bad_fit(
    row: pd.Series, best: pd.Series, val: pd.Series, paths: Sequence[SettingPath], t: Thresholds
) -> tuple[str, str, str]:
    underfits = row["train_difference"] >= row["difference"] / 2
    verdict = UNDERFITTING if underfits else OVERFITTING
    size = number(abs(row["train_difference"]), best["val_loss"])
    position = f"{size} {'above' if row['train_difference'] > 0 else 'below'}"
    train, its = (number(x["train_loss"], best["val_loss"]) for x in (row, best))
    conjunction = "and" if underfits else "but"
    reason = f"{_above(row, best)}, {conjunction} train loss {train} is {position} its {its}"
    if underfits and row["unfinished"] > t.unfinished:
        unfinished = f"more epochs would lower the train loss by {row['unfinished']:.0%}"
        return UNDECIDED, f"{reason}; training was not finished: {unfinished}", TRAIN_ON
    # Underfitting is visible on the training rows, overfitting on the validation rows.
    part, key = ("train", "train_") if underfits else ("validation", "")
    limit = row[f"{key}limit"]
    if row[f"{key}difference"] <= limit:
        noise = f"noise explains a difference of {number(limit, best['val_loss'])} in {part} loss"
        return UNDECIDED, f"{reason}; {noise}", MORE_SEEDS
    if labels := contradicting_paths(row.name, verdict, paths, val):
        side = "more" if underfits else "less"
        lowest = f"the lowest loss along {', '.join(labels)} is at no {side} flexible configuration"
        return UNDECIDED, f"{reason}; {lowest}", ANOTHER_METHOD
    return verdict, reason, NEXT[verdict]


def _above(row: pd.Series, best: pd.Series) -> str:
    low = best["val_loss"]
    size, val, lowest = (number(x, low) for x in (row["difference"], row["val_loss"], low))
    share = f" ({row['difference'] / abs(low):.1%})" if low else ""
    return f"validation loss {val} is {size}{share} above the best {lowest}"


def contradicting_paths(
    name: Hashable, verdict: str, paths: Sequence[SettingPath], val: pd.Series
) -> list[str]:
    """Return the labels of the paths of a configuration, if none is lowest where a verdict points.

    Args:
        name: Id of the configuration.
        verdict: Underfitting or overfitting.
        paths: Paths of the sweep.
        val: Validation loss by id.
    """
    labels = []
    for path in paths:
        if path.direction and name in path.configurations:
            lowest = val.reindex(path.configurations).idxmin()
            if lowest in path.alternatives(name).get(CHANGES[verdict], []):
                return []
            labels.append(path.label)
    return labels


def verdicts(table: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Return a run table with the verdict of each run, which is that of its configuration.

    Args:
        table: of :func:`bikefit.comparison.runs.run_table`.
        thresholds: The defaults if None.

    Returns:
        The table with ``verdict``, ``reason`` and ``next``. A run without a result has no verdict,
        and its failure as the reason.
    """
    columns = ["verdict", "reason", "next"]
    paths = find_paths(table)
    same_rows = ["table", "validation_rows", "folds", *table.columns.intersection([FRACTION])]
    groups = table.dropna(subset=["train_loss", "val_loss"]).groupby(same_rows, dropna=False)
    judged = [judge(group, paths, thresholds) for _, group in groups]
    given = (pd.concat(judged) if judged else pd.DataFrame(columns=columns)).astype(object)
    table = table.join(given, on="configuration_id")
    failed = table["val_loss"].isna()
    table.loc[failed, ["verdict", "next"]] = None
    missing = "without a result (status " + table["status"].astype(str) + ")"
    table.loc[failed, "reason"] = table["failure"].astype(object).fillna(missing)
    return table


def with_verdicts(ranking: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Add ``verdict``, ``reason`` and ``next``, as returned by :func:`verdicts`, to a ranking."""
    judged = runs.sort_values("verdict", kind="stable").drop_duplicates("configuration_id")
    columns = judged.set_index("configuration_id")[["verdict", "reason", "next"]]
    return ranking.join(columns, on="configuration_id")


def count_verdicts(table: pd.DataFrame) -> dict[str, int]:
    """Count how often each verdict was given."""
    return {name: int((table["verdict"] == name).sum()) for name in VERDICTS}
