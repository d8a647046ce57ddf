"""A search that proposes batches of trials with Optuna and stops bad trials early.

Successive halving (Jamieson and Talwalkar 2016): all trials of a batch are trained with a small
amount of the resource; trials among the best third so far (Li et al. 2020) are trained again with
three times as much, and so on. Training starts from the beginning on each rung, so that stacks
stay full and learning-rate schedules end with the rung.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState

from bikefit.config import ConfigError
from hydra_plugins.stack_launcher.config import SearchSweeperConf

log = logging.getLogger(__name__)

RANDOM_STACK = 3  # interval of stacks that are drawn at random
TOP = 10  # trials in the printed table
STATES = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "open"}


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Suppress Optuna's messages about studies and trials in this context."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


class Search:
    """A search over the space that overrides describe, which trains trials with a launcher."""

    def __init__(
        self,
        launcher: Launcher,
        settings: SearchSweeperConf,
        config: DictConfig,
        overrides: Sequence[Override],
    ) -> None:
        _check(settings)
        self.launcher, self.settings = launcher, settings
        self.fixed, self.searched = read_space(overrides)
        self.steps = rungs(config, settings)
        self.folder = Path(str(config.hydra.sweep.dir))
        with quiet_optuna():
            self.study = optuna.create_study()
        self.start = time.monotonic()
        self.returns: list[Sequence[JobReturn]] = []

    def run(self) -> list[Sequence[JobReturn]]:
        """Search, write and print the trials, return the job returns of each batch."""
        try:
            with quiet_optuna():
                for start in range(0, self.settings.trials, self.settings.batch):
                    if time.monotonic() - self.start > (self.settings.seconds or math.inf):
                        log.info(f"the search ends after {self.settings.seconds:g} s")
                        break
                    self._train_batch(min(self.settings.batch, self.settings.trials - start))
        finally:
            trials = self._trial_table()
            if self.returns:
                self.folder.mkdir(parents=True, exist_ok=True)
                trials.to_csv(self.folder / "trials.csv", index=False, encoding="utf-8")
                log.info(trials.sort_values("value").head(TOP).to_string(index=False))
        if trials["value"].isna().all():
            raise ConfigError(f"all {len(trials)} trials failed; their errors are above")
        return self.returns

    def _train_batch(self, count: int) -> None:
        """Propose trials and train them on each rung, as far as they are promoted."""
        batch = [self._propose() for _ in range(count)]
        for step in self.steps:
            if batch:
                self._launch(batch, step)
                batch = self._promote(batch, step)

    def _propose(self) -> Trial:
        """Return a new trial, whose values follow from the seed and the results so far.

        The first trial of a stack has new values; the others copy its values of ``shared`` keys.
        """
        trials = self.study.get_trials(deepcopy=False)
        self.study.sampler = self._sampler(len(trials))
        if position := len(trials) % self.settings.stack:
            first = trials[-position].params
            self.study.enqueue_trial({k: first[k] for k in self.settings.shared if k in first})
        return self.study.ask(self.searched)

    def _sampler(self, trial: int) -> BaseSampler:
        """Return the sampler of a trial.

        Every third stack is drawn at random, as in BOHB (Falkner et al. 2018), because TPE alone
        proposes few shapes.
        """
        seed = random.Random(f"{self.settings.seed} {trial}").getrandbits(32)
        if trial // self.settings.stack % RANDOM_STACK == 0:
            return RandomSampler(seed=seed)
        return TPESampler(multivariate=True, constant_liar=True, seed=seed)

    def _launch(self, batch: Sequence[Trial], step: int) -> None:
        """Train the trials with ``step`` of the resource and report their losses."""
        resource = {self.settings.resource: step} if self.settings.resource else {}
        values = [as_text(trial.params) | resource for trial in batch]
        jobs = [[*self.fixed, *(f"{k}={v}" for k, v in job.items())] for job in values]
        returns = self.launcher.launch(jobs, sum(map(len, self.returns)))
        self.returns.append(returns)
        for trial, returned in zip(batch, returns, strict=True):
            value = float(returned.return_value)
            if math.isfinite(value):
                trial.report(value, step)

    def _promote(self, batch: Sequence[Trial], step: int) -> list[Trial]:
        """End the trials that are complete, failed or stopped early, and return the others."""
        reached = [trial.intermediate_values for trial in self.study.trials]
        values = sorted(reports[step] for reports in reached if step in reports)
        limit = values[math.ceil(len(values) / self.settings.reduction) - 1] if values else math.inf
        promoted = []
        for trial in batch:
            value = reached[trial.number].get(step)
            if value is None:
                self.study.tell(trial, state=TrialState.FAIL)
            elif step == self.steps[-1]:
                self.study.tell(trial, value)
            elif value <= limit:
                promoted.append(trial)
            else:
                self.study.tell(trial, state=TrialState.PRUNED)
        return promoted

    def _trial_table(self) -> pd.DataFrame:
        """Return one row per trial: state, loss on its highest rung, that rung, and its values."""
        rows = []
        for trial in self.study.trials:
            rung, value = max(trial.intermediate_values.items(), default=(None, None))
            row = {"trial": trial.number, "state": STATES[trial.state.name], "value": value}
            rows.append({**row, "rung": rung, **as_text(trial.params)})
        columns = ["trial", "state", "value", "rung", *self.searched]
        return pd.DataFrame(rows, columns=columns).astype({"rung": "Int64"})


def _check(settings: SearchSweeperConf) -> None:
    for key, least in {"stack": 1, "batch": 1, "trials": 1, "rungs": 1, "reduction": 2}.items():
        value = getattr(settings, key)
        if value < least:
            raise ConfigError(f"hydra.sweeper.{key} = {value}: must be at least {least}")


def rungs(config: DictConfig, settings: SearchSweeperConf) -> list[int]:
    """Return the values of the resource on each rung; the last is the configured value."""
    if settings.resource is None:
        return [1]
    full = OmegaConf.select(config, settings.resource)
    if not isinstance(full, int):
        raise ConfigError(
            f"hydra.sweeper.resource = {settings.resource}: must name an integer of the "
            f"config, but its value is {full!r}"
        )
    return sorted({max(1, round(full / settings.reduction**i)) for i in range(settings.rungs)})


def read_space(overrides: Sequence[Override]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Return the overrides of every trial, and the distribution of each searched key.

    The last override of a key counts. ``1,2`` and ``range(1,5)`` are choices, ``interval(0,1)`` is
    a range of real numbers, ``int(interval(1,9))`` a range of integers,
    ``tag(log,interval(1e-5,1))`` a logarithmic range.
    """
    last = {override.key_or_group: override for override in overrides}.values()
    searched = {o.get_key_element(): _distribution(o) for o in last if o.is_sweep_override()}
    if not searched:
        raise ConfigError(
            "nothing to search: hydra.sweeper.space or the command line must give a key several "
            "values, e.g. 'optimizer.lr=tag(log,interval(1e-4,1e-2))'"
        )
    return [str(o.input_line) for o in last if not o.is_sweep_override()], searched


def _distribution(override: Override) -> BaseDistribution:
    if override.is_discrete_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    sweep = override.value()
    assert isinstance(sweep, IntervalSweep) and sweep.start is not None and sweep.end is not None
    log_scale = "log" in sweep.tags
    try:
        if isinstance(sweep.start, int) and isinstance(sweep.end, int):
            return IntDistribution(sweep.start, sweep.end, log=log_scale)
        return FloatDistribution(sweep.start, sweep.end, log=log_scale)
    except ValueError as error:
        raise ConfigError(f"{override.input_line}: {error}") from None


def as_text(params: Mapping[str, Any]) -> dict[str, str]:
    """Return values as text, real numbers with four significant digits."""
    return {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in params.items()}
