"""A copied config equals the config that Hydra composes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

import bikefit.train  # noqa: F401  (registers what the config needs)
from hydra_plugins.stack_launcher._core import Composer

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "copied"),
    [
        (["seed=0", "regularization.l2=0.1"], ["seed=1", "regularization.l2=1e-3"], True),
        (["network.hidden=[8]"], ["network.hidden=[64,64]"], True),
        (["regularization.layers.hidden1.l2=1"], ["regularization.layers.hidden1.l2=2"], True),
        (["regularization=l1", "seed=0"], ["regularization=l1", "seed=3"], True),
        (["regularization=l1", "seed=0"], ["regularization=l2", "seed=3"], False),
        (["seed=0"], ["loss=mse"], False),
        (["hydra.verbose=false", "seed=0"], ["hydra.verbose=true", "seed=1"], False),
        (
            ["regularization.layers={hidden1:{l2:1}}"],
            ["regularization.layers={hidden2:{l1:1}}"],
            False,
        ),
    ],
)
def test_a_composed_config_equals_that_of_hydra(
    first: Sequence[str], second: Sequence[str], copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration(
            "train", ["training.epochs=3"], run_mode=RunMode.MULTIRUN
        )
        calls = []
        real = loader.load_sweep_config

        def counted(config: object, overrides: list[str]) -> object:
            calls.append(overrides)
            return real(config, overrides)

        monkeypatch.setattr(loader, "load_sweep_config", counted)
        composer = Composer(loader)
        jobs = [["training.epochs=3", *overrides] for overrides in (first, second)]
        ours = [composer.load_sweep_config(master, job) for job in jobs]
        assert len(calls) == (1 if copied else 2)
        for job, config in zip(jobs, ours, strict=True):
            assert OmegaConf.to_container(config) == OmegaConf.to_container(real(master, job))
