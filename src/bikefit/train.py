"""Train one run, or a sweep with -m.

python -m bikefit.train regularization=dropout
python -m bikefit.train -m regularization=none,l1,l2,dropout seed=0,1,2
"""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from bikefit.errors import BikefitError, DataError

if TYPE_CHECKING:
    from bikefit.config import Settings

CONF = Path(__file__).parents[2] / "conf"
EXPECTED = (BikefitError, OSError)  # what a user can put right
STOPPED = 130  # exit status after Ctrl-C, as shells have it

# Layers have names that only the network knows, so any may be set here; bikefit.config checks them.
ConfigStore.instance().store(
    name="open_layers",
    node=DictConfig({"regularization": {"layers": DictConfig({}, flags={"struct": False})}}),
)


class TrainingError(CompactHydraException):
    """What stops a command, in words for its user: Hydra prints it without a traceback."""


def train(config: DictConfig) -> float:
    """Train the one job of a plain run and return its validation loss."""
    try:
        # before anything heavy is loaded: errors come at once
        settings = _settings(config, HydraConfig.get().overrides.task)
        with _loading():
            from bikefit.sweeps.command import run_one

        return run_one(settings)
    except EXPECTED as error:
        raise TrainingError(str(error)) from error


def together(
    configs: Sequence[DictConfig], labels: Sequence[str], command: Sequence[str],
    backend: str, address: str | None, options: Mapping[str, Any], processes: int | None,
    stack_size: int | None,
) -> list[float]:  # fmt: skip
    """Train all jobs of a sweep; the stack launcher calls this once for each batch of jobs.

    Returns:
        For each job its validation loss, NaN for one that failed.
    """
    try:
        settings = [_settings(config, command) for config in configs]
        with _loading():
            from bikefit.sweeps.cluster import connect
            from bikefit.sweeps.command import run_sweep

        with connect(backend, address, options, processes) as engine:
            results = run_sweep(settings, labels, command, processes, stack_size, engine)
    except EXPECTED as error:
        raise TrainingError(str(error)) from error
    # Hydra stops at an exception, and further batches would not be trained; the end of the command
    # names what failed, and its exit status says so.
    return [math.nan if isinstance(result, Exception) else result for result in results]


train.together = together  # type: ignore[attr-defined]


@contextmanager
def _loading() -> Iterator[None]:
    """Do not look for garbage while modules load, nor later among them: a fifth of the time."""
    first = gc.isenabled() and "bikefit.sweeps.command" not in sys.modules
    if first:
        gc.disable()
    try:
        yield
    finally:
        if first:
            gc.freeze()  # else it would be looked through at once
            gc.enable()


def _settings(config: DictConfig, command: Sequence[str]) -> Settings:
    from bikefit.config import ConfigError, parse
    from bikefit.data.table import read_table

    settings = parse(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]
    # A file that somebody else wrote must not open what it then uses.
    if settings.network.allow and not any(
        word.lstrip("+").startswith("network.allow=") for word in command
    ):
        opened = ",".join(settings.network.allow)
        raise ConfigError(
            f"network.allow = [{opened}]: a file cannot open packages; if you trust it, write "
            f"network.allow=[{opened}] on the command line"
        )
    read_table(settings.data.path)
    return settings


def prepare(processes: int | None = None, backend: str = "loky") -> None:
    """Load what workers need while Hydra still composes configs and MLflow is loaded."""
    if processes != 1 and backend == "loky" and os.cpu_count() != 1:
        from bikefit.sweeps import server

        server.start()


train.prepare = prepare  # type: ignore[attr-defined]


def version(config: DictConfig) -> str:
    """Say on which data and code results depend: a search goes on only where both are the same."""
    from bikefit.data.table import read_table
    from bikefit.sweeps.fingerprints import family

    try:
        return family(read_table(Path(config.data.root) / config.data.name).data_version)
    except DataError as error:
        raise TrainingError(str(error)) from error


train.version = version  # type: ignore[attr-defined]


def sweep(overrides: Sequence[str]) -> str:
    """Train a sweep as `-m` does, print its table, and return its run id."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from bikefit.sweeps import command

    try:
        with initialize_config_dir(str(CONF), job_name="train", version_base="1.3"):
            GlobalHydra.instance().hydra.multirun("train", train, list(overrides))  # type: ignore[union-attr]
        return command.open_sweep()
    finally:
        _close()


def main() -> None:
    """Hand over to Hydra; whatever happens, close the sweep and print its table."""
    gc.set_threshold(100_000)  # Hydra, too, makes little garbage
    status = 0
    try:
        try:
            if _trains_here(sys.argv[1:]):
                prepare()
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(train)()
        finally:
            status = _close()
    except KeyboardInterrupt:
        status = STOPPED
    finally:
        for module in ("bikefit.sweeps.processes", "bikefit.sweeps.server"):
            if module in sys.modules:
                sys.modules[module].end()
        gc.freeze()  # Python would look through all that was imported before it ends
    sys.exit(status)


def _trains_here(arguments: Sequence[str]) -> bool:
    """Say whether a command needs worker processes on cores of this machine, by its words."""
    flags = {word for word in arguments if word.startswith("-")}
    elsewhere = ("hydra", "accelerator")
    return flags <= {"-m", "--multirun"} and not any(
        other in word for word in arguments for other in elsewhere
    )


def _close() -> int:
    """Close the sweep, if one was opened, and return the exit status."""
    if "bikefit.sweeps.command" not in sys.modules:
        return 0
    try:
        return int(sys.modules["bikefit.sweeps.command"].close_sweep())
    except EXPECTED as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    main()
