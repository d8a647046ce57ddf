"""Train a single run, or a sweep with -m.

python -m bikefit.train regularization=dropout
python -m bikefit.train -m regularization=none,l1,l2,dropout seed=0,1,2
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bikefit.sweeps import forkserver
from hydra_plugins.stack_launcher._core import compact_errors

if TYPE_CHECKING:
    from bikefit.config import Settings

CONF = Path(__file__).parents[2] / "conf"

# Hydra accepts any layer name below regularization.layers; bikefit.config checks the names.
ConfigStore.instance().store(
    name="open_layers",
    node=DictConfig({"regularization": {"layers": DictConfig({}, flags={"struct": False})}}),
)


def train(config: DictConfig) -> float | Settings:
    """Train a run and return its validation loss, or return settings for the stack launcher.

    The stack launcher trains the jobs of a sweep together; other launchers train each by this task.
    """
    forkserver.start()  # workers import torch while this process imports MLflow
    with compact_errors():
        from bikefit.config import parse
        from bikefit.data.table import read_table

        values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        settings = parse(values)
        read_table(settings.data.path)  # an error appears before slow imports
        context = HydraConfig.get()
        sweep = context.mode == RunMode.MULTIRUN
        if sweep and context.launcher._target_.endswith(".StackLauncher"):
            return settings
        from bikefit.sweeps.command import run_single

        # The overrides of a sweep's job may come from files, which must not allow packages.
        return run_single(settings, [] if sweep else context.overrides.task)


def main() -> None:
    """Run the command; exit with status 130 after Ctrl-C."""
    gc.set_threshold(100_000)  # otherwise collections during the imports take 0.7 s
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(train)()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        forkserver.kill()
        gc.freeze()  # otherwise Python searches all modules for garbage before it exits


if __name__ == "__main__":
    main()
