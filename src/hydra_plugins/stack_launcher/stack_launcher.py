"""The launcher plugin; the work is in ``_core``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

import hydra_plugins.stack_launcher.config  # noqa: F401  (registers the settings)


class StackLauncher(Launcher):
    """Hand all jobs of a batch to ``task.together``; a task without it runs job by job.

    Args:
        processes: worker processes, None for one a core or GPU (or for all that a cluster has).
        stack_size: most members in a stack, None for the measured size.
        backend: where the task shall train: ``loky``, ``dask``, ``ray`` or ``submitit``.
        address: of the cluster.
        options: of the backend.
    """

    def __init__(
        self, processes: int | None = None, stack_size: int | None = None, backend: str = "loky",
        address: str | None = None, options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.where = {
            "processes": processes, "stack_size": stack_size, "backend": backend,
            "address": address, "options": dict(options or {}),
        }  # fmt: skip
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

        assert self.hydra_context and self.config is not None and self.task_function
        setup = _core.Setup(self.hydra_context, self.config, self.task_function, self.where)
        return _core.launch(setup, job_overrides, initial_job_idx)
