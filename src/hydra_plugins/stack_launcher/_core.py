"""The work of the stack launcher: compose every job, train them together, keep their order."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import (
    JobReturn,
    JobStatus,
    configure_log,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, open_dict

from hydra_plugins.stack_launcher._composing import Composer

if TYPE_CHECKING:
    from hydra_plugins.stack_launcher.stack_launcher import StackLauncher


@contextmanager
def compact_errors() -> Iterator[None]:
    """Convert errors that a user can correct to the class that Hydra prints without a traceback."""
    from bikefit.errors import BikefitError

    try:
        yield
    except (BikefitError, OSError) as error:
        raise CompactHydraException(str(error)) from error


def preload_workers() -> None:
    """Start to load what worker processes need, while Hydra composes and MLflow is imported."""
    from bikefit.sweeps import server

    if os.cpu_count() != 1:
        server.start()


def launch(
    launcher: StackLauncher, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[JobReturn]:
    """Run the jobs; Hydra's ``run_job`` makes directories, configs and job returns."""
    from bikefit.config import Settings

    config = launcher.config
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    composer = Composer(launcher.hydra_context.config_loader, config)
    jobs = [
        _run(launcher, number, composer.compose(overrides))
        for number, overrides in enumerate(job_overrides, start=initial_job_idx)
    ]
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    results = [job.return_value for job in jobs if job.status == JobStatus.COMPLETED]
    if len(results) == len(jobs) and all(isinstance(result, Settings) for result in results):
        _train(launcher, jobs, _labels(job_overrides))
    return jobs


def _run(launcher: StackLauncher, number: int, config: DictConfig) -> JobReturn:
    with open_dict(config):
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
        config.hydra.job.num = number
    return run_job(
        hydra_context=launcher.hydra_context,
        task_function=launcher.task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _train(launcher: StackLauncher, jobs: Sequence[JobReturn], labels: Sequence[str]) -> None:
    """Train jobs whose return values are settings; replace these by validation losses.

    The loss of a failed job is NaN: Hydra would stop at an exception and not train later batches.
    """
    from bikefit.sweeps.command import OpenSweep

    assert launcher.open is not None
    if launcher.sweep is None:
        command = list(launcher.config.hydra.overrides.task)
        sweep = OpenSweep(command, launcher.processes, launcher.stack_size, **launcher.engine)
        launcher.sweep = launcher.open.enter_context(sweep)
    results = launcher.sweep.train([job.return_value for job in jobs], labels)
    for job, result in zip(jobs, results, strict=True):
        job.return_value = math.nan if isinstance(result, Exception) else result


def _labels(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return the label of each job: its overrides that not all jobs have."""
    chosen = [filter_overrides(overrides) for overrides in job_overrides]
    common = set(chosen[0]).intersection(*chosen) if len(chosen) > 1 else set()
    return [" ".join(o for o in overrides if o not in common) for overrides in chosen]
