"""The launcher plugin; the work is in ``_core``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from bikefit.sweeps.command import OpenSweep


class StackLauncher(Launcher):
    """Train the jobs whose task returns settings of bikefit; run other tasks one after the other.

    :class:`~hydra_plugins.stack_launcher.config.StackLauncherConf` describes the arguments.
    """

    def __init__(
        self,
        processes: int | None = None,
        stack_size: int | None = None,
        backend: str = "local",
        address: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.engine = {"backend": backend, "address": address, "options": dict(options or {})}
        self.processes, self.stack_size = processes, stack_size
        self.sweep: OpenSweep | None = None
        self.context: ExitStack | None = None  # closes the sweep

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store the arguments."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @contextmanager
    def one_sweep(self) -> Iterator[None]:
        """Train all batches within the context as one sweep, and conclude the sweep at its end."""
        from hydra_plugins.stack_launcher._core import compact_errors

        with compact_errors(), ExitStack() as self.context:
            yield
        self.sweep = self.context = None

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs and return their results in order."""
        from hydra_plugins.stack_launcher import _core

        # A sweeper of Hydra does not open a sweep: each of its batches is one.
        with nullcontext() if self.context else self.one_sweep():
            jobs = _core.run_jobs(
                self.hydra_context, self.config, self.task_function, job_overrides, initial_job_idx
            )
            if _core.have_settings(jobs):
                _core.train_jobs(jobs, self.open_sweep())
        return jobs

    def open_sweep(self) -> OpenSweep:
        """Return the sweep, which the first batch opens."""
        from bikefit.sweeps.command import OpenSweep

        if self.sweep is None:
            assert self.context is not None
            command = list(self.config.hydra.overrides.task)
            sweep = OpenSweep(command, self.processes, self.stack_size, **self.engine)
            self.sweep = self.context.enter_context(sweep)
        return self.sweep
