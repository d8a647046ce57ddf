"""Settings of the stack launcher and of both sweepers, as Hydra sees them."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class StackLauncherConf:
    """hydra/launcher=stack."""

    _target_: str = "hydra_plugins.stack_launcher.stack_launcher.StackLauncher"
    # worker processes; null: one a core, or one a GPU
    processes: int | None = None
    # most members trained as one stack; null: what suits caches or a GPU
    stack_size: int | None = None
    # loky: processes of this machine; dask, ray, submitit: a cluster
    backend: str = "loky"
    # where the cluster is: tcp://host:8786 of a Dask scheduler, host:6379 of a Ray cluster,
    # slurm or local for submitit
    address: str | None = None
    # of Dask's client, Ray's tasks (num_gpus: 1) or Slurm (slurm_partition: long)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class GridsSweeperConf:
    """hydra/sweeper=grids."""

    _target_: str = "hydra_plugins.stack_launcher.grids_sweeper.GridsSweeper"
    # jobs handed to the launcher at once; null: all
    max_batch_size: int | None = None
    # sweeps that every grid is crossed with, e.g. {seed: "0,1,2"}
    params: dict[str, Any] = field(default_factory=dict)
    # sweeps one after the other, e.g. [{network.hidden: "[8],[64]"}, {regularization: "l1,l2"}]
    grids: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class SearchSweeperConf:
    """hydra/sweeper=search."""

    _target_: str = "hydra_plugins.stack_launcher.search_sweeper.SearchSweeper"
    # what is searched, e.g. {optimizer.lr: "tag(log, interval(1e-4, 1e-2))", optimizer: "adam,sgd"}
    space: dict[str, Any] = field(default_factory=dict)
    # keys of the space that members of a stack must have in common
    shared: list[str] = field(default_factory=list)
    # neighbouring trials that share those keys' values, and so train as one stack
    stack: int = 6
    # trials that are proposed and launched together
    batch: int = 24
    # trials of the study, in all commands that go on with it; null: no limit
    trials: int | None = 96
    # seconds of this command, by which the last batch should be done; null: no limit
    seconds: float | None = None
    # tpe | random
    sampler: str = "tpe"
    # of the sampler
    seed: int = 0
    # key whose configured value only the best trials are given, e.g. training.epochs; null: all are
    resource: str | None = None
    # values of the resource, the highest the configured one; 1: no trial is stopped early
    rungs: int = 3
    # share of the trials that go on to the next rung, and what the resource is multiplied by there
    reduction: int = 3
    # folder of the studies; null keeps them in memory
    studies: str | None = "studies"


ConfigStore.instance().store(
    group="hydra/launcher", name="stack", node=StackLauncherConf, provider="stack_launcher"
)
ConfigStore.instance().store(
    group="hydra/sweeper", name="grids", node=GridsSweeperConf, provider="stack_launcher"
)
ConfigStore.instance().store(
    group="hydra/sweeper", name="search", node=SearchSweeperConf, provider="stack_launcher"
)
