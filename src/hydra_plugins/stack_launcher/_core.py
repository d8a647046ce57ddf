"""Functions of the stack launcher: compose the configs of jobs, train their settings."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from bikefit.sweeps.command import OpenSweep


class Composer:
    """A config loader for the jobs of one sweep.

    Hydra takes 0.1 s to compose a config from about twenty files. Configs of jobs that choose the
    same files and set the same keys differ only in values, so the first such config is copied.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self.parser = OverridesParser.create(config_loader=loader)
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        self.options = cache(loader.get_group_options)

    def load_sweep_config(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        """Return the same config as the method of Hydra's loader; ``master`` is the sweep's."""
        parsed = self.parser.parse_overrides(overrides)
        values = [override for override in parsed if self._sets_a_value(override)]
        files = tuple(f"{o.key_or_group}=" if o in values else str(o.input_line) for o in parsed)
        if files not in self.composed:
            self.composed[files] = self.loader.load_sweep_config(master, overrides)
        config = copy.deepcopy(self.composed[files])
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        task = [override for override in parsed if not override.is_hydra_override()]
        with open_dict(config.hydra):
            config.hydra.overrides.task = [override.input_line for override in task]
            config.hydra.job.override_dirname = get_overrides_dirname(
                overrides=task, **config.hydra.job.config.override_dirname
            )
        OmegaConf.copy_cache(from_config=master, to_config=config)
        return config

    def _sets_a_value(self, override: Override) -> bool:
        """Return whether an override only replaces a value.

        It does not if it chooses a file, adds, removes or merges keys, or sets a key of Hydra.
        """
        return (
            override.type == OverrideType.CHANGE
            and override.package is None
            and not override.is_hydra_override()
            and not isinstance(override.value(), dict)
            and not self.options(override.key_or_group)
        )


def returned_settings(jobs: Sequence[JobReturn]) -> bool:
    """Return whether the tasks of all jobs returned settings of bikefit."""
    from bikefit.config import Settings

    completed = all(job.status == JobStatus.COMPLETED for job in jobs)
    return completed and all(isinstance(job.return_value, Settings) for job in jobs)


def train_settings(jobs: Sequence[JobReturn], sweep: OpenSweep) -> None:
    """Train the settings that tasks returned, and replace them by the validation losses.

    The loss of a failed job is NaN, because Hydra would not train later batches after an exception.
    The label of a job consists of the overrides that not all jobs have.
    """
    chosen = [list(job.overrides or []) for job in jobs]
    common = set(chosen[0]).intersection(*chosen) if len(chosen) > 1 else set()
    labels = [" ".join(o for o in overrides if o not in common) for overrides in chosen]
    losses = sweep.train([job.return_value for job in jobs], labels)
    for job, loss in zip(jobs, losses, strict=True):
        job.return_value = math.nan if isinstance(loss, Exception) else loss
