"""The work of the stack launcher: compose every job, train them together, keep their order."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
    """Import modules without garbage collection, which would take a quarter of the time (0.7 s)."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def preload_workers() -> None:
    """Start to load what worker processes need, while Hydra composes and MLflow is imported."""
    from bikefit.sweeps import forkserver

    forkserver.start()


@dataclass(frozen=True)
class LaunchContext:
    """The arguments of a launch that are equal for all batches.

    Args:
        hydra_context: Hydra's config loader and callbacks.
        config: Config of the sweep.
        task: Function that Hydra runs for each job.
        train: Trains jobs by their settings and labels, and returns their losses or errors.
    """

    hydra_context: HydraContext
    config: DictConfig
    task: TaskFunction
    train: Callable[[Sequence[Settings], Sequence[str]], Sequence[float | Exception]]


def launch(
    context: LaunchContext, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[JobReturn]:
    """Run the jobs; Hydra's ``run_job`` makes directories, configs and job returns.

    Jobs whose task returns settings are trained together, and the return value becomes the
    validation loss: NaN for a failed job, since Hydra would stop at an exception and not train
    later batches.
    """
    from bikefit.config import Settings

    config = context.config
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    composer = Composer(context.hydra_context.config_loader, config)
    jobs = [
        _run(context, number, composer.compose(overrides))
        for number, overrides in enumerate(job_overrides, start=initial_job_idx)
    ]
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    results = [job.return_value for job in jobs if job.status == JobStatus.COMPLETED]
    if len(results) == len(jobs) and all(isinstance(result, Settings) for result in results):
        losses = context.train(results, _labels(job_overrides))
        for job, loss in zip(jobs, losses, strict=True):
            job.return_value = math.nan if isinstance(loss, Exception) else loss
    return jobs


def _run(context: LaunchContext, number: int, config: DictConfig) -> JobReturn:
    with open_dict(config):
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
        config.hydra.job.num = number
    return run_job(
        hydra_context=context.hydra_context,
        task_function=context.task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _labels(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return the label of each job: its overrides that not all jobs have."""
    chosen = [filter_overrides(overrides) for overrides in job_overrides]
    common = set(chosen[0]).intersection(*chosen) if len(chosen) > 1 else set()
    return [" ".join(o for o in overrides if o not in common) for overrides in chosen]
