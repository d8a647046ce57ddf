"""The launcher plugin. Its functions are in ``_core``, which Hydra does not import for --help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from bikefit.sweeps.command import OpenSweep


class StackLauncher(Launcher):
    """Run the tasks of jobs in turn, and train the settings that they return together.

    :class:`~hydra_plugins.stack_launcher.config.StackLauncherConf` describes the arguments.
    """

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.sweep: OpenSweep | None = None
        self.context: ExitStack | None = None  # closes the sweep

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store the arguments, as Hydra's interface requires."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @contextmanager
    def joined_batches(self) -> Iterator[None]:
        """Train all batches that are launched in this context as one sweep."""
        from hydra_plugins.stack_launcher._core import compact_errors

        with compact_errors(), ExitStack() as self.context:
            yield
        self.sweep = self.context = None

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs and return their results in order."""
        from hydra_plugins.stack_launcher import _core

        # Each batch of a sweeper of Hydra, which does not open this context, is a sweep.
        with nullcontext() if self.context else self.joined_batches():
            jobs = _core.run_jobs(
                self.hydra_context, self.config, self.task_function, job_overrides, initial_job_idx
            )
            if _core.returned_settings(jobs):
                _core.train_settings(jobs, self.current_sweep())
        return jobs

    def current_sweep(self) -> OpenSweep:
        """Return the sweep of this context, which begins with the first batch."""
        from bikefit.sweeps.command import OpenSweep

        if self.sweep is None:
            assert self.context is not None
            command = list(self.config.hydra.overrides.task)
            self.sweep = self.context.enter_context(OpenSweep(command, **self.arguments))
        return self.sweep
