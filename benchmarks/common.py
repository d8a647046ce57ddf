"""Shared by the benchmarks: commands in empty folders, settings, Markdown tables, the machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

if TYPE_CHECKING:
    from bikefit.config import Settings
    from bikefit.training.members import MemberResult

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "mlflow", "scikit-learn", "numpy")


@contextmanager
def scratch(root: Path = ROOT) -> Iterator[Path]:
    """Yield an empty folder with a link to a project's `data` and without a tracking store."""
    with tempfile.TemporaryDirectory(prefix="bikefit-bench-") as name:
        (Path(name) / "data").symlink_to(root / "data")
        yield Path(name)


def run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    statuses: Container[int] = (0,),
) -> tuple[float, str]:
    """Run a command in a folder; return its wall time in s and what it wrote to stdout.

    Args:
        command: Program and arguments.
        folder: Working directory.
        environment: Variables to add. `MLFLOW_TRACKING_URI` of this process is not passed on.
        statuses: Exit statuses that count as success.

    Raises:
        RuntimeError: The command failed.
    """
    inherited = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=inherited | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in statuses:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - start, done.stdout


def settings(*overrides: str) -> Settings:
    """Compose the settings of a run from `conf/`, as `python -m bikefit.train` does."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    import bikefit.train  # noqa: F401  (registers configs and resolvers)
    from bikefit.config import parse

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", list(overrides))
    values: Any = OmegaConf.to_container(config, resolve=True)
    return parse(values)


def fit(members: Sequence[Settings]) -> list[MemberResult]:
    """Train networks that can share a stack and return their results."""
    from bikefit.training.fit import fit_stack
    from bikefit.training.folds import read_pool
    from bikefit.training.members import Member

    return fit_stack([Member(one) for one in members], read_pool(members[0].data.path))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, its first column aligned left and the others right."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median of values as text, followed by (lowest-highest) if there are several."""
    middle = f"{median(values):.{digits}f}"
    if len(values) < 2:
        return middle
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def mean_with_error(values: np.ndarray, overlap: float = 0.0) -> str:
    """Return the mean of values as text, followed by ± its standard error if there are several.

    Args:
        values: One value per split.
        overlap: Test rows divided by training rows, if splits share training rows. The variance is
            corrected for it (Nadeau and Bengio 2003).
    """
    if len(values) == 1:
        return f"{values[0]:.1f}"
    error = values.std(ddof=1) * np.sqrt(1 / len(values) + overlap)
    return f"{values.mean():.1f} ± {error:.1f}"


def machine() -> str:
    """Return a sentence with the date, the machine and the versions of packages."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Measured {time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores ({_processor()}, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB memory, load {os.getloadavg()[0]:.1f} "
        f"before); {platform.system()}, Python {platform.python_version()}, {packages}."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.machine()
