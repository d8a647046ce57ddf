"""A sweeper that searches: Optuna proposes trials, the launcher trains them as stacks.

The published plugin hydra-optuna-sweeper requires Optuna 2.10 and knows neither stacks nor early
stopping of trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.stack_launcher.config import SearchSweeperConf


class SearchSweeper(Sweeper):
    """Search for the values with which the task returns the lowest number.

    Args:
        settings: The keys of :class:`hydra_plugins.stack_launcher.config.SearchSweeperConf`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = SearchSweeperConf(**settings)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store the arguments and create the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Search within the budget; return the job returns of each batch."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        from hydra_plugins.stack_launcher._core import compact_errors
        from hydra_plugins.stack_launcher._search import Search

        assert self.hydra_context and self.config and self.launcher
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        one_sweep = getattr(self.launcher, "one_sweep", nullcontext)
        with compact_errors(), one_sweep():
            return Search(self.launcher, self.settings, self.config, arguments, parser).run()
