"""Settings of the stack launcher and of the grids sweeper, as Hydra sees them."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class StackLauncherConf:
    """hydra/launcher=stack."""

    _target_: str = "hydra_plugins.stack_launcher.stack_launcher.StackLauncher"
    # worker processes; null: one a core
    processes: int | None = None
    # most members trained as one stack; null: the size measured to suit caches
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


ConfigStore.instance().store(
    group="hydra/launcher", name="stack", node=StackLauncherConf, provider="stack_launcher"
)
ConfigStore.instance().store(
    group="hydra/sweeper", name="grids", node=GridsSweeperConf, provider="stack_launcher"
)
