"""Train a single run, or a sweep with -m.

python -m bikefit.train regularization=dropout
python -m bikefit.train -m regularization=none,l1,l2,dropout seed=0,1,2
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bikefit.errors import run_command
from bikefit.sweeps import forkserver

if TYPE_CHECKING:
    from bikefit.config import Settings


# Hydra accepts any layer name below regularization.layers; bikefit.config checks the names.
ConfigStore.instance().store(
    name="open_layers",
    node=DictConfig({"regularization": {"layers": DictConfig({}, flags={"struct": False})}}),
)


def store_tables() -> None:
    """Make each table of `params.yaml` in the current folder a choice of the group ``data``."""
    try:
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        names = list(params["featurize"]["tables"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return  # Hydra lists the other tables
    for name in names:
        if not (Path(conf_folder()) / "data" / f"{name}.yaml").exists():
            node = {"name": name, "root": "data/features", "fraction": 1.0}
            ConfigStore.instance().store(group="data", name=str(name), node=node)


def conf_folder() -> str:
    """Return ``conf/`` of the current folder, or that of this code if the folder has none."""
    here = Path("conf").absolute()
    return str(here if (here / "train.yaml").exists() else Path(__file__).parents[2] / "conf")


def train(config: DictConfig) -> float | Settings:
    """Train a run and return its validation loss, or return settings for the stack launcher.

    The stack launcher trains the jobs of a sweep together; other launchers train each by this task.
    """
    forkserver.start()  # workers import torch while this process imports MLflow
    from bikefit.config import ConfigError, parse
    from bikefit.data.table import read_table

    context = HydraConfig.get()
    if context.job.chdir:
        raise ConfigError(
            "hydra.job.chdir = true: data and runs would be looked for in the output folder; "
            "leave it false, hydra.run.dir and hydra.sweep.dir set the output folder"
        )
    values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    settings = parse(values)
    read_table(settings.data.path)  # an error appears before slow imports
    if context.mode == RunMode.MULTIRUN:
        if context.launcher._target_.endswith(".StackLauncher"):
            return settings
        raise ConfigError(
            "hydra/launcher: with -m it must be stack, the default, or dask or slurm; others "
            "train single runs, which are not compared"
        )
    from bikefit.sweeps.command import run_single

    return run_single(settings, context.overrides.task)


@contextmanager
def convert_hydra_errors() -> Iterator[None]:
    """Convert errors of Hydra, about the command line, the config and its folders, to ConfigError.

    An error is Hydra's if the innermost function of Hydra, OmegaConf or this project that it left
    is not of this project.
    """
    try:
        yield
    except Exception as error:
        names = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
        packages = [name.partition(".")[0] for name in names]
        left = [p for p in packages if p in ("hydra", "omegaconf", *OURS)]
        if left and left[-1] in OURS:
            raise
        from bikefit.config import ConfigError

        text = str(error)
        if isinstance(error.__cause__, OmegaConfBaseException):
            text += f" {error.__cause__}"
        elif isinstance(error, OSError):
            text += ": hydra.run.dir, with -m hydra.sweep.dir, must be a folder that can be written"
        elif isinstance(error, UnicodeError):
            text = f"a file of the config is not UTF-8: {text}"
        elif not isinstance(error, HydraException | OmegaConfBaseException):
            text = f"Hydra: {text or repr(error)}"
        raise ConfigError(" ".join(text.split())) from error


OURS = ("bikefit", "hydra_plugins", "__main__")


def main() -> int:
    """Run the command and return its exit status."""
    gc.set_threshold(100_000)  # otherwise collections during the imports take 0.7 s
    try:
        return run_command(_run)
    finally:
        forkserver.kill()
        gc.freeze()  # otherwise Python searches all modules for garbage before it exits


def _run() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors and does not print them
    store_tables()
    with convert_hydra_errors():
        hydra.main(version_base="1.3", config_path=conf_folder(), config_name="train")(train)()


if __name__ == "__main__":
    sys.exit(main())
