"""What the stack launcher does: compose every job, run them together, keep their order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import (
    JobReturn,
    JobStatus,
    configure_log,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.types import TaskFunction
from omegaconf import DictConfig, open_dict

from hydra_plugins.stack_launcher.composing import Composer

if TYPE_CHECKING:
    from hydra_plugins.stack_launcher.stack_launcher import StackLauncher

log = logging.getLogger(__name__)


def launch(
    launcher: StackLauncher, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[JobReturn]:
    """Run the jobs; directories, configs and job returns are made by Hydra's own ``run_job``."""
    assert launcher.config is not None and launcher.task_function is not None
    assert launcher.hydra_context is not None
    setup_globals()
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
    Path(str(launcher.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    together = getattr(launcher.task_function, "together", None)
    prepare = getattr(launcher.task_function, "prepare", None)
    if prepare is not None:
        where = {key: launcher.where[key] for key in ("processes", "backend")}
        prepare(jobs=len(job_overrides), **where)
    task = launcher.task_function if together is None else _keep
    numbered = enumerate(job_overrides, start=initial_job_idx)
    composer = Composer(launcher.hydra_context.config_loader, launcher.config)
    jobs = [_run(launcher, task, number, composer.compose(o)) for number, o in numbered]
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
    if together is not None:
        _run_together(launcher, together, jobs, job_overrides)
    return jobs


def _run(launcher: StackLauncher, task: TaskFunction, number: int, config: DictConfig) -> JobReturn:
    assert launcher.hydra_context is not None
    with open_dict(config):
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
        config.hydra.job.num = number
    return run_job(
        hydra_context=launcher.hydra_context, task_function=task, config=config,
        job_dir_key="hydra.sweep.dir", job_subdir_key="hydra.sweep.subdir",
    )  # fmt: skip


def _keep(config: DictConfig) -> DictConfig:
    """Stand in for the task while directories are made: its work is done together later."""
    return config


def _run_together(
    launcher: StackLauncher, together: Callable[..., list[Any]], jobs: Sequence[JobReturn],
    job_overrides: Sequence[Sequence[str]],
) -> None:  # fmt: skip
    """Train all jobs and put what came out into their job returns."""
    assert launcher.config is not None
    results = together(
        [job.return_value for job in jobs],
        labels=_labels(job_overrides),
        command=list(launcher.config.hydra.overrides.task),
        **launcher.where,
    )
    for job, result in zip(jobs, results, strict=True):
        job.return_value = result
        job.status = JobStatus.FAILED if isinstance(result, Exception) else JobStatus.COMPLETED


def _labels(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Name each job by the overrides that not all jobs have."""
    chosen = [filter_overrides(overrides) for overrides in job_overrides]
    common = set(chosen[0]).intersection(*chosen) if len(chosen) > 1 else set()
    return [" ".join(o for o in overrides if o not in common) for overrides in chosen]
