"""A sweeper for several grids in one sweep, such as network sizes and strengths."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

import hydra_plugins.stack_launcher.config  # noqa: F401  (registers the settings)


class GridsSweeper(BasicSweeper):
    """Hydra's grid sweeper, over one grid after the other.

    A key on the command line replaces the same key in ``params`` and ``grids``. Without grids this
    is Hydra's basic sweeper.

    Args:
        max_batch_size: Number of jobs that the launcher gets at once; None for all.
        params: Sweeps that every grid is crossed with.
        grids: Mappings from key to comma-separated values; the keys of a grid are crossed.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, Any] | None = None,
        grids: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(max_batch_size=max_batch_size, params=params)
        self.grids = list(grids) or [{}]

    def sweep(self, arguments: list[str]) -> Any:
        """Sweep over all grids, in one batch of jobs if no batch size is set."""
        self.arguments = arguments
        with getattr(self.launcher, "one_sweep", nullcontext)():
            return super().sweep([])

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: the launcher composes all jobs before it trains any."""

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return batches of jobs, each job a list of overrides."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        jobs: list[list[str]] = []
        for grid in self.grids:
            written = [f"{key}={value}" for key, value in grid.items()]
            parsed = parser.parse_overrides([*written, *self.arguments])
            (batch,) = BasicSweeper.split_arguments([*overrides, *parsed], None)
            jobs += [job for job in batch if job not in jobs]
        return list(BasicSweeper.split_overrides_to_chunks(jobs, max_batch_size))
