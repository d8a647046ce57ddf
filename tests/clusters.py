"""Clusters of this machine: each gives the address and the options to reach it by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import commands
import slurm
from ports import free_port

PRESET = Path(__file__).parents[1] / "conf/hydra/launcher/slurm.yaml"


@contextmanager
def dask() -> Iterator[tuple[str | None, dict[str, Any]]]:
    """A Dask scheduler with two workers, none of which is started again."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
        "--no-show",
    ]
    worker = [
        "-m",
        "distributed.cli.dask_worker",
        address,
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
    ]
    processes = [commands.start(command) for command in (scheduler, worker, worker)]
    from distributed import Client

    try:
        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, {}
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def slurm_cluster() -> Iterator[tuple[str | None, dict[str, Any]]]:
    """A Slurm cluster with two nodes of a core each."""
    with slurm.slurm() as configuration, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SLURM_CONF", str(configuration))
        options = yaml.safe_load(PRESET.read_text())["options"]
        yield None, options | {"memory": "1GB", "walltime": "00:10:00", "interface": "lo"}


CLUSTERS = {"dask": dask, "slurm": slurm_cluster}
