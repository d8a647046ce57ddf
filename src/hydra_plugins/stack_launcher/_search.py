"""What the search sweeper does: propose batches, launch them rung by rung, keep the best.

Members stop early by successive halving (Jamieson and Talwalkar 2016; promoted as in Li et al.
2020, by comparison with all trials that came as far): a batch is launched with a small share of
the resource, its best third anew with three times as much, and so on. Each rung is a batch of
jobs like any other, so the training knows nothing of it, stacks stay full, and a learning-rate
schedule ends where the rung ends; a member that left its stack before the end would save nothing
for the others.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.stack_launcher import _study
from hydra_plugins.stack_launcher._space import SearchError, Space, read_space
from hydra_plugins.stack_launcher._study import Proposals, asked
from hydra_plugins.stack_launcher.config import SearchSweeperConf

log = logging.getLogger(__name__)

TOP = 10  # trials in the closing table
STATES = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "open"}


@dataclass(frozen=True)
class Setup:
    """What Hydra has told the sweeper, and what its user wants of the search."""

    hydra_context: HydraContext
    config: DictConfig
    task: TaskFunction
    launcher: Launcher
    settings: Mapping[str, Any]


def search(setup: Setup, arguments: Sequence[str]) -> list[list[JobReturn]]:
    """Search until a budget is used up, then write and print the trials.

    Raises:
        SearchError: nothing to search, another process at work, or no trial with a result.
    """
    settings = _check(SearchSweeperConf(**setup.settings))
    parser = OverridesParser.create(config_loader=setup.hydra_context.config_loader)
    space = read_space(settings.space, arguments, parser)
    steps = rungs(setup.config, settings)
    folder = Path(str(setup.config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(setup.config, folder / "multirun.yaml")
    name = _study.name(_identity(setup, settings, space))
    with _study.opened(name, settings.studies) as study:
        known = len(asked(study))
        if known:
            log.info(f"study {name} goes on after {known} trials")
        search = Search(setup, settings, space, steps, study)
        try:
            search.run()
        finally:
            write(study, space, folder / "trials.csv")
            log.info(summary(study, settings.resource))
        if (trials := asked(study)) and not any(t.intermediate_values for t in trials):
            raise SearchError(f"none of {len(trials)} trials gave a number; see what is said above")
    return search.returns


def _check(settings: SearchSweeperConf) -> SearchSweeperConf:
    for key, least in {"stack": 1, "batch": 1, "rungs": 1, "reduction": 2}.items():
        if (value := getattr(settings, key)) < least:
            raise SearchError(f"hydra.sweeper.{key} = {value}: must be at least {least}")
    if settings.trials is None and settings.seconds is None:
        raise SearchError("give hydra.sweeper.trials or hydra.sweeper.seconds: one must end it")
    return settings


def rungs(config: DictConfig, settings: SearchSweeperConf) -> list[int]:
    """List the values that the resource has on each rung; the last is the configured one.

    Raises:
        SearchError: the resource is no whole number in the config.
    """
    if settings.resource is None:
        return [1]
    full = OmegaConf.select(config, settings.resource)
    if not isinstance(full, int):
        raise SearchError(
            f"hydra.sweeper.resource = {settings.resource}: must name a whole number of the "
            f"config, found {full!r}"
        )
    exponents = range(settings.rungs)
    return sorted({max(1, round(full / settings.reduction**i)) for i in exponents})


def _identity(setup: Setup, settings: SearchSweeperConf, space: Space) -> dict[str, Any]:
    """Return all that the values of trials and the choice of the next ones depend on."""
    keys = [str(key) for key in setup.config if key != "hydra"]
    config = OmegaConf.masked_copy(setup.config, keys)
    version = getattr(setup.task, "version", lambda config: None)
    unimportant = ("_target_", "space", "trials", "seconds", "studies")
    return {
        "config": OmegaConf.to_container(config),
        "fixed": space.fixed,
        "searched": _study.describe(space.searched),
        "settings": {k: v for k, v in vars(settings).items() if k not in unimportant},
        "random_stack": _study.RANDOM_STACK,
        "version": version(config),
    }


class Clock:
    """Whether there is time for a batch, judged by how long the one before took.

    Args:
        limit: seconds from now, None for no limit.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit, self.start = limit, time.monotonic()
        self.each = 0.0  # seconds a job and unit of the resource

    def allows(self, units: int) -> bool:
        """Say whether a batch of so many units will be done in time."""
        spent = time.monotonic() - self.start
        return self.limit is None or spent + units * self.each <= self.limit

    def measure(self, units: int, seconds: float) -> None:
        """Note what a batch took."""
        self.each = seconds / units


