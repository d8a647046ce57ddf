"""Several grids in one sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.test_utils.test_utils import TSweepRunner
from omegaconf import DictConfig

pytestmark = pytest.mark.filterwarnings("ignore:.*Future Hydra versions.*:UserWarning")


def jobs(runner: TSweepRunner, folder: Path, *overrides: str) -> list[list[str]]:
    def task(config: DictConfig) -> Any:
        return None

    sweep = runner(
        calling_file=None,
        calling_module="hydra.test_utils.a_module",
        task_function=task,
        config_path="configs",
        config_name="compose",
        overrides=["hydra/launcher=stack", "hydra/sweeper=grids", *overrides],
        temp_dir=folder,  # type: ignore[arg-type]
    )
    with sweep:
        assert sweep.returns is not None
        return [list(job.overrides or []) for batch in sweep.returns for job in batch]


GRIDS = 'hydra.sweeper.grids=[{foo:"1,2"},{bar:"[3],[4]",foo:5}]'


@pytest.mark.slow
def test_without_grids_it_is_hydras_own(hydra_sweep_runner: TSweepRunner, tmp_path: Path) -> None:
    found = jobs(hydra_sweep_runner, tmp_path, "foo=1,2", "bar=3,4")
    assert found == [["foo=1", "bar=3"], ["foo=1", "bar=4"], ["foo=2", "bar=3"], ["foo=2", "bar=4"]]


@pytest.mark.slow
def test_grids_follow_one_another_crossed_with_params(
    hydra_sweep_runner: TSweepRunner, tmp_path: Path
) -> None:
    found = jobs(
        hydra_sweep_runner, tmp_path, GRIDS, '+hydra.sweeper.params={group1:"file1,file2"}'
    )
    assert found == [
        ["group1=file1", "foo=1"],
        ["group1=file1", "foo=2"],
        ["group1=file2", "foo=1"],
        ["group1=file2", "foo=2"],
        ["group1=file1", "bar=[3]", "foo=5"],
        ["group1=file1", "bar=[4]", "foo=5"],
        ["group1=file2", "bar=[3]", "foo=5"],
        ["group1=file2", "bar=[4]", "foo=5"],
    ]


def test_the_command_line_comes_last_and_jobs_come_once(
    hydra_sweep_runner: TSweepRunner, tmp_path: Path
) -> None:
    found = jobs(hydra_sweep_runner, tmp_path, GRIDS, "foo=9")
    assert found == [["foo=9"], ["bar=[3]", "foo=9"], ["bar=[4]", "foo=9"]]


@pytest.mark.slow
def test_batches(hydra_sweep_runner: TSweepRunner, tmp_path: Path) -> None:
    found = jobs(hydra_sweep_runner, tmp_path, GRIDS, "hydra.sweeper.max_batch_size=3")
    assert len(found) == 4
