"""Compose the configs of many jobs.

Hydra reads about twenty files for each composition, which takes a tenth of a second. Jobs that
choose the same files and set the same keys differ only in the values of these keys, so the config
of the first such job is copied for the others.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict


class Composer:
    """Compose the config of each job of a sweep.

    Args:
        loader: Hydra's config loader.
        master: Config of the sweep.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        self.options = cache(loader.get_group_options)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return the same config as ``load_sweep_config``."""
        parsed = self.parser.parse_overrides(list(overrides))
        values = [override for override in parsed if self._sets_a_value(override)]
        files = tuple(f"{o.key_or_group}=" if o in values else str(o.input_line) for o in parsed)
        if files not in self.composed:
            self.composed[files] = self.loader.load_sweep_config(self.master, list(overrides))
            return copy.deepcopy(self.composed[files])
        config = copy.deepcopy(self.composed[files])
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        task = [override for override in parsed if not override.is_hydra_override()]
        with open_dict(config.hydra):
            config.hydra.overrides.task = [override.input_line for override in task]
            config.hydra.job.override_dirname = get_overrides_dirname(
                overrides=task, **config.hydra.job.config.override_dirname
            )
        OmegaConf.copy_cache(from_config=self.master, to_config=config)
        return config

    def _sets_a_value(self, override: Override) -> bool:
        """Return whether an override only replaces the value of a key.

        Choices of files, added and removed keys, Hydra's own keys and mappings, which are merged,
        change more.
        """
        return (
            override.type == OverrideType.CHANGE
            and override.package is None
            and not override.is_hydra_override()
            and not isinstance(override.value(), dict)
            and not self.options(override.key_or_group)
        )
