"""Fingerprints of results: members with equal fingerprints have equal results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from bikefit.config import NOT_DETERMINING, Settings

# Code that determines results, in src/bikefit: networks, training, folds, reading of tables.
CODE = ("nn", "training", "losses.py", "data/splits.py", "data/table.py")
PACKAGES = ("torch", "pytorch-lightning", "numpy")


def fingerprint(settings: Settings, data_version: str, fold: int | None = None) -> str:
    """Return the fingerprint of one fold of a job; without ``fold``, that of the whole job.

    It is ``<versions>-<config>``, 8 and 24 hexadecimal digits.
    """
    config = settings.model_dump(mode="json", by_alias=True, exclude=NOT_DETERMINING)
    modules = {name: module_version(name) for name in settings.network.allow or ()}
    text = json.dumps([config, fold, modules], sort_keys=True)
    return fingerprint_prefix(data_version) + hashlib.sha256(text.encode()).hexdigest()[:24]


def fingerprint_prefix(data_version: str) -> str:
    """Return the prefix of all fingerprints with the same data and code version."""
    text = f"{data_version} {code_version()}"
    return hashlib.sha256(text.encode()).hexdigest()[:8] + "-"


@cache
def code_version() -> str:
    """Return a hash of the code that determines results and of the versions of its packages."""
    root = Path(__file__).parents[1]
    packages = [f"{package}=={version(package)}" for package in PACKAGES]
    return _hash([*(root / path for path in CODE)], " ".join(packages))


@cache
def module_version(name: str) -> str:
    """Return a hash of the source of a module or package that layers may come from."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin)
    return _hash([file.parent if spec.submodule_search_locations else file])


def _hash(paths: Iterable[Path], text: str = "") -> str:
    """Return a hash of a text and of the Python files in paths, which ignores their line ends."""
    digest = hashlib.sha256(text.encode())
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            name = file.relative_to(path.parent).as_posix()
            digest.update(name.encode() + b"\0" + file.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()
