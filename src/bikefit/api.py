"""The commands as functions. Importing this module imports no other package."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bikefit.comparison.result import Comparison
    from bikefit.trained import TrainedNetwork


# Settings of Hydra that leave the logging of the process as it is.
HYDRA = ("hydra.mode=MULTIRUN", "hydra/job_logging=none", "hydra/hydra_logging=none")


@contextmanager
def separate_hydra() -> Iterator[None]:
    """Let Hydra be uninitialized in this context, and restore its state afterwards."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime
    from hydra.version import VersionBase
    from omegaconf.basecontainer import BaseContainer

    instances, resolvers = Singleton._instances, dict(BaseContainer._resolvers)
    state = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)
    Singleton._instances = {kind: it for kind, it in instances.items() if kind not in state}
    try:
        yield
    finally:
        Singleton._instances, BaseContainer._resolvers = instances, resolvers


@contextmanager
def messages() -> Iterator[None]:
    """Print the messages of this package on standard error in this context."""
    handler = logging.StreamHandler()
    loggers = [logging.getLogger(name) for name in ("bikefit", "hydra_plugins")]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def sweep(overrides: Sequence[str]) -> Comparison:
    """Train a sweep in the current folder, the project's root, and compare its configurations.

    The state of Hydra, of MLflow and of logging in this process is the same afterwards.

    Args:
        overrides: The words after `python -m bikefit.train -m`, such as
            ``["regularization=none,l2,dropout", "seed=0,1"]``.

    Raises:
        ConfigError: A setting is wrong.
        DataError: The table is missing.
        TrackingError: MLflow has not taken all results; `python -m bikefit.send` sends them.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from bikefit.processes import process_id
    from bikefit.sweeps import forkserver
    from bikefit.sweeps.command import FailedJobsError
    from bikefit.tracking.reading import latest_sweep
    from bikefit.train import conf_folder, convert_hydra_errors, store_tables, train

    store_tables()
    with warnings.catch_warnings():  # pandas changes the filters in threads
        try:
            with (
                separate_hydra(),
                messages(),
                hydra.initialize_config_dir(conf_folder(), job_name="train", version_base="1.3"),
            ):
                app = GlobalHydra.instance().hydra
                assert app is not None
                with suppress(FailedJobsError), convert_hydra_errors():
                    app.multirun("train", train, [*HYDRA, *overrides])
        finally:
            forkserver.kill()
        return compare(latest_sweep(process_id()))


def compare(
    sweep: str | None = None, *, experiment: str | None = None, **metrics: Any
) -> Comparison:
    """Compare the configurations of a sweep, or of any MLflow experiment.

    Args:
        sweep: Run id of the sweep; None for the latest sweep.
        experiment: Name of an experiment of any program, instead of a sweep.
        metrics: Of an experiment: ``train`` and ``validation``, the names of its metrics, and as
            needed ``maximize`` and ``seed``, see :class:`bikefit.comparison.experiments.Metrics`.

    Raises:
        TrackingError: There is no such sweep or experiment.
        ExperimentError: The runs of the experiment cannot be compared.
    """
    from bikefit.comparison import experiments, result

    if experiment is None:
        return result.compare(sweep)
    return result.compare_experiment(experiment, experiments.Metrics(**metrics))


def load(run: str) -> TrainedNetwork:
    """Return the trained network of a run: its torch ``module`` and its rows.

    Args:
        run: Id of the run, such as ``compare().ranked_runs["run_id"][0]``.

    Raises:
        TrackingError: There is no such run, or it has no weights.
        DataError: The run is cross-validated or was trained on a fraction of the rows, or its table
            is missing or was changed.
    """
    from bikefit import trained

    return trained.load(run)


def predict(
    rows: pd.DataFrame | Mapping[str, Any], model: str = "models:/bikefit@champion"
) -> pd.DataFrame:
    """Predict the rentals of hours, or the target of rows of your own table.

    Args:
        rows: A table, or one row, with the columns ``at``, ``temp`` (°C), ``humidity`` (%),
            ``windspeed`` (km/h), ``weather`` and optionally ``feels_like`` (°C) and ``holiday``;
            for the model of another table, the columns of its features.
        model: A registered model, or the folder of a model.

    Returns:
        One row per row: ``expected``, ``low`` and ``high`` (bikes/hour, or the unit of the target;
        ``low`` and ``high`` bound a 90 % prediction interval), or ``probability`` of a target of 0
        and 1; and ``error``, the reason why a row has no prediction, or "".

    Raises:
        DataError: There is no such model.
    """
    import pandas as pd

    from bikefit.final.predict import open_model

    return open_model(model).predict(pd.DataFrame([rows]) if isinstance(rows, Mapping) else rows)
