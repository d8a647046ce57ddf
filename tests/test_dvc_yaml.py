"""Each stage depends on exactly its own modules, and takes parameters that exist."""

from __future__ import annotations

import ast
from functools import cache
from itertools import pairwise
from pathlib import Path

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("bikefit", "hydra_plugins", exclude_type_checking_imports=True)


def source(module: str) -> Path:
    path = ROOT / "src" / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def has_code(file: Path) -> bool:
    """Return whether a file is more than a docstring and constants."""
    body = ast.parse(file.read_text()).body
    return not all(isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) for node in body)


def needed(command: str, without: str = " ") -> set[Path]:
    """Return the files that the modules after `-m` in a command import."""
    words = {word for flag, word in pairwise(command.split()) if flag == "-m"}
    found, ahead = set(), words & imports().modules
    while ahead:
        module = ahead.pop()
        # `bikefit` itself offers functions for notebooks, which no stage calls
        if module not in found and module != "bikefit" and not module.startswith(without):
            found.add(module)
            ahead |= imports().find_modules_directly_imported_by(module)
    return {source(module) for module in found if has_code(source(module))}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_its_own_modules(name: str) -> None:
    deps = [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith("src")]
    named = {file for dep in deps for file in ([dep] if dep.suffix else dep.rglob("*.py"))}
    # The table that a sweep prints at its end does not change what it trains.
    wanted = needed(STAGES[name]["cmd"], "bikefit.comparison" if name == "sweep" else " ")
    assert not wanted - named
    assert not named & set(deps) - wanted


@pytest.mark.parametrize("name", STAGES)
def test_parameters_of_a_stage_exist(name: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in STAGES[name].get("params", []):
        if isinstance(key, str):
            assert key.split(".")[0] in params


def test_the_sweep_depends_on_every_group_of_conf_that_it_composes() -> None:
    named = {dep.split("/")[1] for dep in STAGES["sweep"]["deps"] if dep.startswith("conf/")}
    groups = {path.name for path in (ROOT / "conf").iterdir()}
    assert groups - named == {"verdicts.yaml"}
