"""The work of the stack launcher: compose every job, train them together, keep their order."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from hydra_plugins.stack_launcher._composing import Composer

if TYPE_CHECKING:
    from bikefit.config import Settings


@contextmanager
def compact_errors() -> Iterator[None]:
    """Convert errors that a user can correct to the class that Hydra prints without a traceback."""
    from bikefit.errors import BikefitError

    try:
        yield
    except (BikefitError, OSError) as error:
        raise CompactHydraException(str(error)) from error


@contextmanager
def fast_imports() -> Iterator[None]:
    """Import modules without garbage collection (0.7 s), and never collect what they define."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def run_jobs(
    context: HydraContext,
    config: DictConfig,
    task: TaskFunction,
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
) -> list[JobReturn]:
    """Run the task of each job; Hydra's ``run_job`` makes directories, configs and job returns."""
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    composer = Composer(context.config_loader, config)
    jobs = []
    for number, overrides in enumerate(job_overrides, start=initial_job_idx):
        job = composer.compose(overrides)
        with open_dict(job):
            job.hydra.job.id = f"{job.hydra.job.name}_{number}"
            job.hydra.job.num = number
        jobs.append(run_job(task, job, "hydra.sweep.dir", "hydra.sweep.subdir", context))
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    return jobs


def train_jobs(
    jobs: Sequence[JobReturn],
    train: Callable[[Sequence[Settings], Sequence[str]], Sequence[float | Exception]],
) -> None:
    """Train jobs together if their tasks returned settings, which losses then replace.

    The loss of a failed job is NaN, since Hydra would stop at an exception and not train later
    batches.
    """
    from bikefit.config import Settings

    results = [job.return_value for job in jobs if job.status == JobStatus.COMPLETED]
    if len(results) == len(jobs) and all(isinstance(result, Settings) for result in results):
        losses = train(results, _labels(jobs))
        for job, loss in zip(jobs, losses, strict=True):
            job.return_value = math.nan if isinstance(loss, Exception) else loss


def _labels(jobs: Sequence[JobReturn]) -> list[str]:
    """Return the label of each job: its overrides that not all jobs have."""
    chosen = [list(job.overrides or []) for job in jobs]
    common = set(chosen[0]).intersection(*chosen) if len(chosen) > 1 else set()
    return [" ".join(o for o in overrides if o not in common) for overrides in chosen]
