"""The launcher plugin; the work is in ``_core``."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

import hydra_plugins.stack_launcher.config  # noqa: F401  (registers the settings)


class StackLauncher(Launcher):
    """Hand all jobs of a batch to ``task.together``; a task without it runs job by job.

    Args:
        processes: worker processes, None for one a core.
        stack_size: most members in a stack, None for the measured size.
    """

    def __init__(self, processes: int | None = None, stack_size: int | None = None) -> None:
        self.processes, self.stack_size = processes, stack_size
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what a launch needs."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @property
    def composes_first(self) -> bool:
        """Whether all jobs are composed before the first one starts."""
        return hasattr(self.task_function, "together")

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs and return their results in order."""
        from hydra_plugins.stack_launcher import _core

        return _core.launch(self, job_overrides, initial_job_idx)
