"""The reference sweep: 24 runs on table `full` of a network with two hidden layers of 128."""

from __future__ import annotations

from itertools import islice, product
from typing import TYPE_CHECKING, Any

from benchmarks.sweep.processes import ROOT

if TYPE_CHECKING:
    from bikefit.training.members import Member

L2 = ("0", "1e-5", "1e-4", "1e-3")
DROPOUT = ("0", "0.1", "0.3")
RUNS = 24
EPOCHS = 20
SHARED = (
    "data=full", "network.hidden=[128,128]", "network.activation=relu",
    "regularization.batch_norm=before", "loss=mse", "optimizer=adam", "optimizer.lr=1e-3",
    "optimizer.schedule=constant", "training.batch_size=256",
)  # fmt: skip


def command(epochs: int) -> list[str]:
    """Return the arguments of Python for the sweep."""
    return [
        "-m", "bikefit.train", "-m", *SHARED, f"training.epochs={epochs}",
        f"regularization.l2={','.join(L2)}", f"regularization.dropout={','.join(DROPOUT)}",
        "seed=0,1",
    ]  # fmt: skip


def members(count: int, *overrides: str) -> list[Member]:
    """Return members of the sweep's grid, all strengths of one seed before the next seed."""
    from bikefit.training.members import Member

    settings = _settings(*overrides)
    grid = islice(product(range(count), L2, DROPOUT), count)
    return [Member(_with(settings, float(l2), float(p), seed)) for seed, l2, p in grid]


def _settings(*overrides: str) -> Any:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    import bikefit.train  # noqa: F401  (registers what the config needs)
    from bikefit.config import parse

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [*SHARED, *overrides])
    values: Any = OmegaConf.to_container(config, resolve=True)
    return parse(values)


def _with(settings: Any, l2: float, dropout: float, seed: int) -> Any:
    regularization = settings.regularization.model_copy(update={"l2": l2, "dropout": dropout})
    return settings.model_copy(update={"regularization": regularization, "seed": seed})
