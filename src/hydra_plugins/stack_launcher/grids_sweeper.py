"""A sweeper for several grids in one sweep: networks of all sizes, and on one of them strengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException

import hydra_plugins.stack_launcher.config  # noqa: F401  (registers the settings)


class GridsSweeper(BasicSweeper):
    """Hydra's grid sweeper, over one grid after the other.

    A key given on the command line takes the place of the same key in ``params`` and ``grids``.
    Without grids this is Hydra's basic sweeper.

    Args:
        max_batch_size: jobs handed to the launcher at once, None for all.
        params: sweeps that every grid is crossed with.
        grids: each a mapping from key to comma-separated values, its keys crossed.
    """

    def __init__(
        self, max_batch_size: int | None, params: dict[str, Any] | None = None,
        grids: Sequence[dict[str, Any]] = (),
    ) -> None:  # fmt: skip
        super().__init__(max_batch_size=max_batch_size, params=params)
        self.grids = list(grids) or [{}]

    def sweep(self, arguments: list[str]) -> Any:
        """Sweep over all grids, as one batch of jobs where no batch size is set."""
        self.arguments = arguments
        try:
            return super().sweep([])
        except OSError as error:  # a full disk, say; of this class Hydra shows no traceback
            raise CompactHydraException(f"the sweep has stopped: {error}") from error

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose all jobs to see whether that works, unless the launcher is about to do it."""
        if not getattr(self.launcher, "composes_first", False):
            super().validate_batch_is_legal(batch)

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return batches of jobs, each job a list of overrides."""
        assert self.hydra_context is not None
        from hydra.core.override_parser.overrides_parser import OverridesParser

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        jobs: list[list[str]] = []
        for grid in self.grids:
            own = [f"{key}={value}" for key, value in grid.items()]
            parsed = parser.parse_overrides([*own, *self.arguments])
            (batch,) = BasicSweeper.split_arguments([*overrides, *parsed], None)
            jobs += [job for job in batch if job not in jobs]
        size = max_batch_size or len(jobs)
        return list(BasicSweeper.split_overrides_to_chunks(jobs, size))
