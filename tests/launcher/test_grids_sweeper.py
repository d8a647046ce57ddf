"""Several grids in one sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.test_utils.test_utils import TSweepRunner

GRIDS = 'hydra.sweeper.grids=[{foo:"1,2"},{bar:"[3],[4]",foo:5}]'


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Future Hydra versions.*:UserWarning")
@pytest.mark.parametrize(
    ("overrides", "batches"),
    [
        (
            ["foo=1,2", "bar=3,4"],  # without grids
            [["foo=1 bar=3", "foo=1 bar=4", "foo=2 bar=3", "foo=2 bar=4"]],
        ),
        (
            [GRIDS, '+hydra.sweeper.params={group1:"file1,file2"}'],  # crossed with both grids
            [
                [
                    *("group1=file1 foo=1", "group1=file1 foo=2"),
                    *("group1=file2 foo=1", "group1=file2 foo=2"),
                    *("group1=file1 bar=[3] foo=5", "group1=file1 bar=[4] foo=5"),
                    *("group1=file2 bar=[3] foo=5", "group1=file2 bar=[4] foo=5"),
                ]
            ],
        ),
        ([GRIDS, "foo=9"], [["foo=9", "bar=[3] foo=9", "bar=[4] foo=9"]]),  # each job once
        (
            [GRIDS, "hydra.sweeper.max_batch_size=3"],
            [["foo=1", "foo=2", "bar=[3] foo=5"], ["bar=[4] foo=5"]],
        ),
    ],
)
def test_jobs(
    hydra_sweep_runner: TSweepRunner,
    tmp_path: Path,
    overrides: list[str],
    batches: list[list[str]],
) -> None:
    sweep = hydra_sweep_runner(
        calling_file=None,
        calling_module="hydra.test_utils.a_module",
        task_function=lambda config: None,
        config_path="configs",
        config_name="compose",
        overrides=["hydra/launcher=stack", "hydra/sweeper=grids", *overrides],
        temp_dir=tmp_path,  # type: ignore[arg-type]
    )
    with sweep:
        assert sweep.returns is not None
        assert [[" ".join(j.overrides or []) for j in jobs] for jobs in sweep.returns] == batches
