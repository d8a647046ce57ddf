"""The work of the stack launcher: compose every job, train them together, keep their order."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
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
from hydra.plugins.launcher import Launcher
from omegaconf import open_dict

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


def launch(
    launcher: Launcher,
    train: Callable[[Sequence[Settings], Sequence[str]], Sequence[float | Exception]],
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
) -> list[JobReturn]:
    """Run the jobs; Hydra's ``run_job`` makes directories, configs and job returns.

    Jobs whose task returns settings are trained together by `train`, which gets the settings and
    labels of all jobs. The return value becomes the validation loss: NaN for a failed job, since Hydra would stop at an exception and not train
    later batches.
    """
    from bikefit.config import Settings

    config, context, task = launcher.config, launcher.hydra_context, launcher.task_function
    assert config is not None and context is not None and task is not None
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
        returned = run_job(task, job, "hydra.sweep.dir", "hydra.sweep.subdir", context)
        jobs.append(returned)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    results = [job.return_value for job in jobs if job.status == JobStatus.COMPLETED]
    if len(results) == len(jobs) and all(isinstance(result, Settings) for result in results):
        losses = train(results, _labels(job_overrides))
        for returned, loss in zip(jobs, losses, strict=True):
            returned.return_value = math.nan if isinstance(loss, Exception) else loss
    return jobs


def _labels(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return the label of each job: its overrides that not all jobs have."""
    chosen = [filter_overrides(overrides) for overrides in job_overrides]
    common = set(chosen[0]).intersection(*chosen) if len(chosen) > 1 else set()
    return [" ".join(o for o in overrides if o not in common) for overrides in chosen]