class Search:
    """One command's work on a study.

    Args:
        setup: with the launcher.
        settings: of the sweeper.
        space: what is searched.
        steps: value of the resource on each rung.
        study: that is gone on with.
    """

    def __init__(
        self, setup: Setup, settings: SearchSweeperConf, space: Space,
        steps: Sequence[int], study: Study,
    ) -> None:  # fmt: skip
        self.launcher, self.settings, self.space = setup.launcher, settings, space
        self.steps, self.study = steps, study
        self.proposals = Proposals(
            space.searched, settings.shared, settings.stack, settings.sampler, settings.seed
        )
        self.clock = Clock(settings.seconds)
        self.returns: list[list[JobReturn]] = []
        self.jobs = 0

    def run(self) -> None:
        """Make batches until trials or seconds are used up."""
        while batch := self._batch():
            for step in self.steps:
                if not self._reach(batch, step):
                    log.info("the time is up; the same command goes on with what is open")
                    return
                batch = self._promote(batch, step)

    def _batch(self) -> list[Trial]:
        """Return the trials under way, and as many new ones as make a batch."""
        batch = self.proposals.unfinished(self.study)
        known = len(asked(self.study))
        missing = -known % self.settings.batch or (0 if batch else self.settings.batch)
        if self.settings.trials is not None:
            missing = max(0, min(missing, self.settings.trials - known))
        if not self.clock.allows((len(batch) + missing) * self.steps[0]):
            return []
        return [*batch, *(self.proposals.next(self.study) for _ in range(missing))]

    def _reach(self, batch: Sequence[Trial], step: int) -> bool:
        """Launch the trials that have not come to a rung yet; return False if there is no time."""
        known = {t.number for t in asked(self.study) if step in t.intermediate_values}
        fresh = [trial for trial in batch if trial.number not in known]
        units = len(fresh) * step
        if not fresh:
            return True
        if not self.clock.allows(units):
            return False
        start = time.monotonic()
        returns = list(self.launcher.launch([self._job(t, step) for t in fresh], self.jobs))
        self.clock.measure(units, time.monotonic() - start)
        self.jobs += len(fresh)
        self.returns.append(returns)
        for trial, returned in zip(fresh, returns, strict=True):
            value = value_of(returned)
            if value is None:
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                trial.report(value, step)
        return True

    def _job(self, trial: Trial, step: int) -> list[str]:
        values = plain(trial.params)
        if self.settings.resource is not None:
            values[self.settings.resource] = str(step)
        return [*self.space.fixed, *(f"{key}={value}" for key, value in values.items())]

    def _promote(self, batch: Sequence[Trial], step: int) -> list[Trial]:
        """Tell the end of those that go no further, and return the others."""
        found = {t.number: t for t in asked(self.study)}
        reached = [t.intermediate_values for t in found.values() if step in t.intermediate_values]
        values = sorted(reports[step] for reports in reached)
        limit = values[math.ceil(len(values) / self.settings.reduction) - 1] if values else math.inf
        promoted = []
        for trial in batch:
            value = found[trial.number].intermediate_values.get(step)
            if value is None:
                continue  # failed
            if step == self.steps[-1]:
                self.study.tell(trial, value)
            elif value <= limit:
                promoted.append(trial)
            else:
                self.study.tell(trial, state=TrialState.PRUNED)
        return promoted


def plain(params: Mapping[str, Any]) -> dict[str, str]:
    """Write values as overrides; real numbers with four digits, which people can read and type."""
    return {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in params.items()}


def value_of(returned: JobReturn) -> float | None:
    """Return the number that a job came to, None if it failed.

    Raises:
        SearchError: the task returns something else.
    """
    if returned.status != JobStatus.COMPLETED:
        return None
    try:
        value = float(returned.return_value)
    except (TypeError, ValueError):
        raise SearchError(
            f"the task must return the number to be lowered, not {returned.return_value!r}"
        ) from None
    return value if math.isfinite(value) else None


def last(trial: FrozenTrial) -> tuple[float, int | None]:
    """Return a trial's value on the highest rung it came to, and that rung."""
    if not trial.intermediate_values:
        return math.inf, None
    step = max(trial.intermediate_values)
    return trial.intermediate_values[step], step


def write(study: Study, space: Space, file: Path) -> None:
    """Write all trials to a CSV file, one row each."""
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["trial", "state", "value", "rung", *space.searched])
        for trial in asked(study):
            value, step = last(trial)
            shown = ["", ""] if step is None else [value, step]
            params = plain(trial.params)
            values = [params.get(key, "") for key in space.searched]
            table.writerow([trial.number, STATES[trial.state.name], *shown, *values])


def summary(study: Study, resource: str | None) -> str:
    """Say how many trials there are, and list the best."""
    trials = asked(study)
    states = [STATES[trial.state.name] for trial in trials]
    counts = ", ".join(f"{states.count(s)} {s}" for s in STATES.values() if s in states)
    lines = [f"{len(trials)} trials of study {study.study_name}: {counts or 'none'}"]
    for trial in sorted(trials, key=last)[:TOP]:
        value, step = last(trial)
        if step is None:
            continue
        values = plain({**trial.params, **({resource: step} if resource else {})})
        text = " ".join(f"{key}={value}" for key, value in values.items())
        lines.append(f"{trial.number:>6} {value:10.4g}  {text}")
    return "\n".join(lines)
