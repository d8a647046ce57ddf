"""A section of `params.yaml` to start from, guessed from a file."""

import re
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import yaml

from bikefit.data.cells import parse_times, read_frame
from bikefit.data.files import sha256
from bikefit.data.sources import FOLDER
from bikefit.data.table_params import RESERVED
from bikefit.errors import DataError

MANY: Final = 30  # more words are not made one-hot
FEW: Final = 12  # at most so many different whole numbers are categories
RARE: Final = 10  # rows of a category, below which a part of the rows may lack it
SMALL: Final = 0.1  # of the mean of the target: counts have values down to it
LEAK: Final = 0.999  # correlation with the target from which a column may contain it
YEAR: Final = 300  # days of data from which the day of the year is a feature
IDENTIFIER: Final = "another value in each row: an identifier"


def describe(path: Path, target: str) -> str:
    """Return a section for `featurize.tables` in `params.yaml` as YAML, with a reason per column.

    An identifier is a column of words, or of consecutive whole numbers, with another value in each
    row. A column may contain the target if their correlation is 0.999 or more, if it has the same
    target in each of its categories, or if the target is the sum of it and another column. Whole
    numbers are counts if the smallest is at most a tenth of their mean.

    Raises:
        DataError: The file cannot be read, or has no such column.
    """
    rows = read_frame(path)
    if target not in rows:
        raise DataError(
            f"{path} has no column {target!r}; its columns: {', '.join(map(str, rows))}"
        )
    name = re.sub(r"\W+", "_", path.name.split(".")[0].lower()).strip("_")
    name = name if re.match("[a-z]", name) else f"table_{name}"
    lines = [
        f"# {len(rows):,} rows. Correct it, and paste it below featurize.tables in params.yaml.",
        f"    {name}:",
        f"      source: {_quote(path.as_posix())}",
    ]
    if FOLDER.resolve() not in path.resolve().parents:
        lines.append(f"      sha256: {sha256(path)} # not needed for a file in {FOLDER}/")
    lines.append(f"      target: {_quote(target)} # {_describe_target(rows[target])}")
    lines.append('      unit: "" # of the target, for reports and axes')
    found, kind = _guess_columns(rows, target), "random"
    for time, reason in found["time"].items():
        lines.append(f"      time: {_quote(time)} # {reason}")
        kind = "days"
        for column, key, why in _guess_calendar(parse_times(rows[time])):
            if column not in rows:
                found[key][column] = why
    for key in ("one_hot", "cyclic", "standardized", "plain"):
        if found[key]:
            lines.append(f"      {key}:")
            lines += [f"        - {_quote(column)} # {why}" for column, why in found[key].items()]
    for column, why in found["groups"].items():
        lines.append(f"      # {column}: {why}")
        kind = f"groups, column: {_quote(column)}"
    lines.append(f"      split: {{kind: {kind}, seed: 0, validation: 0.2, test: 0.2}}")
    lines += [f"      # not used: {column}: {why}" for column, why in found[""].items()]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """Return text as a YAML scalar."""
    return yaml.safe_dump(text, allow_unicode=True, width=10**6).splitlines()[0]


def _describe_target(values: pd.Series) -> str:
    text = ""
    if missing := int(values.isna().sum()):
        text = f"missing in {missing:,} rows, which must be deleted; "
    valid = values.dropna()
    if not pd.api.types.is_numeric_dtype(valid):
        words = " and ".join(map(str, sorted(valid.unique())[:3]))
        hint = f": write yes and no in place of {words}" if valid.nunique() == 2 else ""
        return f"{text}words: a target must be a number, or yes and no{hint}"
    if set(valid.unique()) <= {0, 1}:
        return f"{text}{valid.mean():.0%} are 1 or yes: train with loss=bernoulli"
    low, high = f"{valid.min():g}", f"{valid.max():g}"
    if (valid % 1 == 0).all() and 0 <= valid.min() <= SMALL * valid.mean():
        return f"{text}counts from {low} to {high}: train with loss=poisson, or loss=mse"
    return f"{text}numbers from {low} to {high}: train with loss=mse"


