"""What determines a member's result, as one short text: equal fingerprints, equal results."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bikefit.config import Settings

ROOMS = ("nn", "training")  # the code that trains
PACKAGES = ("torch", "pytorch-lightning", "numpy", "numba")
# What changes where a result is kept or how it is called, but not the result.
SILENT: Any = {
    "tracking": True, "rerun": True, "trainer": {"progress"}, "data": {"root", "name"},
    "network": {"name", "lr"}, "regularization": {"name"},
}  # fmt: skip


def fingerprint(settings: Settings, data_version: str, fold: int | None = None) -> str:
    """Return ``<versions>-<config>``: 8 and 24 hexadecimal digits.

    Args:
        settings: resolved config of the job.
        data_version: of its table.
        fold: number of the member's fold, or None for the whole job.
    """
    config = settings.model_dump(mode="json", by_alias=True, exclude=SILENT)
    text = json.dumps([config, fold], sort_keys=True)
    return family(data_version) + hashlib.sha256(text.encode()).hexdigest()[:24]


def family(data_version: str) -> str:
    """Return the part that all fingerprints of one data and code version have in common."""
    text = f"{data_version} {code_version()}"
    return hashlib.sha256(text.encode()).hexdigest()[:8] + "-"


@cache
def code_version() -> str:
    """Return a hash over the code that trains and the packages that compute."""
    digest = hashlib.sha256()
    here = Path(__file__).parents[1]
    for room in ROOMS:
        for file in sorted((here / room).rglob("*.py")):
            digest.update(str(file.relative_to(here)).encode() + b"\0" + file.read_bytes())
    for package in PACKAGES:
        digest.update(f"{package}=={version(package)}".encode())
    return digest.hexdigest()
