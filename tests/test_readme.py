"""What the README and the docs show is there, and their commands are accepted."""

from __future__ import annotations

import re
import shlex

import pytest

from bikefit.final.predict import _parse
from conftest import ROOT, make_settings

README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    fenced = README.split("```")[1::2]
    return [text.partition("\n")[2] for text in fenced if text.partition("\n")[0] == language]


def test_it_is_a_path_not_a_book() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_and_pictures_lead_somewhere(document: object) -> None:
    found = re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text())  # type: ignore[attr-defined]
    for target in found:
        assert (document.parent / target).exists(), target  # type: ignore[attr-defined]


def test_every_train_command_composes() -> None:
    commands = [
        shlex.split(line.split("#")[0])
        for block in blocks("sh")
        for line in block.splitlines()
        if "bikefit.train" in line
    ]
    assert len(commands) >= 6
    for _, _, _, *overrides in commands:
        chosen = [o for o in overrides if o != "-m"]
        firsts = [f"{key}={_first(value)}" for key, value in (o.split("=", 1) for o in chosen)]
        make_settings(*firsts)


def _first(values: str) -> str:
    return values if values.startswith("[") else values.partition(",")[0]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(
        re.findall(r"(?:`|^)make ([a-z-]+)", "\n".join(d.read_text() for d in DOCUMENTS), re.M)
    )
    assert {"repro", "test", "ui", "help"} <= named <= targets


def test_the_tree_is_there() -> None:
    (tree,) = [b for b in blocks("") if "dvc.yaml   " in b]
    names = re.findall(r"(?:^|\s{2,})([a-z_]+(?:[./][\w./]*)?)(?=\s{2,}|,)", tree, re.M)
    paths = [name for name in names if "." in name or name.endswith("/")]
    assert len(paths) >= 12
    for path in paths:
        assert path == "mlflow.db" or (ROOT / path).exists(), path


def section(name: str) -> str:
    """The part of the README that a command writes between two markers."""
    return README.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0]


def test_the_comparison_is_a_ranking_with_its_verdicts() -> None:
    """`make repro` renews reports/ but not the README, so the two are not compared here."""
    row = (
        r"^\| ≈?(\d+) \| (.+?) \| \d+ \| ([\d.]+) \| ([\d.]+)[^|]* \| ([\d.]+) \| [\d.]+ \| "
        r"([a-z ]+) \|$"
    )
    rows = re.findall(row, section("comparison"), re.MULTILINE)
    assert len(rows) >= 12
    ranks, names, train, validation, gap, verdicts = zip(*rows, strict=True)
    assert {name.split(" ")[0] for name in names} >= {"none", "l1", "l2", "weight", "dropout"}
    assert [*map(int, ranks)] == sorted(map(int, ranks))
    assert [*map(float, validation)] == sorted(map(float, validation))
    for low, high, difference in zip(train, validation, gap, strict=True):
        assert float(high) - float(low) == pytest.approx(float(difference), abs=1.1e-3)
    assert set(verdicts) <= {"good fit", "underfitting", "overfitting", "undecided"}


def test_the_test_ranks_our_model_first_by_its_deviance() -> None:
    rows = re.findall(r"^\| (.+?) \| [^|]+ \| ([\d.]+) \[", section("test"), re.MULTILINE)
    names, deviances = zip(*rows, strict=True)
    assert names[0] == "**our model**"
    assert [*map(float, deviances)] == sorted(map(float, deviances))


def test_every_predict_command_is_accepted() -> None:
    commands = [
        shlex.split(line)[3:]
        for document in DOCUMENTS
        for line in document.read_text().splitlines()
        if line.startswith("python -m bikefit.predict")
    ]
    assert len(commands) >= 3
    for command in commands:
        _parse(command)


ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in (ROOT / "docs/lecture.md").read_text().splitlines()
]
LECTURE = [row[1:] for row in ROWS if len(row) == 4 and row[1].startswith("`")]
VALUES = {"network.activation": "relu", "regularization.p_norm": 2, "regularization.patience": 5}


@pytest.mark.parametrize(("code", "key", "test"), LECTURE)
def test_code_keys_and_tests_of_the_lecture_exist(code: str, key: str, test: str) -> None:
    module, name = re.findall(r"`(.+?)`", code)
    text = (ROOT / "src/bikefit" / module).read_text()
    assert re.search(rf"^(?:def |class |){name}\b", text, re.MULTILINE), (module, name)
    for override in re.findall(r"`(.+?)`", key):
        value = VALUES.get(override, 0.5 if override.startswith("regularization") else 32)
        make_settings(override if "=" in override else f"{override}={value}")
    assert (ROOT / "tests" / test.strip("`")).exists()


def test_the_statements_of_the_lecture_are_found() -> None:
    assert len(LECTURE) == 21
