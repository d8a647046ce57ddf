"""docs/extend.md does what it says: applied to a copy of the project, its tests pass."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

import commands
from conftest import ROOT
from copies import copy_parts

PAGE = (ROOT / "docs/extend.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
DIFFS = [text for language, text in BLOCKS if language == "diff"]
FILES = {
    name[1]: text
    for language, text in BLOCKS
    if language in ("python", "yaml") and (name := re.match(r"# (\S+)\n", text))
}
TESTS = sorted(name for name in FILES if name.startswith("tests/"))


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What pytest says of each of the page's tests, by file."""
    copy = tmp_path_factory.mktemp("extended")
    copy_parts(copy, "src", "conf", "params.yaml", "pyproject.toml")
    copy_parts(copy, "tests/conftest.py", "tests/synthetic.py")
    for text in DIFFS:
        subprocess.run(
            ["git", "apply", "--unidiff-zero", "-"],
            cwd=copy,
            input=text,
            text=True,
            check=True,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(copy.parent)},
        )
    for name, text in FILES.items():
        (copy / name).write_text(text)
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    command = ("-m", "pytest", "-rA", "-p", "no:cacheprovider", *TESTS)
    done = commands.run(*command, cwd=copy, env=environment)
    words = re.findall(r"^(PASSED|FAILED|ERROR) (tests/\w+\.py)", done.stdout, re.MULTILINE)
    found = {name: {word for word, where in words if where == name} for name in TESTS}
    return {
        name: "passed" if told == {"PASSED"} else done.stdout + done.stderr
        for name, told in found.items()
    }


def test_each_way_has_a_test_and_few_files() -> None:
    ways = PAGE.split("\n## ")[1:]
    assert len(ways) == 5
    for way in ways:
        assert len(re.findall(r"^# tests/test_\w+\.py$", way, re.MULTILINE)) == 1, way[:30]
        changed = set(re.findall(r"^\+\+\+ b/(\S+)", way, re.MULTILINE))
        assert len(changed) <= 3, changed


@pytest.mark.slow(seconds=7)
@pytest.mark.parametrize("name", TESTS)
def test_a_way_works(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == "passed", outcomes[name]
