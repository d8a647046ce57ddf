"""Fixtures: a small table made by the pipeline's own stages, and a store of its own."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

import bikefit.train  # noqa: F401  (registers what the config needs)
from bikefit.config import Settings, parse
from bikefit.data import featurize
from bikefit.data.bikes import clean
from bikefit.tracking import connection, writing
from hydra_plugins.stack_launcher._core import Composer
from synthetic import raw_hours

if TYPE_CHECKING:
    from bikefit.training.members import Member, MemberResult

ROOT = Path(__file__).parents[1]
SMALL = ("network.hidden=[4]", "training.epochs=2", "training.batch_size=64")
LONG = 7  # s from which a test is left out by `make test`
_quick = False  # whether the test that runs now belongs to `make check`


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files that take long come first, so that no process waits for one of them at the end."""
    seconds: Counter[Path] = Counter()
    for item in items:
        if marker := item.get_closest_marker("slow"):
            taken = marker.kwargs.get("seconds", 2)
            seconds[item.path] += taken
            if taken >= LONG:
                item.add_marker("long")
    items.sort(key=lambda item: -seconds[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Tests of processes and servers wait for them a quarter of the time: one more than cores."""
    return None if "not process" in config.option.markexpr else joblib.cpu_count() + 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what kind of test runs."""
    global _quick
    _quick = not any(item.get_closest_marker(name) for name in ("slow", "process"))
    return (yield)


def _refuse_processes(event: str, arguments: tuple[Any, ...]) -> None:
    """Keep tests honest that are not marked: a Python process takes a second to start."""
    if _quick and event == "subprocess.Popen" and sys.executable in map(str, arguments[1]):
        raise RuntimeError("this test starts a process: mark it with pytest.mark.process")


sys.addaudithook(_refuse_processes)


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
        connection.client().search_experiments()
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
    yield tmp_path


def make_settings(*overrides: str) -> Settings:
    """Compose a config as the shell does, and check it."""
    config: Any = OmegaConf.to_container(compose_config(*overrides), resolve=True)
    return parse(config)


def train_stack(members: Sequence[Member], *watch: Any, **options: Any) -> list[MemberResult]:
    """Train members as a stack on the rows of their table."""
    from bikefit.training.fit import fit_stack
    from bikefit.training.folds import read_pool

    return fit_stack(members, read_pool(members[0].settings.data.path), *watch, **options)


def compose_config(*overrides: str) -> DictConfig:
    """Compose a config as a sweep does from the shell, a tenth of a second sooner than anew."""
    composer, master = _composer()
    config = composer.load_sweep_config(master, list(overrides))
    with open_dict(config):
        del config["hydra"]
    return config


@cache
def _composer() -> tuple[Composer, DictConfig]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return Composer(loader), loader.load_configuration("train", [], RunMode.MULTIRUN)


@pytest.fixture(scope="session")
def refit_folder(
    project: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project with a refitted sweep of four runs of two regularizations; `sweep.json` names it.

    Networks of both and boosted trees are averaged.
    """
    from bikefit import refit
    from bikefit.data.files import write_json
    from bikefit.final import choose, trees
    from bikefit.sweeps.jobs import Job
    from bikefit.sweeps.run import train_jobs
    from inline import INLINE

    folder = tmp_path_factory.mktemp("refit")
    (folder / "data").symlink_to(project / "data")
    shutil.copy(empty_store, folder / "mlflow.db")
    small = ("training.epochs=4", "training.batch_size=64", "network.hidden=[8]")
    ways = ("regularization=none", "regularization.l2=1e-3")
    jobs = [
        Job(make_settings(*small, way, f"seed={seed}"), f"{way} {seed}")
        for way in ways
        for seed in (0, 1)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("LOKY_MAX_CPU_COUNT", "1")
        patch.setattr(trees, "MOST_TREES", 30)
        patch.setattr(choose, "trees_share", lambda *_: 0.25)  # so few rows leave it to chance
        sweep = writing.start_sweep("full", "sweep of a test", [])
        train_jobs(jobs, sweep, engine=INLINE)
        writing.finish_sweep(sweep, "", {}, "FINISHED")
        write_json(folder / "sweep.json", {"sweep": sweep})
        assert refit.main(["--record", "sweep.json", "--average"]) == 0
    return folder


@pytest.fixture
def refitted(refit_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of :func:`refit_folder` as the current one, its store in use."""
    monkeypatch.chdir(refit_folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield refit_folder


@pytest.fixture
def quick(workplace: Path) -> list[str]:
    """Overrides of a small sweep in the :func:`workplace`."""
    return [*SMALL, "hydra.launcher.processes=1"]
