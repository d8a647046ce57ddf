"""Modules that are imported often load no heavy package that they do not need."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.process
@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("bikefit.data.table", "pandas sklearn torch matplotlib pydantic"),
        ("bikefit.final.model", "pytorch_lightning hydra dvc mlflow"),
    ],
)
def test_an_import_loads_no_heavy_package(modules: str, heavy: str) -> None:
    code = f"import sys, {modules}; print(*{set(heavy.split())} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
