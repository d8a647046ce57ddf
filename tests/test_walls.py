"""Who may import whom, read from the code."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
HEAVY = {"torch", "pytorch_lightning", "hydra", "omegaconf", "mlflow"}
# what each room must not import, anywhere in it
WALLS = {
    "bikefit/checks.py": HEAVY | {"bikefit"},
    "bikefit/config.py": HEAVY,
    "bikefit/data": HEAVY | {"bikefit.nn", "bikefit.training", "bikefit.tracking"},
    "bikefit/nn": {"pytorch_lightning", "hydra", "omegaconf", "mlflow", "pandas", "sklearn",
                   "bikefit.config", "bikefit.data", "bikefit.training", "bikefit.tracking"},
    "bikefit/training": {"hydra", "omegaconf", "mlflow", "bikefit.tracking", "bikefit.compare"},
    "bikefit/store.py": HEAVY | {"bikefit", "pandas"},
    "bikefit/registry.py": {"torch", "pytorch_lightning", "hydra", "omegaconf"},
    "bikefit/move.py": {"torch", "pytorch_lightning", "hydra", "omegaconf"},
    "bikefit/tracking": {"torch", "pytorch_lightning", "hydra", "omegaconf"},
    "bikefit/compare": {"torch", "pytorch_lightning", "hydra", "omegaconf", "mlflow",
                        "bikefit.nn", "bikefit.training", "bikefit.jobs", "bikefit.sweep"},
    "bikefit/final": {"pytorch_lightning", "hydra", "omegaconf", "bikefit.jobs", "bikefit.sweep"},
    # what the registered model is made of; it has to load without the rest
    "bikefit/final/model.py": {"pytorch_lightning", "mlflow", "bikefit.config", "bikefit.training",
                               "bikefit.tracking", "bikefit.compare"},
    "bikefit/jobs.py": {"torch", "pytorch_lightning", "hydra", "omegaconf", "mlflow"},
    "bikefit/cluster.py": {"torch", "pytorch_lightning", "hydra", "omegaconf", "mlflow",
                           "bikefit.tracking"},
    "bikefit/processes.py": {"torch", "pytorch_lightning", "hydra", "omegaconf", "mlflow",
                             "bikefit.tracking"},
    "bikefit/sweep.py": {"torch", "pytorch_lightning", "hydra", "omegaconf", "mlflow"},
    "hydra_plugins": {"torch", "pytorch_lightning", "mlflow", "bikefit"},
}  # fmt: skip


def imported(file: Path) -> set[str]:
    """Every module a file names in an import, with all packages above it."""
    names: set[str] = set()
    tree = ast.parse(file.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {
        ".".join(parts[:end])
        for parts in (name.split(".") for name in names)
        for end in range(1, len(parts) + 1)
    }


def files(room: str) -> list[Path]:
    path = SOURCE / room
    found = [path] if path.suffix else sorted(path.rglob("*.py"))
    assert found, f"no such room: {room}"
    return found


@pytest.mark.parametrize("room", WALLS)
def test_a_room_keeps_its_walls(room: str) -> None:
    through = {str(f.relative_to(SOURCE)): imported(f) & WALLS[room] for f in files(room)}
    assert not {name: found for name, found in through.items() if found}


def test_only_tracking_registry_and_move_speak_to_mlflow() -> None:
    rooms = {f.relative_to(SOURCE / "bikefit").parts for f in SOURCE.rglob("bikefit/**/*.py")
             if "mlflow" in imported(f)}  # fmt: skip
    assert {parts for parts in rooms if parts[0] != "tracking"} == {
        ("registry.py",), ("move.py",),
        ("final", "served.py"),  # MLflow itself runs it
    }  # fmt: skip


def test_imported_sees_imports_in_functions_but_not_those_for_types(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    from mlflow.entities import Metric\n"
    )
    assert imported(file) >= {"mlflow", "mlflow.entities", "typing"}
    assert "torch" not in imported(file)