def _guess_columns(rows: pd.DataFrame, target: str) -> dict[str, dict[str, str]]:
    """Return reasons by column, by the key of the section that names the column, "" if none."""
    leaks, found = _leaks(rows, target), defaultdict[str, dict[str, str]](dict)
    for name in map(str, rows.columns.drop(target)):
        key, why = _guess(rows[name])
        if key in ("time", "groups") and found[key]:
            key, why = "", f"a second column for {key}"
        if name in leaks:
            key, why = "", leaks[name]
        if name in RESERVED and key != "time":
            key, why = "", "its name is reserved: rename the column"
        found[key][name] = why
    return found


def _guess(values: pd.Series) -> tuple[str, str]:
    """Return the key of a column and the reason, from its values alone."""
    missing = int(values.isna().sum())
    if values.nunique() <= 1:
        return "", "the same value in every row"
    if missing:
        return "", f"missing in {missing:,} rows: fill it or delete these rows to use it"
    if values.dtype == bool:
        return "plain", "yes or no"
    return _guess_number(values) if pd.api.types.is_numeric_dtype(values) else _guess_words(values)


def _guess_words(values: pd.Series) -> tuple[str, str]:
    times, distinct = parse_times(values), values.nunique()
    if times.notna().all():
        return "time", f"from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"
    if distinct == len(values):
        return "", IDENTIFIER
    if distinct <= MANY:
        rarest = values.value_counts().tail(1)
        why = f"{distinct} different words"
        if rarest.iloc[0] < RARE:
            why += f"; {rarest.index[0]!r} in {rarest.iloc[0]} rows: merge rare words"
        return "one_hot", why
    each = len(values) / distinct
    return "groups", f"{distinct:,} words, each in {each:.1f} rows: groups that are not divided"


def _guess_number(values: pd.Series) -> tuple[str, str]:
    whole, distinct = bool((values % 1 == 0).all()), values.nunique()
    low, high = f"{values.min():g}", f"{values.max():g}"
    if whole and values.between(19000101, 21001231).all():
        times = parse_times(values)
        if times.notna().all():
            return "time", f"from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"
    if whole and distinct == len(values) > 2 and (values.diff().dropna() == 1).all():
        return "", IDENTIFIER
    if set(values.unique()) <= {0, 1}:
        return "plain", "0 or 1"
    if whole and distinct <= FEW:
        reason = f"{distinct} whole numbers from {low} to {high}"
        return "one_hot", f"{reason}: categories; amounts belong to standardized"
    return "standardized", f"numbers from {low} to {high}"


def _leaks(rows: pd.DataFrame, target: str) -> dict[str, str]:
    """Return the columns that may contain the target, with the reason."""
    if not pd.api.types.is_numeric_dtype(rows[target]) or rows[target].nunique() <= 1:
        return {}
    truth = rows[target].astype("float64")
    numbers = rows.drop(columns=target).select_dtypes(["number", "bool"]).astype("float64")
    varied = numbers.loc[:, numbers.nunique() > 1]
    leaks = {}
    for name in varied:
        strength = abs(np.corrcoef(varied[name].fillna(varied[name].mean()), truth.fillna(0))[0, 1])
        if strength >= LEAK:
            leaks[str(name)] = f"may contain the target: their correlation is {strength:.4f}"
    for name in rows.columns.difference([target, *numbers]):
        groups = truth.groupby(rows[name])
        if 1 < groups.ngroups <= len(rows) / 2 and (groups.nunique() <= 1).all():
            leaks[str(name)] = "may contain the target: it has one target in each category"
    for one, other in combinations(varied, 2):
        if np.allclose(varied[one] + varied[other], truth):
            leaks |= {str(one): f"may contain the target: with {other}, it sums to it"}
            leaks |= {str(other): f"may contain the target: with {one}, it sums to it"}
    return leaks


def _guess_calendar(times: pd.Series) -> list[tuple[str, str, str]]:
    """Return calendar columns that suit the times, each with a key of the section and a reason."""
    guesses = []
    if times.dt.hour.nunique() > 1:
        guesses += [("hour", "one_hot", "from `time`")]
    days = (times.max() - times.min()).days
    if days >= 14:
        guesses += [("weekday", "one_hot", "from `time`")]
        guesses += [("days_since_start", "standardized", "from `time`: the trend")]
    if days >= YEAR:
        guesses += [("day_of_year", "cyclic", "from `time`: sine and cosine of the season")]
    return guesses
