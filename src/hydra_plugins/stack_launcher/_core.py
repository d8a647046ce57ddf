"""What the stack launcher does: compose every job, run them together, keep their order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import (
    JobReturn,
    JobStatus,
    configure_log,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from hydra_plugins.stack_launcher.composing import Composer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """What Hydra has told the launcher, and where its user wants the jobs to run."""

    hydra_context: HydraContext
    config: DictConfig
    task: TaskFunction
    where: Mapping[str, Any]


def launch(
    setup: Setup, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[JobReturn]:
    """Run the jobs; directories, configs and job returns are made by Hydra's own ``run_job``."""
    setup_globals()
    configure_log(setup.config.hydra.hydra_logging, setup.config.hydra.verbose)
    Path(str(setup.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    together = getattr(setup.task, "together", None)
    prepare = getattr(setup.task, "prepare", None)
    if prepare is not None:
        prepare(**{key: setup.where[key] for key in ("processes", "backend")})
    task = setup.task if together is None else _keep
    numbered = enumerate(job_overrides, start=initial_job_idx)
    composer = Composer(setup.hydra_context.config_loader, setup.config)
    jobs = [_run(setup, task, number, composer.compose(o)) for number, o in numbered]
    configure_log(setup.config.hydra.hydra_logging, setup.config.hydra.verbose)
    if together is not None:
        _run_together(setup, together, jobs, job_overrides)
    return jobs


def _run(setup: Setup, task: TaskFunction, number: int, config: DictConfig) -> JobReturn:
    with open_dict(config):
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
        config.hydra.job.num = number
    return run_job(
        hydra_context=setup.hydra_context, task_function=task, config=config,
        job_dir_key="hydra.sweep.dir", job_subdir_key="hydra.sweep.subdir",
    )  # fmt: skip


def _keep(config: DictConfig) -> DictConfig:
    """Stand in for the task while directories are made: its work is done together later."""
    return config


def _run_together(
    setup: Setup, together: Callable[..., list[Any]], jobs: Sequence[JobReturn],
    job_overrides: Sequence[Sequence[str]],
) -> None:  # fmt: skip
    """Train all jobs and put what came out into their job returns."""
    results = together(
        [job.return_value for job in jobs],
        labels=_labels(job_overrides),
        command=list(setup.config.hydra.overrides.task),
        **setup.where,
    )
    for job, result in zip(jobs, results, strict=True):
        job.return_value = result
        job.status = JobStatus.FAILED if isinstance(result, Exception) else JobStatus.COMPLETED


def _labels(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Name each job by the overrides that not all jobs have."""
    chosen = [filter_overrides(overrides) for overrides in job_overrides]
    common = set(chosen[0]).intersection(*chosen) if len(chosen) > 1 else set()
    return [" ".join(o for o in overrides if o not in common) for overrides in chosen]
