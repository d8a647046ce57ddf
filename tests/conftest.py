"""Fixtures: a small table made by the pipeline's own stages, and a store of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import bikefit.train  # noqa: F401  (registers what the config needs)
from bikefit import tracking
from bikefit.config import Settings, parse
from bikefit.data import clean, featurize
from synthetic import raw_hours

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/` as the data stages make it of 40 made-up days."""
    folder = tmp_path_factory.mktemp("project")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, table in params["featurize"]["tables"].items():
        table["rows"] = None if name == "full" else 240
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "data/raw").mkdir(parents=True)
    raw_hours(days=40).to_csv(folder / "data/raw/hour.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        clean.main()
        featurize.main()
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and no runs: making it takes two seconds, copying none."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        tracking.client.cache_clear()
        tracking.client().search_experiments()
        tracking.client.cache_clear()
    return folder / "mlflow.db"


@pytest.fixture
def workplace(
    project: Path, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A fresh current folder with the made-up data and an empty store of its own."""
    (tmp_path / "data").symlink_to(project / "data")
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.client.cache_clear()
    yield tmp_path
    tracking.client.cache_clear()


def make_settings(*overrides: str) -> Settings:
    """Compose a config as the shell does, and check it."""
    config: Any = OmegaConf.to_container(compose_config(*overrides), resolve=True)
    return parse(config)


def compose_config(*overrides: str) -> DictConfig:
    """Compose a config as the shell does."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))
