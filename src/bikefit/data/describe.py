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
    guesses = _guess_columns(rows, target)
    split = "days" if guesses["time"] else "random"
    for column in guesses["groups"]:
        split = f"groups, column: {_quote(column)}"
    name = re.sub(r"\W+", "_", path.name.split(".")[0].lower()).strip("_")
    lines = [
        f"# {len(rows):,} rows. Correct it, and paste it below featurize.tables in params.yaml.",
        f"    {name if re.match('[a-z]', name) else f'table_{name}'}:",
        f"      source: {_quote(path.as_posix())}",
    ]
    if FOLDER.resolve() not in path.resolve().parents:
        lines.append(f"      sha256: {sha256(path)} # not needed for a file in {FOLDER}/")
    lines.append(f"      target: {_quote(target)} # {_describe_target(rows[target])}")
    lines.append('      unit: "" # of the target, for reports and axes')
    lines += [f"      time: {_quote(time)} # {why}" for time, why in guesses["time"].items()]
    for key in ("one_hot", "cyclic", "standardized", "plain"):
        if guesses[key]:
            lines.append(f"      {key}:")
            lines += [f"        - {_quote(column)} # {why}" for column, why in guesses[key].items()]
    lines += [f"      # {column}: {why}" for column, why in guesses["groups"].items()]
    lines.append(f"      split: {{kind: {split}, seed: 0, validation: 0.2, test: 0.2}}")
    lines += [f"      # not used: {column}: {why}" for column, why in guesses[""].items()]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """Return text as a YAML scalar."""
    return yaml.safe_dump(text, allow_unicode=True, width=10**6).splitlines()[0]


def _describe_target(values: pd.Series) -> str:
    missing, valid = int(values.isna().sum()), values.dropna()
    text = f"missing in {missing:,} rows, which must be deleted; " if missing else ""
    if not pd.api.types.is_numeric_dtype(valid):
        return f"{text}words: a target must be a number, or yes and no"
    if set(valid.unique()) <= {0, 1}:
        return f"{text}{valid.mean():.0%} are 1 or yes: train with loss=bernoulli"
    low, high = f"{valid.min():g}", f"{valid.max():g}"
    if (valid % 1 == 0).all() and 0 <= valid.min() <= SMALL * valid.mean():
        return f"{text}counts from {low} to {high}: train with loss=poisson, or loss=mse"
    return f"{text}numbers from {low} to {high}: train with loss=mse"


def _guess_columns(rows: pd.DataFrame, target: str) -> dict[str, dict[str, str]]:
    """Return reasons by column, by the key of the section that names the column, "" if none."""
    guesses = defaultdict[str, dict[str, str]](dict)
    leaks = _leaks(rows, target)
    for name in map(str, rows.columns.drop(target)):
        key, why = ("", leaks[name]) if name in leaks else _guess(rows[name])
        if key in ("time", "groups") and guesses[key]:
            key, why = "", f"a second column for {key}"
        if name in RESERVED and key != "time":
            key, why = "", "its name is reserved: rename the column"
        guesses[key][name] = why
    for time in guesses["time"]:
        times = parse_times(rows[time])
        days = (times.max() - times.min()).days
        for column, key, suits in (
            ("hour", "one_hot", times.dt.hour.nunique() > 1),
            ("weekday", "one_hot", days >= 14),
            ("days_since_start", "standardized", days >= 14),
            ("day_of_year", "cyclic", days >= YEAR),
        ):
            if suits and column not in rows:
                guesses[key][column] = "from `time`"
    return guesses


def _guess(values: pd.Series) -> tuple[str, str]:
    """Return the key of a column and the reason, from its values alone."""
    numeric = pd.api.types.is_numeric_dtype(values)
    missing, distinct = int(values.isna().sum()), values.nunique()
    whole = numeric and bool((values % 1 == 0).all())
    counted = whole and len(values) > 2 and bool((values.diff().dropna() == 1).all())
    digits = whole and bool(values.between(19000101, 21001231).all())
    times = parse_times(values) if digits or not numeric else pd.Series(pd.NaT, values.index)
    span = f"from {values.min():g} to {values.max():g}" if numeric else ""
    each = f"each in {len(values) / max(distinct, 1):.1f} rows"
    categories = f"{distinct} whole numbers {span}: categories; amounts belong to standardized"
    rules = (
        (distinct <= 1, "", "the same value in every row"),
        (missing, "", f"missing in {missing:,} rows: fill it or delete these rows to use it"),
        (set(values.unique()) <= {0, 1}, "plain", "0 or 1, yes or no"),
        (times.notna().all(), "time", f"from {str(times.min())[:10]} to {str(times.max())[:10]}"),
        (counted, "", IDENTIFIER),
        (not numeric and distinct == len(values), "", IDENTIFIER),
        (not numeric and distinct <= MANY, "one_hot", f"{distinct} different words"),
        (not numeric, "groups", f"{distinct:,} words, {each}: groups that are not divided"),
        (whole and distinct <= FEW, "one_hot", categories),
    )
    fitting = ((key, why) for applies, key, why in rules if applies)
    return next(fitting, ("standardized", f"numbers {span}"))


def _leaks(rows: pd.DataFrame, target: str) -> dict[str, str]:
    """Return the columns that may contain the target, with the reason."""
    truth = pd.to_numeric(rows[target], errors="coerce").astype("float64")
    numbers = rows.drop(columns=target).select_dtypes(["number", "bool"]).astype("float64")
    numbers = numbers.loc[:, numbers.nunique() > 1]
    leaks = {}
    if truth.nunique() > 1:
        for name, strength in numbers.corrwith(truth).abs().items():
            if strength >= LEAK:
                leaks[str(name)] = f"their correlation is {strength:.4f}"
        for name in rows.columns.difference([target, *numbers]):
            groups = truth.groupby(rows[name])
            if 1 < groups.ngroups <= len(rows) / 2 and (groups.nunique() <= 1).all():
                leaks[str(name)] = "it has one target in each category"
        for pair in combinations(numbers, 2):
            if np.allclose(numbers[pair[0]] + numbers[pair[1]], truth):
                for name, other in (pair, pair[::-1]):
                    leaks[str(name)] = f"with {other}, it sums to it"
    return {name: f"may contain the target: {why}" for name, why in leaks.items()}
