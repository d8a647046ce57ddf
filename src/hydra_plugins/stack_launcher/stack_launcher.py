"""The launcher plugin. Its functions are in ``_core``, which Hydra does not import for --help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from bikefit.sweeps.command import OpenSweep


class StackLauncher(BasicLauncher):
    """Run the tasks of jobs in turn, and train the settings that they return together.

    :class:`~hydra_plugins.stack_launcher.config.StackLauncherConf` describes the arguments.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments
        self.sweep: OpenSweep | None = None
        self.context: ExitStack | None = None  # closes the sweep

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store the arguments, with a faster config loader."""
        from hydra_plugins.stack_launcher._core import Composer

        loader: Any = Composer(hydra_context.config_loader)
        context = HydraContext(loader, hydra_context.callbacks)
        super().setup(hydra_context=context, task_function=task_function, config=config)

    @contextmanager
    def joined_batches(self) -> Iterator[None]:
        """Train all batches that are launched in this context as one sweep."""
        with ExitStack() as self.context:
            yield
        self.sweep = self.context = None

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs and return their results in order."""
        from hydra_plugins.stack_launcher import _core

        # Each batch of a sweeper of Hydra, which does not open this context, is a sweep.
        with nullcontext() if self.context else self.joined_batches():
            jobs = super().launch(job_overrides, initial_job_idx)
            if _core.returned_settings(jobs):
                _core.train_settings(jobs, self.current_sweep())
        return jobs

    def current_sweep(self) -> OpenSweep:
        """Return the sweep of this context, which begins with the first batch."""
        from bikefit.sweeps.command import OpenSweep

        if self.sweep is None:
            assert self.context and self.config
            command = list(self.config.hydra.overrides.task)
            self.sweep = self.context.enter_context(OpenSweep(command, **self.arguments))
        return self.sweep
