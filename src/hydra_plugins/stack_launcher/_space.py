"""A search space in Hydra's own syntax, as Optuna takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import CompactHydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial


class SearchError(CompactHydraException):
    """A search that cannot start, or that found nothing."""


@dataclass(frozen=True)
class Space:
    """What all trials have, and what is searched.

    Args:
        fixed: overrides of every trial.
        searched: distribution of each other key.
    """

    fixed: list[str]
    searched: dict[str, BaseDistribution]


def read_space(
    space: Mapping[str, Any], arguments: Sequence[str], parser: OverridesParser
) -> Space:
    """Parse a space and the command line, whose keys take the place of the same in the space.

    ``1,2`` and ``range(1,5)`` are choices, ``interval(0,1)`` is a range of real numbers,
    ``int(interval(1,9))`` of whole ones, ``tag(log,interval(1e-5,1))`` a range on a log scale.

    Raises:
        SearchError: there is nothing to search, or a range is impossible.
    """
    written = [f"{key}={value}" for key, value in space.items()]
    parsed = parser.parse_overrides([*written, *arguments])
    chosen = {override.key_or_group: override for override in parsed}.values()  # the last counts
    searched = {o.get_key_element(): _distribution(o) for o in chosen if o.is_sweep_override()}
    if not searched:
        raise SearchError(
            "nothing to search: hydra.sweeper.space or the command line must give a key several "
            "values, e.g. 'optimizer.lr=tag(log,interval(1e-4,1e-2))'"
        )
    fixed = [str(o.input_line) for o in chosen if not o.is_sweep_override()]
    return Space(fixed, searched)


def _distribution(override: Override) -> BaseDistribution:
    if override.is_discrete_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    sweep = override.value()
    assert isinstance(sweep, IntervalSweep) and sweep.start is not None and sweep.end is not None
    log = "log" in sweep.tags
    try:
        if isinstance(sweep.start, int) and isinstance(sweep.end, int):
            return IntDistribution(sweep.start, sweep.end, log=log)
        return FloatDistribution(sweep.start, sweep.end, log=log)
    except ValueError as error:
        raise SearchError(f"{override.input_line}: {error}") from None


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> Any:
    """Return the trial's value of a key, proposed now or earlier."""
    match distribution:
        case IntDistribution(low=low, high=high, log=log):
            return trial.suggest_int(key, low, high, log=log)
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(key, low, high, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(key, choices)
    raise TypeError(f"{key}: {distribution}")
