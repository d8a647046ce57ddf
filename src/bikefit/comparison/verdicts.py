"""Which runs of a sweep underfit, which overfit, which fit well, why, and what to try next.

The rule and its limits are in `docs/verdicts.md`. Nothing here speaks to the store: tables in,
tables out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import yaml
from pydantic import Field, ValidationError

from bikefit.comparison.noise import (
    CONFIDENCE,
    Difference,
    LossEstimate,
    difference,
    estimate_losses,
)
from bikefit.comparison.paths import Evidence, SettingPath, find_evidence, find_paths
from bikefit.comparison.runs import FRACTION
from bikefit.comparison.sentences import number
from bikefit.config import ConfigError
from bikefit.data.params import StrictModel, explain

UNDERFITTING, OVERFITTING, GOOD_FIT = "underfitting", "overfitting", "good fit"
UNDECIDED = "undecided"
VERDICTS = (GOOD_FIT, UNDERFITTING, OVERFITTING, UNDECIDED)
VERDICT_OF_CHANGE = {+1: UNDERFITTING, -1: OVERFITTING}  # by the flexibility that would help
THRESHOLDS = Path("conf/verdicts.yaml")

MORE_FLEXIBLE = "more flexible: a larger network, weaker regularization"
TRAIN_ON = "train on: more epochs (training.epochs={epochs:.0f}) or a higher learning rate"
COME_DOWN = (
    "let the learning rate come down: as many epochs without early stopping "
    "(training.epochs={epochs:.0f} optimizer.schedule=one_cycle), or a lower constant rate"
)
LESS_FLEXIBLE = "less flexible: stronger regularization, a smaller network; or more data"
STOP_EARLIER = "fewer epochs or early stopping (regularization.patience)"
STOP = "stop tuning"
MORE_DATA = "stop tuning; more data would narrow the gap"

Share = Annotated[float, Field(gt=0, lt=1)]


class ThresholdError(ConfigError):
    """A file of thresholds that verdicts cannot be given with."""


class Thresholds(StrictModel):
    """What counts as noise, as close and as learned; ``conf/verdicts.yaml`` explains the keys."""

    confidence: Share = CONFIDENCE
    assumed_noise: Share = 0.05
    clear: Share = 0.02
    close: Share = 0.05
    doubtful: Share = 0.1
    learned: Share = 0.02
    small_gap: Share = 0.1
    bias_share: Share = 0.4
    memorized: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 3.0
    unfinished: Share = 0.025


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
        raise ThresholdError(f"{path}: {explain(errors)}") from None


@dataclass(frozen=True)
class Verdict:
    """What is said of a run or a configuration; of one that failed only the reason."""

    verdict: str | None
    reason: str
    next: str | None


@dataclass(frozen=True)
class Measurements:
    """What was measured of a run, or of a configuration as the mean of its runs.

    Args:
        train, val: losses at the selected epoch.
        sample: the validation loss with what tells its noise.
        evidence: what the paths say on which it lies.
        unfinished: share of the train loss by which training on would lower it, NaN if not known.
        unfinished_val: the same of the validation loss, at a lower learning rate, where early
            stopping ended training; else NaN.
        epochs: it was to train, NaN if not known.
        selected: epoch whose parameters count, NaN if not known.
        lowest: lowest validation loss of any epoch, NaN where it is not known.
        constant_train, constant_val: losses of a constant prediction, NaN where not known.
    """

    train: float
    val: float
    sample: LossEstimate
    evidence: tuple[Evidence, ...] = ()
    unfinished: float = math.nan
    unfinished_val: float = math.nan
    epochs: float = math.nan
    selected: float = math.nan
    lowest: float = math.nan
    constant_train: float = math.nan
    constant_val: float = math.nan

    def contradictions(self, change: int, clear: float) -> list[str]:
        """Return reasons against more (+1) or less (-1) flexibility, significant or not.

        These are paths on which every configuration in this direction is worse, and paths on which
        one in the other direction is better by at least `clear`, as a fraction of the loss. The
        list is empty if any path favours this direction.
        """
        tried = [e for e in self.evidence if e.flexibility_change == change]
        if any(e.gain.value > 0 for e in tried):
            return []
        opposite = [
            e
            for e in self.evidence
            if e.flexibility_change == -change and e.gain.value > clear * self.val
        ]
        words = {1: "more", -1: "less"}
        no_better = (f"{words[change]} flexible is no better along {e.path.label}" for e in tried)
        better = (f"{words[-change]} flexible is better along {e.path.label}" for e in opposite)
        return list(dict.fromkeys([*no_better, *better]))


@dataclass(frozen=True)
class GroupSummary:
    """What all configurations of a sweep that share their validation rows say together.

    Args:
        best: the configuration with the lowest validation loss.
        trains: train loss of every configuration.
        saturated: whether networks with hidden layers of different sizes come close to the best,
            so that a larger one did no better.
        name: what they are called where a sweep has others on other rows.
    """

    best: Measurements
    trains: tuple[float, ...]
    saturated: bool
    name: str = "this sweep"

    @property
    def noise_level(self) -> float:
        """The loss that no network can go below, as far as the best configuration shows it."""
        return _level(self.best.train, self.best.val)

    def behind(self, case: Measurements) -> Difference:
        """How much higher a case's validation loss is than the best."""
        return difference(case.sample, self.best.sample, self.noise_level)


