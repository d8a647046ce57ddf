"""Who may import whom, read from the code."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "bikefit"
DOORS = {"train", "compare", "refit", "predict", "send", "ui"}
HEAVY = {"torch", "pytorch_lightning", "hydra", "omegaconf", "mlflow"}
# the rooms from the lowest to the highest: each may import those before it
ROOMS = (
    "errors",
    "processes",
    "data",
    "config",
    "nn",
    "training",
    "tracking",
    "comparison",
    "sweeps",
    "final",
)
# and what else a room must not import, anywhere in it
WALLS = {
    "errors.py": HEAVY | {"bikefit", "pandas"},
    "processes.py": HEAVY | {"bikefit", "pandas"},
    "data": HEAVY,
    "config.py": HEAVY,
    "nn": {
        "pytorch_lightning",
        "hydra",
        "omegaconf",
        "mlflow",
        "pandas",
        "sklearn",
        "bikefit.config",
        "bikefit.data",
        "bikefit.errors",
    },
    "training": {"hydra", "omegaconf", "mlflow"},
    "tracking": {"torch", "pytorch_lightning", "hydra", "omegaconf", "bikefit.nn"},
    "tracking/local_models.py": HEAVY | {"pandas"},
    "comparison": {
        "torch",
        "pytorch_lightning",
        "hydra",
        "omegaconf",
        "mlflow",
        "bikefit.nn",
        "bikefit.training",
    },
    "sweeps": {"torch", "pytorch_lightning", "hydra", "omegaconf", "mlflow"},
    "final": {"pytorch_lightning", "hydra", "omegaconf", "bikefit.sweeps"},
    # what the registered model is made of; it has to load without the rest
    "final/model.py": {
        "pytorch_lightning",
        "mlflow",
        "bikefit.config",
        "bikefit.training",
        "bikefit.tracking",
        "bikefit.comparison",
    },
}


def imported(file: Path, types: bool = False) -> set[str]:
    """Every module a file names in an import (for types too, if asked), with all above it."""
    names: set[str] = set()
    tree = ast.parse(file.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in guarded and not types:
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
    path = PACKAGE / room
    found = [path] if path.suffix else sorted(path.rglob("*.py"))
    assert found, f"no such room: {room}"
    return found


def through(walls: set[str], room: str) -> dict[str, set[str]]:
    found = {str(f.relative_to(PACKAGE)): imported(f) & walls for f in files(room)}
    return {name: names for name, names in found.items() if names}


def test_the_hall_holds_the_doors_and_the_rooms_alone() -> None:
    there = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert there == {"__init__", "api", *DOORS, *ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downwards(room: str) -> None:
    above = {f"bikefit.{name}" for name in ROOMS[ROOMS.index(room) + 1 :]}
    doors = {f"bikefit.{name}" for name in DOORS}
    place = room if (PACKAGE / room).is_dir() else f"{room}.py"
    assert not through(above | doors, place)


@pytest.mark.parametrize("room", WALLS)
def test_a_room_keeps_its_walls(room: str) -> None:
    assert not through(WALLS[room], room)


def test_hydras_plugins_import_light_modules_alone() -> None:
    for file in (SOURCE / "hydra_plugins").rglob("*.py"):
        assert not imported(file) & {"torch", "pytorch_lightning", "mlflow"}, file
        # Hydra imports every module whose name does not begin with an underscore.
        if not file.name.startswith("_"):
            assert not names_at_the_top(file) & {"bikefit", "optuna"}, file


def names_at_the_top(file: Path) -> set[str]:
    """The packages that are imported with a file, not in its functions."""
    nodes = ast.parse(file.read_text()).body
    modules = [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
    modules += [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    return {module.split(".")[0] for module in modules}


def test_no_two_modules_import_each_other() -> None:
    names = {
        ".".join(f.relative_to(SOURCE).with_suffix("").parts): imported(f, types=True)
        for f in SOURCE.rglob("*.py")
    }
    pairs = [(a, b) for a in names for b in names if a < b and b in names[a] and a in names[b]]
    # a package and its own modules: the package passes on what they define
    assert not [(a, b) for a, b in pairs if not b.startswith(f"{a}.")]


def test_only_tracking_speaks_to_mlflow() -> None:
    rooms = {f.relative_to(PACKAGE).parts for f in PACKAGE.rglob("*.py") if "mlflow" in imported(f)}
    assert {parts for parts in rooms if parts[0] != "tracking"} == {
        ("final", "served.py"),  # MLflow itself runs it
    }


def test_imported_sees_imports_in_functions_but_not_those_for_types(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    from mlflow.entities import Metric\n"
    )
    assert imported(file) >= {"mlflow", "mlflow.entities", "typing"}
    assert "torch" not in imported(file)
    assert "torch" in imported(file, types=True)
