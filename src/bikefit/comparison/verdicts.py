"""Which runs of a sweep underfit, which overfit, which fit well, why, and what to try next.

The rule and its limits are in `docs/verdicts.md`. Nothing here speaks to the store: tables in,
tables out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import yaml
from pydantic import Field, ValidationError

from bikefit.comparison.ranking import comparison, measure, number
from bikefit.config import ConfigError
from bikefit.data.checks import Section, explain

UNDERFITTING, OVERFITTING, GOOD_FIT = "underfitting", "overfitting", "good fit"
UNDECIDED = "undecided"
VERDICTS = (GOOD_FIT, UNDERFITTING, OVERFITTING, UNDECIDED)
THRESHOLDS = Path("conf/verdicts.yaml")

MORE_FLEXIBLE = "more flexible: a larger network, weaker regularization"
MORE_EPOCHS = "more epochs, or more flexible: a larger network, weaker regularization"
LESS_FLEXIBLE = "less flexible: stronger regularization, a smaller network; or more data"
STOP_EARLIER = "fewer epochs or early stopping (regularization.patience)"
STOP = "stop"
MORE_DATA = "stop tuning; more data would narrow the gap"

Share = Annotated[float, Field(gt=0, lt=1)]


class ThresholdError(ConfigError):
    """A file of thresholds that verdicts cannot be given with."""


class Thresholds(Section):
    """What counts as noise, as close and as learned; ``conf/verdicts.yaml`` explains the keys."""

    noise: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    assumed_noise: Share = 0.05
    close: Share = 0.1
    learned: Share = 0.02
    small_gap: Share = 0.1
    bias_share: Share = 0.4
    memorized: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 3.0


def read_thresholds(path: Path = THRESHOLDS) -> Thresholds:
    """Read thresholds; without the file, as outside the project's root, the defaults hold.

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
        raise ThresholdError(f"{path}: {explain(errors, Thresholds)}") from None


@dataclass(frozen=True)
class Verdict:
    """What is said of a run or a configuration; of one that failed only the reason."""

    verdict: str | None
    reason: str
    next: str | None


@dataclass(frozen=True)
class Case:
    """What was measured of a run, or of a configuration as the mean of its runs.

    Args:
        train, val: losses at the selected epoch.
        noise: standard error of ``val`` that seeds (of a configuration) and folds show.
        rows: number of validation rows, NaN where the folds say how noisy they are.
        lowest: lowest validation loss of any epoch, NaN where it is not known.
        rising: share of the epochs that came after that lowest loss, NaN where not known.
        constant_train, constant_val: losses of a constant prediction, NaN where not known.
    """

    train: float
    val: float
    noise: float
    rows: float
    lowest: float
    rising: float
    constant_train: float
    constant_val: float


@dataclass(frozen=True)
class Sweep:
    """What all configurations of a sweep that share their validation rows say together.

    Args:
        best: the configuration with the lowest validation loss.
        trains: train loss of every configuration.
        saturated: whether networks with hidden layers of different sizes come close to the best,
            so that a larger one did no better.
    """

    best: Case
    trains: tuple[float, ...]
    saturated: bool

    @property
    def noise_level(self) -> float:
        """The loss that no network can go below, as far as the best configuration shows it.

        A network's own training rows flatter it about as much as new rows penalise it (Akaike's
        final prediction error, Mallows' Cp), so the noise lies about halfway between the two.
        """
        return (self.best.train + self.best.val) / 2


