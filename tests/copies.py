"""Copies of the project's code in other places, where tests change it or run it as installed."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What Python has compiled is copied too. What another process is just writing there has a name with
# more parts.
_UNWANTED = shutil.ignore_patterns(
    "*.egg-info", "tmp", "cache", "config.local", "*.pyc.*", "*.tmp.*"
)


def copy_parts(folder: Path, *names: str) -> None:
    """Copy folders and files of the project to the same places below another folder."""
    for name in names:
        part, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if part.is_dir():
            shutil.copytree(part, target, ignore=_UNWANTED)
        else:
            shutil.copy(part, target)
