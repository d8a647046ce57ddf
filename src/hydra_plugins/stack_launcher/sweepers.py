"""Two sweepers: several grids in one sweep, and a search."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn

from hydra_plugins.stack_launcher.config import SearchSweeperConf


class StackSweeper(BasicSweeper):
    """Base class of both sweepers."""

    def parse(self, written: dict[str, Any], arguments: Sequence[str]) -> list[Override]:
        """Return the overrides of the config, followed by those of the command line."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides([*(f"{k}={v}" for k, v in written.items()), *arguments])

    def joined_batches(self) -> Any:
        """Return a context in which the stack launcher trains all batches as one sweep."""
        return getattr(self.launcher, "joined_batches", nullcontext)()


class GridsSweeper(StackSweeper):
    """Sweep over several grids, each crossed with ``params``; without grids, over ``params``.

    A key on the command line replaces the same key in ``params`` and ``grids``.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, Any] | None = None,
        grids: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(max_batch_size=max_batch_size, params=params)
        self.grids = list(grids) or [{}]

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Sweep over all grids, in one batch of jobs if no batch size is set."""
        from bikefit.config import ConfigError

        assert self.launcher is not None
        if self.max_batch_size is not None and self.max_batch_size < 1:
            value = self.max_batch_size
            raise ConfigError(f"hydra.sweeper.max_batch_size = {value}: must be at least 1")
        jobs: list[list[str]] = []
        for grid in self.grids:
            overrides = self.parse({**self.params, **grid}, arguments)
            (batch,) = self.split_arguments(overrides, None)
            jobs += [job for job in batch if job not in jobs]
        if not jobs:
            raise ConfigError(f"a key has no values, so there are no jobs: {' '.join(arguments)}")
        returns: list[Sequence[JobReturn]] = []
        with self.joined_batches():
            for batch in self.split_overrides_to_chunks(jobs, self.max_batch_size):
                returns.append(self.launcher.launch(batch, sum(map(len, returns))))
                _ = [job.return_value for job in returns[-1]]  # raises the error of a failed task
        return returns


class SearchSweeper(StackSweeper):
    """Search for the values with which the task returns the lowest number."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(max_batch_size=None)
        self.settings = SearchSweeperConf(**settings)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Search; return the job returns of each batch."""
        from hydra_plugins.stack_launcher._search import Search

        assert self.config and self.launcher
        overrides = self.parse(self.settings.space, arguments)
        with self.joined_batches():
            return Search(self.launcher, self.settings, self.config, overrides).run()