def verdicts(runs: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Give every run of a sweep its verdict.

    Args:
        runs: as :func:`bikefit.tracking.read_runs` gives them.
        thresholds: the defaults if None.

    Returns:
        In the order of `runs`: ``run_id``, ``configuration``, ``verdict`` (None for a run without
        a result), ``reason`` and ``next``.
    """
    t = thresholds or Thresholds()
    seen = _observe(runs)
    found = [Verdict(None, "", None)] * len(seen)
    for sweep, _, members in _sweeps(seen, t):
        for row in members.to_dict("records"):
            # Seeds differ in what they reached, which is no noise in what one of them reached.
            case = _case({**row, "noise": np.nan_to_num(row["fold_error"])})
            found[row["place"]] = judge(case, sweep, t)
    for place in seen.index[seen["val"].isna()]:
        found[place] = Verdict(None, _why_missing(seen.loc[place]), None)
    return _table(seen[["run_id", "configuration"]], found)


def configuration_verdicts(
    runs: pd.DataFrame, thresholds: Thresholds | None = None
) -> pd.DataFrame:
    """Give every configuration of a sweep a verdict, from its runs together.

    Returns:
        One row a configuration: ``configuration``, ``verdict``, ``reason``, ``next``.
    """
    t = thresholds or Thresholds()
    seen = _observe(runs)
    found: dict[str, Verdict] = {}
    for sweep, group, _ in _sweeps(seen, t):
        found |= {str(name): judge(_case(row), sweep, t) for name, row in group.iterrows()}
    for row in seen[seen["val"].isna()].to_dict("records"):
        found.setdefault(row["configuration"], Verdict(None, _why_missing(row), None))
    return _table(pd.DataFrame({"configuration": list(found)}), list(found.values()))


def with_verdicts(
    ranking: pd.DataFrame, runs: pd.DataFrame, thresholds: Thresholds | None = None
) -> pd.DataFrame:
    """Add ``verdict``, ``reason`` and ``next`` of each configuration to a ranking of the runs."""
    if ranking.empty:
        return ranking.assign(verdict=None, reason=None, next=None)
    given = configuration_verdicts(runs, thresholds)
    return ranking.merge(given, on="configuration", how="left", validate="one_to_one")


def counts(table: pd.DataFrame) -> dict[str, int]:
    """Count how often each verdict was given."""
    return {name: int((table["verdict"] == name).sum()) for name in VERDICTS}


def _table(about: pd.DataFrame, found: list[Verdict]) -> pd.DataFrame:
    given = [(v.verdict, v.reason, v.next) for v in found]
    columns = pd.DataFrame(given, columns=["verdict", "reason", "next"], dtype=object)
    return about.reset_index(drop=True).join(columns)


def _why_missing(row: Any) -> str:
    failure = row["failure"]
    return failure if isinstance(failure, str) else f"without a result (status {row['status']})"


def _observe(runs: pd.DataFrame) -> pd.DataFrame:
    """What verdicts rest on, one row a run; losses in the measure that ranks the sweep."""
    table = comparison(runs).reset_index(drop=True)
    name, runs = measure(table), runs.reset_index(drop=True)

    def column(key: str) -> pd.Series:
        return runs[key].astype(float) if key in runs else pd.Series(np.nan, index=runs.index)

    # Half a deviance is the Poisson loss; of the squared error there is none for single epochs.
    scale = 1.0 if name == "loss" else table["loss"].map({"poisson": 2.0})
    seen = table[["run_id", "configuration", "network", "status", "failure"]].copy()
    seen["group"] = _row_groups(runs)
    seen["place"] = np.arange(len(runs))
    seen["train"], seen["val"] = table[f"train_{name}"], table[f"val_{name}"]
    seen["fold_error"] = table.get(f"val_{name}_se", pd.Series(np.nan, index=table.index))
    seen["rows"] = column("tags.val_rows").where(seen["fold_error"].isna())
    seen["lowest"] = column("lowest/val/loss") * scale
    seen["rising"] = 1 - column("lowest/epoch") / column("training.epochs")
    for part in ("train", "val"):
        constant = column(f"constant/{part}/loss") * scale
        seen[f"constant_{part}"] = constant.fillna(
            constant.groupby(seen["group"]).transform("mean")
        )
    return seen


def _row_groups(runs: pd.DataFrame) -> pd.Series:
    """Say which runs were validated on the same rows, so that their losses can be compared."""
    keys = [key for key in ("data.name", "validation.name", "validation.folds") if key in runs]
    text = pd.Series("", index=runs.index)
    for key in keys:
        text += runs[key].astype(str) + " "
    return text


def _sweeps(
    seen: pd.DataFrame, t: Thresholds
) -> Iterator[tuple[Sweep, pd.DataFrame, pd.DataFrame]]:
    """Give each group of comparable runs: what it says together, its configurations, its runs."""
    for _, members in seen.dropna(subset=["train", "val"]).groupby("group", sort=False):
        group = _configurations(members, t)
        cases = [_case(row) for _, row in group.iterrows()]
        best = min(cases, key=lambda case: case.val)
        near = group[group["val"] <= best.val * (1 + t.close)]
        saturated = near.loc[near["network"] != "linear", "network"].nunique() > 1
        yield Sweep(best, tuple(group["train"]), saturated), group, members


def _configurations(members: pd.DataFrame, t: Thresholds) -> pd.DataFrame:
    """Means over the runs of each configuration, and the noise of its mean."""
    measured = [
        "train", "val", "rows", "lowest", "rising", "constant_train", "constant_val", "fold_error",
    ]  # fmt: skip
    by_name = members.groupby("configuration", sort=False)
    group = by_name[measured].mean().join(by_name["network"].first())
    relative = by_name["val"].std() / group["val"]
    usual = math.sqrt((relative**2).mean()) if relative.notna().any() else t.assumed_noise
    of_seeds: pd.Series = relative.fillna(usual) * group["val"] / np.sqrt(by_name.size())
    # Seeds share their folds, so more seeds do not shrink what comes from the folds.
    group["noise"] = np.fmax(of_seeds, group["fold_error"])
    return group


def _case(row: Any) -> Case:
    return Case(**{key: float(row[key]) for key in Case.__dataclass_fields__})


def judge(case: Case, sweep: Sweep, thresholds: Thresholds) -> Verdict:
    """Give a verdict: the first of the rules that applies, else it is a good fit."""
    for rule in RULES:
        found = rule(case, sweep, thresholds)
        if found is not None:
            return found
    share = _gap(case) / case.val
    gap = f"its gap is {share:.0%} of it" if share > 0 else "it has no gap"
    return Verdict(
        GOOD_FIT, f"{_reached(case, sweep)}, and {gap}", MORE_DATA if share > 0.25 else STOP
    )


def _no_better_than_constant(case: Case, sweep: Sweep, t: Thresholds) -> Verdict | None:
    constant = case.constant_val
    if not case.val > constant * (1 - t.learned):  # also where it is not known
        return None
    val, train = number(case.val, constant), number(case.train, constant)
    reason = f"validation loss {val} is no better than {number(constant, constant)} of a constant"
    beaten = sweep.best.val < constant * (1 - t.learned)
    if case.train < case.constant_train * (1 - t.close):
        if beaten:
            return None  # the next rule knows more
        own = number(case.constant_train, constant)
        more = f", while train loss {train} is below the constant's {own}"
        return Verdict(OVERFITTING, reason + more, LESS_FLEXIBLE)
    if beaten:
        return Verdict(UNDERFITTING, f"{reason}, and train loss {train} neither", MORE_FLEXIBLE)
    decide = "more flexible networks or more epochs in the sweep, or better features, would decide"
    return Verdict(UNDECIDED, f"{reason}, and no run of this sweep is", decide)


def _far_from_best(case: Case, sweep: Sweep, t: Thresholds) -> Verdict | None:
    best, excess = sweep.best, case.val - sweep.best.val
    if excess <= t.close * best.val:
        return None
    noise = t.noise * math.hypot(case.noise, best.noise, _row_noise(excess, case, sweep))
    val, low = number(case.val, best.val), number(best.val, best.val)
    behind = f"validation loss {val} is above the best {low} of this sweep"
    if excess <= noise:
        reason = f"{behind}, but within the noise of {number(noise, best.val)}"
        return Verdict(UNDECIDED, reason, "more seeds would decide (seed=0,1,2,3,4)")
    above = case.train - sweep.noise_level
    if above >= t.bias_share * (case.val - sweep.noise_level):
        return Verdict(UNDERFITTING, _too_stiff(case, sweep), _after_underfitting(case))
    reason = f"{behind}, with train loss {number(case.train, best.val)}: the gap makes the excess"
    return Verdict(OVERFITTING, reason, LESS_FLEXIBLE)


def _row_noise(excess: float, case: Case, sweep: Sweep) -> float:
    """Standard error of an excess loss that the finite number of validation rows leaves.

    With noise level I and N rows it is about 2 √(I · excess / N), for the squared error exactly if
    the noise is normal, and for the Poisson loss to second order: both networks meet the same
    noise of the rows, and only their difference counts.
    """
    if math.isnan(case.rows):
        return 0.0
    return 2 * math.sqrt(max(sweep.noise_level * excess, 0) / case.rows)


def _too_stiff(case: Case, sweep: Sweep) -> str:
    like = sweep.best.val
    train, low = number(case.train, like), number(like, like)
    if case.train > like:
        above = f"the best validation loss {low} of this sweep"
    else:
        own = number(sweep.best.train, like)
        above = f"{number(sweep.noise_level, like)}, halfway between the best run's {own} and {low}"
    return f"train loss {train} is above {above}: more flexibility is possible"


def _after_underfitting(case: Case) -> str:
    return MORE_EPOCHS if case.rising < 0.05 else MORE_FLEXIBLE


def _turned_up(case: Case, sweep: Sweep, t: Thresholds) -> Verdict | None:
    # The lowest of many epochs is low by luck as well, so it has to undercut the sweep's best.
    lead = sweep.best.val - case.lowest
    if not lead > t.close * case.lowest:  # also where it is not known
        return None
    if lead <= t.noise * math.hypot(sweep.best.noise, _row_noise(lead, case, sweep)):
        return None
    val, low = number(case.val, case.val), number(case.lowest, case.val)
    return Verdict(
        OVERFITTING, f"validation loss {val} had been {low} in an earlier epoch", STOP_EARLIER
    )


def _unexplored(case: Case, sweep: Sweep, t: Thresholds) -> Verdict | None:
    gap = _gap(case)
    small = gap <= t.small_gap * case.val
    stiffer = any(train > case.train * (1 + t.close) for train in sweep.trains)
    freer = sweep.saturated or any(train < case.train * (1 - t.close) for train in sweep.trains)
    if small and not freer:
        decide = "a larger network, weaker regularization or more epochs in the sweep would decide"
        return Verdict(UNDECIDED, f"{_reached(case, sweep)}, but nothing more flexible was tried",
                       decide)  # fmt: skip
    if not small and not stiffer:
        decide = "a smaller network or stronger regularization in the sweep would decide"
        return Verdict(UNDECIDED, f"{_reached(case, sweep)}, but nothing less flexible was tried",
                       decide)  # fmt: skip
    return None


def _learned_by_heart(case: Case, sweep: Sweep, t: Thresholds) -> Verdict | None:
    # Where the best of the sweep knows its rows by heart, nothing near it tells the noise either.
    train, whose = case.train, "train loss"
    if sweep.best.train < train:
        train, whose = sweep.best.train, "the best's train loss"
    if case.val <= t.memorized * train:
        return None
    reason = (
        f"{_reached(case, sweep)}, but it is {case.val / train:.1f} times {whose} "
        f"{number(train, sweep.best.val)}"
    )
    return Verdict(UNDECIDED, reason, "more data or stronger regularization would decide")


def _reached(case: Case, sweep: Sweep) -> str:
    low = sweep.best.val
    if len(sweep.trains) == 1:
        return f"validation loss {number(case.val, low)} has no other configuration beside it"
    if case.val <= low:
        return f"validation loss {number(case.val, low)} is the best of this sweep"
    near = f"{number(case.val, low)} is close to the best {number(low, low)} of this sweep"
    return f"validation loss {near}"


def _gap(case: Case) -> float:
    return case.val - case.train


Rule = Callable[[Case, Sweep, Thresholds], Verdict | None]
RULES: tuple[Rule, ...] = (
    _no_better_than_constant, _far_from_best, _turned_up, _unexplored, _learned_by_heart,
)  # fmt: skip
