"""Each stage depends on exactly its own modules, and takes parameters that exist."""

import ast
from pathlib import Path

import pytest
import yaml

from test_walls import imported

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DOORS = SOURCE / "bikefit/__init__.py"  # of notebooks: no stage goes through them


def entry_modules(command: str) -> list[str]:
    """The modules after each `-m` of `python` in a stage's command."""
    words = command.split()
    pairs = zip(words, words[1:], words[2:], strict=False)
    return [name for first, flag, name in pairs if first.startswith("python") and flag == "-m"]


def module_file(name: str) -> Path | None:
    """The file of a module below src/, None for a module of somebody else."""
    path = SOURCE.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def imports(file: Path) -> set[Path]:
    """Return the project's files that a file imports, anywhere in it but for types."""
    return {found for name in imported(file) if (found := module_file(name))}


def closure(start: Path, without: Path | None = None) -> set[Path]:
    """All own files that importing `start` brings in, but package files that only describe."""
    seen, ahead = set(), [start]
    while ahead:
        file = ahead.pop()
        if file not in seen and file != DOORS and without not in file.parents:
            seen.add(file)
            ahead += imports(file)
    return {file for file in seen if not only_describes(file)}


def only_describes(file: Path) -> bool:
    """An `__init__.py` with nothing but a docstring (or nothing at all) and plain constants."""
    body = ast.parse(file.read_text()).body
    plain = (ast.Expr, ast.Assign, ast.AnnAssign)
    return file.name == "__init__.py" and all(isinstance(node, plain) for node in body)


def files_of(deps: list[str]) -> set[Path]:
    """The Python files below src/ that the deps name, a folder standing for all in it."""
    paths = [ROOT / dep for dep in deps if dep.startswith("src")]
    return {
        file
        for path in paths
        for file in (path.rglob("*.py") if path.is_dir() else [path])
        if not only_describes(file)
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_its_own_modules(name: str) -> None:
    stage = STAGES[name]
    modules = entry_modules(stage["cmd"])
    assert modules, f"no `python -m` in {stage['cmd']}"
    starts = [module_file(f"{module}.__main__") or module_file(module) for module in modules]
    # How a sweep prints its last table changes nothing in what it leaves behind.
    without = SOURCE / "bikefit/comparison" if name == "sweep" else None
    wanted = set().union(*(closure(start, without) for start in starts if start))
    named = files_of(stage["deps"])

    def short(files: set[Path]) -> list[str]:
        return sorted(str(file.relative_to(ROOT)) for file in files)

    folders = [ROOT / dep for dep in stage["deps"] if (ROOT / dep).is_dir()]
    # Within a folder named whole, a module that nothing imports does no harm.
    spare = {file for file in named - wanted if not any(f in file.parents for f in folders)}
    assert not wanted - named, f"{name} does not name {short(wanted - named)}"
    assert not spare, f"{name} names {short(spare)} without using it"


@pytest.mark.parametrize("name", STAGES)
def test_parameters_of_a_stage_exist(name: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in STAGES[name].get("params", []):
        if isinstance(key, str):
            assert key.split(".")[0] in params


def test_the_sweep_depends_on_every_group_of_conf_that_it_composes() -> None:
    named = {dep.split("/")[1] for dep in STAGES["sweep"]["deps"] if dep.startswith("conf/")}
    there = {path.name for path in (ROOT / "conf").iterdir()}
    assert there - named == {"verdicts.yaml"}


def test_compiled_files_are_not_dependencies() -> None:
    """Python and numba write them beside the code: a stage would run again for nothing."""
    assert "__pycache__" in (ROOT / ".dvcignore").read_text().split()