def _level(train: float, val: float) -> float:
    """The noise level halfway between the losses of a network that fits well.

    A network's own training rows flatter it about as much as new rows penalise it (Akaike's final
    prediction error, Mallows' Cp).
    """
    return (train + val) / 2


def verdicts(table: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Give every run of a sweep its verdict.

    Args:
        table: of :func:`bikefit.comparison.runs.run_table`.
        thresholds: the defaults if None.

    Returns:
        In the order of `table`: ``run_id``, ``configuration``, ``verdict`` (None for a run without
        a result), ``reason`` and ``next``.
    """
    t = thresholds or Thresholds()
    seen = _observe(table)
    found = [Verdict(None, "", None)] * len(seen)
    for group in _groups(seen, table, t):
        for place, case in group.runs.items():
            found[place] = judge(case, group.sweep, t)
    for place in seen.index[seen["val"].isna()]:
        found[place] = Verdict(None, _why_missing(seen.loc[place]), None)
    return _table(seen[["run_id", "configuration"]], found)


def configuration_verdicts(
    table: pd.DataFrame, thresholds: Thresholds | None = None
) -> pd.DataFrame:
    """Give every configuration of a sweep a verdict, from its runs together.

    Returns:
        One row per configuration: ``configuration_id``, ``verdict``, ``reason``, ``next``.
    """
    t = thresholds or Thresholds()
    seen = _observe(table)
    found: dict[str, Verdict] = {}
    for group in _groups(seen, table, t):
        found |= {name: judge(case, group.sweep, t) for name, case in group.configurations.items()}
    for row in seen[seen["val"].isna()].to_dict("records"):
        found.setdefault(row["configuration_id"], Verdict(None, _why_missing(row), None))
    return _table(pd.DataFrame({"configuration_id": list(found)}), list(found.values()))


def along(
    table: pd.DataFrame, paths: Sequence[SettingPath], thresholds: Thresholds | None = None
) -> list[pd.DataFrame]:
    """Return what each path shows about its configurations, by the evidence of verdicts.

    Returns:
        One table per path, indexed by the ids of its configurations. ``region`` is "underfitting"
        if a more flexible configuration on the path is clearly better, and "overfitting" if a less
        flexible one is. If both are, the larger gain decides. If neither is, ``region`` is the
        verdict if it is one of these two and the path does not contradict it, otherwise "".
        Unfinished training is never "underfitting". ``difference_se`` is the standard error of the
        difference from the lowest loss on the path. ``within_noise`` is True if that difference is
        not significant, and NA for the lowest.
    """
    t = thresholds or Thresholds()
    groups = list(_groups(_observe(table), table, t))
    return [_along(path, groups, t) for path in paths]


def _along(path: SettingPath, groups: Sequence[ComparableRuns], t: Thresholds) -> pd.DataFrame:
    columns = ["region", "difference_se", "within_noise"]
    rows: dict[str, tuple[str, float, bool | None]] = {}
    # Shares of the training rows are groups of their own, all validated on the same rows.
    cases = {
        name: (case, group.sweep)
        for group in groups
        for name, case in group.configurations.items()
        if name in path.configurations
    }
    best = min((case for case, _ in cases.values()), key=lambda case: case.val, default=None)
    for name, (case, sweep) in cases.items():
        assert best is not None
        behind = difference(case.sample, best.sample, _level(best.train, best.val))
        rows[name] = (
            _region(case, path, sweep, t),
            math.nan if case is best else behind.error,
            None if case is best else not behind.is_significant(t.confidence),
        )
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.astype({"within_noise": "boolean"})


def _region(case: Measurements, path: SettingPath, sweep: GroupSummary, t: Thresholds) -> str:
    """Return the region of a path in which a configuration lies: see :func:`along`."""
    on_path = replace(case, evidence=tuple(e for e in case.evidence if e.path == path))
    if clear := _clear(on_path, t):
        change = clear[0].flexibility_change
    else:
        verdict = judge(case, sweep, t).verdict
        change = next((c for c, name in VERDICT_OF_CHANGE.items() if name == verdict), 0)
        change = 0 if on_path.contradictions(change, t.clear) else change
    if change > 0 and (path.varies_epochs or case.unfinished > t.unfinished):
        change = 0  # training that was not finished is not underfitting
    return VERDICT_OF_CHANGE.get(change, "")


def with_verdicts(
    ranking: pd.DataFrame, table: pd.DataFrame, thresholds: Thresholds | None = None
) -> pd.DataFrame:
    """Add ``verdict``, ``reason`` and ``next`` of each configuration to a ranking."""
    if ranking.empty:
        return ranking.assign(verdict=None, reason=None, next=None)
    given = configuration_verdicts(table, thresholds)
    return ranking.merge(given, on="configuration_id", how="left", validate="one_to_one")


def count_verdicts(table: pd.DataFrame) -> dict[str, int]:
    """Count how often each verdict was given."""
    return {name: int((table["verdict"] == name).sum()) for name in VERDICTS}


def _table(about: pd.DataFrame, found: list[Verdict]) -> pd.DataFrame:
    given = [(v.verdict, v.reason, v.next) for v in found]
    columns = pd.DataFrame(given, columns=["verdict", "reason", "next"], dtype=object)
    return about.reset_index(drop=True).join(columns)


def _why_missing(row: Any) -> str:
    failure = row["failure"]
    return failure if isinstance(failure, str) else f"without a result (status {row['status']})"


def _observe(table: pd.DataFrame) -> pd.DataFrame:
    """What verdicts rest on, one row a run."""
    rows = [*("table", "validation_rows", "folds"), *table.columns.intersection([FRACTION])]
    seen = table.reset_index(drop=True)
    seen["group"] = seen.groupby(rows, dropna=False).ngroup()
    seen["place"] = seen.index
    for part in ("train", "val"):
        constant = seen[f"constant_{part}"]
        means = constant.groupby(seen["group"]).transform("mean")
        seen[f"constant_{part}"] = constant.fillna(means)
    seen["epochs"] = seen.get("training.epochs", math.nan)
    names = {"train_loss": "train", "val_loss": "val", "best_epoch": "selected"}
    return seen.rename(columns=names)


@dataclass(frozen=True)
class ComparableRuns:
    """Runs that learned from and were validated on the same rows, by configuration and place."""

    sweep: GroupSummary
    configurations: Mapping[str, Measurements]
    runs: Mapping[int, Measurements]


MEASURED = (
    "train", "val", "unfinished", "unfinished_val", "epochs", "selected", "lowest",
    "constant_train", "constant_val",
)  # fmt: skip


def _groups(seen: pd.DataFrame, table: pd.DataFrame, t: Thresholds) -> Iterator[ComparableRuns]:
    """Give each group of comparable runs with what its paths say of every one."""
    paths = find_paths(table.reset_index(drop=True))
    lowest = seen.dropna(subset=["val"]).sort_values("val")["group"].head(1).tolist()
    for rows_of, members in seen.dropna(subset=["train", "val"]).groupby("group", sort=False):
        known, facts = estimate_losses(members.rename(columns={"val": "val_loss"}), t.assumed_noise)
        by_name = members.groupby("configuration_id", sort=False)
        means = by_name[list(MEASURED)].mean()
        best = means.sort_values("val").iloc[0]
        level = _level(float(best["train"]), float(best["val"]))

        def case(row: Any, name: str, sample: LossEstimate) -> Measurements:
            told = find_evidence(name, sample, paths, known, level)  # noqa: B023  (used within the loop)
            numbers = {key: float(row[key]) for key in MEASURED}
            return Measurements(sample=sample, evidence=tuple(told), **numbers)

        rows = members.to_dict("records")
        cases = {str(n): case(row, str(n), known[str(n)]) for n, row in means.iterrows()}
        near = means.index[means["val"] <= best["val"] * (1 + t.doubtful)]
        networks = members.loc[members["configuration_id"].isin(near), "network"]
        saturated = networks[networks != "linear"].nunique() > 1
        yield ComparableRuns(
            GroupSummary(cases[str(best.name)], tuple(means["train"]), saturated,
                  "this sweep" if rows_of in lowest else "those with the same rows"), cases,
            {
                row["place"]: case(row, row["configuration_id"], sample)
                for row, sample in zip(rows, facts, strict=True)
            },
        )  # fmt: skip


def judge(case: Measurements, sweep: GroupSummary, thresholds: Thresholds) -> Verdict:
    """Give a verdict: the first of the rules that applies, else it is a good fit.

    Optimization that was not finished is neither bias nor variance: a run whose train loss would
    still fall is not called underfitting.
    """
    found = next((v for rule in RULES if (v := rule(case, sweep, thresholds))), None)
    if found is None:
        share = _gap(case) / case.val
        gap = f"its gap is {share:.0%} of it" if share > 0 else "it has no gap"
        reason = f"{_reached(case, sweep)}, and {gap}"
        return Verdict(GOOD_FIT, reason, MORE_DATA if share > 0.25 else STOP)
    if found.verdict == UNDERFITTING and case.unfinished > thresholds.unfinished:
        reason = (
            f"training was not finished: further training would lower the loss by "
            f"{case.unfinished:.0%} of the train loss {number(case.train, case.train)}"
        )
        return Verdict(UNDECIDED, reason, TRAIN_ON.format(epochs=2 * case.epochs))
    return found


def _no_better_than_constant(
    case: Measurements, sweep: GroupSummary, t: Thresholds
) -> Verdict | None:
    constant = case.constant_val
    if not case.val > constant * (1 - t.learned):  # also where it is not known
        return None
    val, train = number(case.val, constant), number(case.train, constant)
    reason = f"validation loss {val} is no better than {number(constant, constant)} of a constant"
    beaten = sweep.best.val < constant * (1 - t.learned)
    if case.train < case.constant_train * (1 - t.doubtful):
        if beaten:
            return None  # the next rule knows more
        own = number(case.constant_train, constant)
        more = f", while train loss {train} is below the constant's {own}"
        return Verdict(OVERFITTING, reason + more, LESS_FLEXIBLE)
    if beaten:
        return Verdict(UNDERFITTING, f"{reason}, and train loss {train} neither", MORE_FLEXIBLE)
    decide = "more flexible networks or more epochs in the sweep, or better features, would decide"
    return Verdict(UNDECIDED, f"{reason}, and no run of {sweep.name} is", decide)


def _clear(case: Measurements, t: Thresholds) -> list[Evidence]:
    """The evidence that is more than noise, the largest gain first."""
    found = (e for e in case.evidence if e.is_clear(t.clear, t.confidence))
    return sorted(found, key=lambda e: e.gain.value, reverse=True)


def _on_its_paths(case: Measurements, sweep: GroupSummary, t: Thresholds) -> Verdict | None:
    """The most direct evidence: a neighbour that differs in one setting alone is better."""
    clear = _clear(case, t)
    if not clear:
        return None
    told = clear[0]
    reason = _falls(told)
    other = next((e for e in clear if e.flexibility_change != told.flexibility_change), None)
    if other:
        reason += (
            f", more than the {number(other.gain.value, told.loss)} that it falls when "
            f"the {other.path.label} goes to {other.end:g}"
        )
    if told.flexibility_change < 0:
        return Verdict(OVERFITTING, reason, LESS_FLEXIBLE)
    if told.path.varies_epochs:
        return _not_finished(told, reason)
    return Verdict(UNDERFITTING, reason, MORE_FLEXIBLE)


def _falls(told: Evidence) -> str:
    low = told.loss - told.gain.value
    return (
        f"validation loss falls from {number(told.loss, low)} to {number(low, low)} when "
        f"the {told.path.label} {'go' if told.path.varies_epochs else 'goes'} from {told.start:g} "
        f"to {told.end:g}"
    )


def _not_finished(told: Evidence, reason: str) -> Verdict:
    more = TRAIN_ON.format(epochs=told.end)
    return Verdict(UNDECIDED, f"training was not finished: {reason}", more)


def _far_from_best(case: Measurements, sweep: GroupSummary, t: Thresholds) -> Verdict | None:
    best, behind = sweep.best, sweep.behind(case)
    # Both sides of it have been tried, and neither is clearly better: it fits as its method can.
    asked = {e.flexibility_change for e in case.evidence} == {-1, 1}
    if behind.value <= (t.doubtful if asked else t.close) * best.val:
        return None
    limit = behind.limit(t.confidence)
    val, low = number(case.val, best.val), number(best.val, best.val)
    above = f"validation loss {val} is above the best {low} of {sweep.name}"
    if behind.value <= limit:
        if behind.value <= t.doubtful * best.val:
            return None
        reason = f"{above}, but within the noise of {number(limit, best.val)}"
        return Verdict(UNDECIDED, reason, "more seeds would decide (seed=0,1,2,3,4)")
    return _bias_or_gap(case, sweep, t, above)


def _bias_or_gap(case: Measurements, sweep: GroupSummary, t: Thresholds, above: str) -> Verdict:
    """Where no path tells, the excess over the noise level is taken apart into bias and gap."""
    like = sweep.best.val
    if case.unfinished_val > t.unfinished:
        reason = (
            "training was not finished: early stopping ended it, but at a lower learning rate "
            f"validation loss {number(case.val, like)} would still fall by "
            f"{case.unfinished_val:.0%}"
        )
        return Verdict(UNDECIDED, reason, COME_DOWN.format(epochs=case.selected))
    bias = case.train - sweep.noise_level
    stiff = bias >= t.bias_share * (case.val - sweep.noise_level)
    if paths := case.contradictions(+1 if stiff else -1, t.clear):
        reason = f"{above}, but {' and '.join(paths)}"
        return Verdict(UNDECIDED, reason, "another method, as the best configuration has it")
    if stiff:
        return _too_stiff(case, sweep, t)
    reason = f"{above}, mostly because of the gap to its train loss {number(case.train, like)}"
    return Verdict(OVERFITTING, reason, LESS_FLEXIBLE)


def _too_stiff(case: Measurements, sweep: GroupSummary, t: Thresholds) -> Verdict:
    # Where whoever trained longer is better, noise or not, it may be the epochs that lack, unless
    # a look ahead has shown that they do not.
    longer = [e for e in case.evidence if e.path.varies_epochs and e.flexibility_change > 0]
    told = next((e for e in longer if e.gain.value > t.clear * case.val), None)
    if told and not case.unfinished <= t.unfinished:  # also where it is not known
        return _not_finished(told, _falls(told))
    like = sweep.best.val
    train, low = number(case.train, like), number(like, like)
    if case.train > like:
        above = f"the best validation loss {low} of {sweep.name}"
    else:
        own = number(sweep.best.train, like)
        above = f"{number(sweep.noise_level, like)}, halfway between the best run's {own} and {low}"
    reason = f"train loss {train} is above {above}: more flexibility is possible"
    return Verdict(UNDERFITTING, reason, MORE_FLEXIBLE)


def _turned_up(case: Measurements, sweep: GroupSummary, t: Thresholds) -> Verdict | None:
    # The lowest of many epochs is low by luck as well, so it has to undercut the sweep's best.
    lead = sweep.best.val - case.lowest
    if not lead > t.doubtful * case.lowest:  # also where it is not known
        return None
    noise = difference(replace(case.sample, loss=case.lowest), sweep.best.sample, sweep.noise_level)
    if lead <= noise.limit(t.confidence):
        return None
    val, low = number(case.val, case.val), number(case.lowest, case.val)
    return Verdict(
        OVERFITTING, f"validation loss {val} had been {low} in an earlier epoch", STOP_EARLIER
    )


def _unexplored(case: Measurements, sweep: GroupSummary, t: Thresholds) -> Verdict | None:
    gap = _gap(case)
    small = gap <= t.small_gap * case.val
    stiffer = any(train > case.train * (1 + t.doubtful) for train in sweep.trains)
    freer = sweep.saturated or any(train < case.train * (1 - t.doubtful) for train in sweep.trains)
    if small and not freer:
        decide = "a larger network, weaker regularization or more epochs in the sweep would decide"
        return Verdict(UNDECIDED, f"{_reached(case, sweep)}, but nothing more flexible was tried",
                       decide)  # fmt: skip
    if not small and not stiffer:
        decide = "a smaller network or stronger regularization in the sweep would decide"
        return Verdict(UNDECIDED, f"{_reached(case, sweep)}, but nothing less flexible was tried",
                       decide)  # fmt: skip
    return None


def _learned_by_heart(case: Measurements, sweep: GroupSummary, t: Thresholds) -> Verdict | None:
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


def _reached(case: Measurements, sweep: GroupSummary) -> str:
    low = sweep.best.val
    if len(sweep.trains) == 1:
        return f"validation loss {number(case.val, low)} has no other configuration beside it"
    if case.val <= low:
        return f"validation loss {number(case.val, low)} is the best of {sweep.name}"
    near = f"{number(case.val, low)} is close to the best {number(low, low)} of {sweep.name}"
    return f"validation loss {near}"


def _gap(case: Measurements) -> float:
    return case.val - case.train


Rule = Callable[[Measurements, GroupSummary, Thresholds], Verdict | None]
RULES: tuple[Rule, ...] = (
    _no_better_than_constant, _on_its_paths, _far_from_best, _turned_up, _unexplored,
    _learned_by_heart,
)  # fmt: skip
