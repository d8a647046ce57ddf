"""Train a single run, or a sweep with -m.

python -m bikefit.train regularization=dropout
python -m bikefit.train -m regularization=none,l1,l2,dropout seed=0,1,2
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from bikefit.errors import BikefitError
from bikefit.sweeps import forkserver
from hydra_plugins.stack_launcher._core import compact_errors, fast_imports

if TYPE_CHECKING:
    from bikefit.config import Settings

CONF = Path(__file__).parents[2] / "conf"
INTERRUPTED = 130  # exit status after Ctrl-C

# Hydra accepts any layer name below regularization.layers; bikefit.config checks the names.
ConfigStore.instance().store(
    name="open_layers",
    node=DictConfig({"regularization": {"layers": DictConfig({}, flags={"struct": False})}}),
)


def train(config: DictConfig) -> float | Settings:
    """Train a single run and return its validation loss; return the settings of a sweep's job.

    The stack launcher trains the jobs of a sweep together. Other launchers train them one by one.
    """
    with compact_errors():
        context = HydraConfig.get()
        sweep = context.mode == RunMode.MULTIRUN
        if sweep and context.launcher._target_.endswith(".StackLauncher"):
            return _check(config)
        settings = _check(config)  # errors appear before slow imports
        with fast_imports():
            from bikefit.sweeps.command import run_single

        # The overrides of a sweep's job include those of files.
        return run_single(settings, [] if sweep else context.overrides.task)


def _check(config: DictConfig) -> Settings:
    """Return the settings of a job, and check that its table exists."""
    from bikefit.config import parse
    from bikefit.data.table import read_table

    values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    settings = parse(values)
    read_table(settings.data.path)
    return settings


def sweep(overrides: Sequence[str]) -> str:
    """Train a sweep as `-m` does, print its ranking, and return its run id.

    Raises:
        BikefitError: A setting is wrong, data are missing or MLflow does not take results.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins

    from bikefit.sweeps.command import FailedJobsError

    forkserver.start()
    with hydra.initialize_config_dir(str(CONF), job_name="train", version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        words = [*overrides, "hydra.mode=MULTIRUN"]
        config = app.compose_config("train", words, RunMode.MULTIRUN, with_log_configuration=True)
        sweeper: Any = Plugins.instance().instantiate_sweeper(
            hydra_context=HydraContext(app.config_loader, Callbacks(config)),
            task_function=train,
            config=config,
        )
        try:
            sweeper.sweep(list(config.hydra.overrides.task))
        except CompactHydraException as error:
            cause = error.__cause__
            if isinstance(cause, BikefitError | OSError) and not isinstance(cause, FailedJobsError):
                raise cause from None
            if not isinstance(cause, FailedJobsError):
                raise
        return str(sweeper.launcher.sweep.run)


def main() -> None:
    """Run the command and exit with its status."""
    flags = {word for word in sys.argv[1:] if word.startswith("-")}
    if flags <= {"-m", "--multirun"}:  # the command trains: workers import while Hydra composes
        forkserver.start()
    status = 0
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(train)()
    except KeyboardInterrupt:
        status = INTERRUPTED
    finally:
        forkserver.kill()
        gc.freeze()  # Python would search all modules for garbage before it ends
    sys.exit(status)


if __name__ == "__main__":
    main()
