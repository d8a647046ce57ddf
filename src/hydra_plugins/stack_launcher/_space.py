"""A search space in Hydra's syntax, and proposals of trials by Optuna."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import Trial

from bikefit.config import ConfigError
from hydra_plugins.stack_launcher.config import SearchSweeperConf

RANDOM_STACK = 3  # every third stack is drawn at random

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Space:
    """Fixed and searched keys.

    Args:
        fixed: Overrides of every trial.
        searched: Distribution of each searched key.
    """

    fixed: list[str]
    searched: dict[str, BaseDistribution]


def read_space(
    space: Mapping[str, object], arguments: Sequence[str], parser: OverridesParser
) -> Space:
    """Parse a space and the command line, whose keys replace the same keys of the space.

    ``1,2`` and ``range(1,5)`` are choices, ``interval(0,1)`` is a range of real numbers,
    ``int(interval(1,9))`` a range of integers, ``tag(log,interval(1e-5,1))`` a logarithmic range.

    Raises:
        ConfigError: There is nothing to search, or a range is impossible.
    """
    written = [f"{key}={value}" for key, value in space.items()]
    parsed = parser.parse_overrides([*written, *arguments])
    overrides = {override.key_or_group: override for override in parsed}.values()
    searched = {o.get_key_element(): _distribution(o) for o in overrides if o.is_sweep_override()}
    if not searched:
        raise ConfigError(
            "nothing to search: hydra.sweeper.space or the command line must give a key several "
            "values, e.g. 'optimizer.lr=tag(log,interval(1e-4,1e-2))'"
        )
    return Space([str(o.input_line) for o in overrides if not o.is_sweep_override()], searched)


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
        raise ConfigError(f"{override.input_line}: {error}") from None


def propose(
    study: Study, searched: Mapping[str, BaseDistribution], settings: SearchSweeperConf
) -> Trial:
    """Return a new trial of a study, whose values follow from the seed and the results so far.

    The first trial of every ``stack`` gets new values for all keys; the others copy its values of
    the ``shared`` keys and get new values for the rest. Every third stack is drawn at random, as in
    BOHB (Falkner et al. 2018): with few stacks, TPE alone would never look at most shapes.
    """
    trials = study.get_trials(deepcopy=False)
    study.sampler = _sampler(len(trials), settings)
    position = len(trials) % settings.stack
    if position:
        first = trials[-position].params
        study.enqueue_trial({key: first[key] for key in settings.shared if key in first})
    return study.ask(dict(searched))


def _sampler(trial: int, settings: SearchSweeperConf) -> BaseSampler:
    seed = random.Random(f"{settings.seed} {trial}").getrandbits(32)
    if settings.sampler == "random" or trial // settings.stack % RANDOM_STACK == 0:
        return RandomSampler(seed=seed)
    return TPESampler(multivariate=True, constant_liar=True, seed=seed)
