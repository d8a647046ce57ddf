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
