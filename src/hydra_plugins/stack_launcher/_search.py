"""The work of the search sweeper: propose batches of trials, train them, continue the best.

Trials are stopped early by successive halving (Jamieson and Talwalkar 2016), with promotion by
comparison with all trials so far (Li et al. 2020): all trials of a batch are trained with a small
amount of the resource, the best third again with three times as much, and so on. On each rung the
training starts again, so that stacks stay full and learning-rate schedules end with the rung.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from optuna.study import Study
from optuna.trial import Trial, TrialState

from bikefit.config import ConfigError
from hydra_plugins.stack_launcher._space import Space, propose, read_space
from hydra_plugins.stack_launcher.config import SearchSweeperConf

log = logging.getLogger(__name__)

TOP = 10  # trials in the final table
STATES = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "open"}


def search(
    context: HydraContext,
    config: DictConfig,
    launcher: Launcher,
    settings: SearchSweeperConf,
    arguments: Sequence[str],
) -> list[Sequence[JobReturn]]:
    """Search until the budget is used up, write and print the trials, return the job returns.

    Raises:
        ConfigError: A setting of the sweeper is wrong, or no trial has a result.
    """
    _check(settings)
    parser = OverridesParser.create(config_loader=context.config_loader)
    space = read_space(settings.space, arguments, parser)
    run = Search(launcher, settings, space, rungs(config, settings))
    folder = Path(str(config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    try:
        run.run()
    finally:
        trials = trial_table(run.study, space)
        trials.to_csv(folder / "trials.csv", index=False)
        counts = [f"{count} {state}" for state, count in trials["state"].value_counts().items()]
        log.info(f"{len(trials)} trials: {', '.join(counts)}")
        log.info(trials.sort_values("value").head(TOP).to_string(index=False))
    if len(trials) and trials["value"].isna().all():
        raise ConfigError(f"all {len(trials)} trials failed; their errors are above")
    return run.returns


def _check(settings: SearchSweeperConf) -> None:
    for key, least in {"stack": 1, "batch": 1, "rungs": 1, "reduction": 2}.items():
        if (value := getattr(settings, key)) < least:
            raise ConfigError(f"hydra.sweeper.{key} = {value}: must be at least {least}")
    if settings.sampler not in ("tpe", "random"):
        raise ConfigError(f"hydra.sweeper.sampler = {settings.sampler}: allowed are tpe, random")
    if settings.trials is None and settings.seconds is None:
        raise ConfigError("hydra.sweeper.trials and hydra.sweeper.seconds are null: set one")


def rungs(config: DictConfig, settings: SearchSweeperConf) -> list[int]:
    """Return the values of the resource on each rung; the last is the configured value.

    Raises:
        ConfigError: The resource is not an integer in the config.
    """
    if settings.resource is None:
        return [1]
    full = OmegaConf.select(config, settings.resource)
    if not isinstance(full, int):
        raise ConfigError(
            f"hydra.sweeper.resource = {settings.resource}: must name an integer of the "
            f"config, but its value is {full!r}"
        )
    exponents = range(settings.rungs)
    return sorted({max(1, round(full / settings.reduction**i)) for i in exponents})


class Search:
    """A search within one command.

    Args:
        launcher: Trains batches of jobs.
        settings: Settings of the sweeper.
        space: Fixed and searched keys.
        steps: Values of the resource on each rung.
    """

    def __init__(
        self, launcher: Launcher, settings: SearchSweeperConf, space: Space, steps: Sequence[int]
    ) -> None:
        self.launcher, self.settings, self.space, self.steps = launcher, settings, space, steps
        self.study = optuna.create_study()
        self.start = time.monotonic()
        self.seconds_per_unit = 0.0  # a unit is a job with 1 of the resource
        self.returns: list[Sequence[JobReturn]] = []
        self.jobs = 0

    def run(self) -> None:
        """Train batches until the trials or the seconds are used up."""
        while batch := self._propose():
            for step in self.steps:
                if not self._in_time(len(batch) * step):
                    log.info("the time is up; some trials are open")
                    return
                self._launch(batch, step)
                batch = self._promote(batch, step)

    def _propose(self) -> list[Trial]:
        count = self.settings.batch
        if self.settings.trials is not None:
            count = min(count, self.settings.trials - len(self.study.trials))
        if not self._in_time(count * self.steps[0]):
            return []
        return [propose(self.study, self.space.searched, self.settings) for _ in range(count)]

    def _in_time(self, units: int) -> bool:
        """Return whether a batch would end in time, estimated from the duration of the last one."""
        end = time.monotonic() - self.start + units * self.seconds_per_unit
        return self.settings.seconds is None or end <= self.settings.seconds

    def _launch(self, batch: Sequence[Trial], step: int) -> None:
        """Train the trials on one rung and report their losses."""
        if not batch:
            return
        start = time.monotonic()
        returns = self.launcher.launch([self._job(trial, step) for trial in batch], self.jobs)
        self.seconds_per_unit = (time.monotonic() - start) / (len(batch) * step)
        self.jobs += len(batch)
        self.returns.append(returns)
        for trial, returned in zip(batch, returns, strict=True):
            value = float(returned.return_value)
            if math.isfinite(value):
                trial.report(value, step)

    def _job(self, trial: Trial, step: int) -> list[str]:
        values = as_overrides(trial.params)
        if self.settings.resource is not None:
            values[self.settings.resource] = str(step)
        return [*self.space.fixed, *(f"{key}={value}" for key, value in values.items())]

    def _promote(self, batch: Sequence[Trial], step: int) -> list[Trial]:
        """Return the trials that continue on the next rung, and end the others."""
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


def as_overrides(params: Mapping[str, Any]) -> dict[str, str]:
    """Return values as text, real numbers with four significant digits."""
    return {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in params.items()}


def trial_table(study: Study, space: Space) -> pd.DataFrame:
    """Return one row per trial: state, loss on its highest rung, that rung, and its values."""
    rows = []
    for trial in study.trials:
        rung = max(trial.intermediate_values, default=None)
        value = None if rung is None else trial.intermediate_values[rung]
        row = {"trial": trial.number, "state": STATES[trial.state.name], "value": value}
        rows.append({**row, "rung": rung, **as_overrides(trial.params)})
    columns = ["trial", "state", "value", "rung", *space.searched]
    return pd.DataFrame(rows, columns=columns).astype({"rung": "Int64"})
