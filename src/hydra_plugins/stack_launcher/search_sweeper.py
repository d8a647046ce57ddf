"""A sweeper that searches: Optuna proposes trials, the launcher trains them as stacks.

The published hydra-optuna-sweeper 1.3.0 requires Optuna 2.10; its 1.4 is a pre-release and needs
one of Hydra too. Neither fits stacks: trials of a batch there differ in shape, none is stopped
early, and a study that was killed keeps its unfinished trials for ever.
"""

from __future__ import annotations

from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

import hydra_plugins.stack_launcher.config  # noqa: F401  (registers the settings)


class SearchSweeper(Sweeper):
    """Search for the values with which the task returns the lowest number.

    Args:
        settings: those of :class:`hydra_plugins.stack_launcher.config.SearchSweeperConf`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what a search needs, and make the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[list[JobReturn]]:
        """Search within the budget; return the job returns of each batch."""
        from hydra_plugins.stack_launcher import _search

        assert self.hydra_context and self.config is not None
        assert self.task_function and self.launcher
        setup = _search.Setup(
            self.hydra_context, self.config, self.task_function, self.launcher, self.settings
        )
        return _search.search(setup, arguments)
