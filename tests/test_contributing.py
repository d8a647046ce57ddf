"""CONTRIBUTING.md, the hooks and the workflow say what the Makefile does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from conftest import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def recipe(target: str) -> list[str]:
    """The commands of a make target; comments and shell conditions left out."""
    (found,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    lines = [line.strip() for line in found.replace("\\\n", " ").splitlines()]
    return [line for line in lines if not line.startswith("@")]


def test_the_commands_without_make_are_those_of_the_makefile() -> None:
    block = PAGE.partition("## Without make")[2].split("```")[1]
    commands = [line.partition("  #")[0].strip() for line in block.splitlines()]
    assert " && ".join(recipe("lint")) in commands
    assert recipe("test")[0].replace(" --no-loadscope-reorder", "") in commands
    assert recipe("repro")[0] in commands


def test_what_the_map_names_is_there() -> None:
    places = re.findall(
        r"`((?:nn|training|sweeps|tracking|comparison)/\w+\.py)`(?: `([\w.]+)`)?", PAGE
    )
    assert len(places) >= 7
    for path, name in places:
        text = (ROOT / "src/bikefit" / path).read_text()
        assert name.rpartition(".")[2] in text, (path, name)


def test_hooks_are_the_linters() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (local,) = hooks
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == recipe("lint")


def test_the_workflow_runs_what_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    test, quick = workflow["jobs"].values()
    assert test["steps"][-1] == {"run": ".ci/run"}
    assert quick["steps"][-1] == {"run": "make check"}
    assert quick["strategy"]["matrix"]["python"][0] == test["steps"][1]["with"]["python-version"]
    assert Path(ROOT / ".ci/run").stat().st_mode & 0o100


def test_the_site_has_all_pages_of_the_docs() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().split("nav:")[1]
    pages = set(re.findall(r"docs/\w+\.md", nav))
    assert pages == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
