"""Settings of the stack launcher and of both sweepers, registered with Hydra."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class StackLauncherConf:
    """hydra/launcher=stack."""

    _target_: str = "hydra_plugins.stack_launcher.stack_launcher.StackLauncher"
    # number of worker processes; null: one per core, or one per GPU
    processes: int | None = None
    # largest number of members in a stack; null: the default of the device
    stack_size: int | None = None
    # local: processes of this machine; dask, slurm: a cluster
    backend: str = "local"
    # address of Dask's scheduler: tcp://host:8786
    address: str | None = None
    # options of Dask's client or of dask-jobqueue's SLURMCluster (queue: long)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class GridsSweeperConf:
    """hydra/sweeper=grids."""

    _target_: str = "hydra_plugins.stack_launcher.sweepers.GridsSweeper"
    # number of jobs that the launcher gets at once; null: all
    max_batch_size: int | None = None
    # sweeps that every grid is crossed with, e.g. {seed: "0,1,2"}
    params: dict[str, Any] = field(default_factory=dict)
    # sweeps one after the other, e.g. [{network.hidden: "[8],[64]"}, {regularization: "l1,l2"}]
    grids: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class SearchSweeperConf:
    """hydra/sweeper=search."""

    _target_: str = "hydra_plugins.stack_launcher.sweepers.SearchSweeper"
    # searched keys, e.g. {optimizer.lr: "tag(log, interval(1e-4, 1e-2))", optimizer: "adam,sgd"}
    space: dict[str, Any] = field(default_factory=dict)
    # searched keys that all members of a stack have in common
    shared: list[str] = field(default_factory=list)
    # number of consecutive trials with equal values of the shared keys: they train as one stack
    stack: int = 6
    # number of trials that are proposed and trained together
    batch: int = 24
    # number of trials
    trials: int = 96
    # seconds after which no batch begins; null: no limit
    seconds: float | None = None
    # seed of the sampler
    seed: int = 0
    # key with an integer whose configured value only the best trials get, e.g. training.epochs;
    # null: every trial gets it
    resource: str | None = None
    # number of values of the resource up to the configured value; 1: no trial is stopped early
    rungs: int = 3
    # a fraction of 1/reduction of the trials continues on the next rung, with `reduction` times as
    # much of the resource
    reduction: int = 3


for group, name, node in (
    ("hydra/launcher", "stack", StackLauncherConf),
    ("hydra/sweeper", "grids", GridsSweeperConf),
    ("hydra/sweeper", "search", SearchSweeperConf),
):
    ConfigStore.instance().store(group=group, name=name, node=node, provider="stack_launcher")
