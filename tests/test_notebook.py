"""docs/notebook.md runs from its first line to its last, on made-up data and short trainings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from bikefit import refit
from bikefit.final import trees
from conftest import ROOT

PAGE = (ROOT / "docs/notebook.md").read_text()
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow(seconds=30)
def test_the_recipe_runs_to_its_end(
    workplace: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MOST_TREES", 30)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    told: dict[str, Any] = {}
    for language, text in BLOCKS:
        if language == "sh":
            _in_this_process(text)
            continue
        line = next((line for line in text.splitlines() if line.startswith("TRAINING = ")), "")
        exec(text.replace(line, f"TRAINING = {quick[1:]}") if line else text, told)
    assert told["sizes"].ranking["configuration"].nunique() == 4
    assert [len(one.ranking) for one in told["strengths"]] == [5, 6, 5]
    kinds = told["best"]["configuration"].str.split(" ").str[0]
    assert set(kinds) <= {"none", "l2", "dropout", "weight"}
    assert sorted(told["more"].runs["data.fraction"].unique()) == [0.2, 0.4, 0.7, 1.0]


def _in_this_process(command: str) -> None:
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "bikefit.refit"]:
        assert refit.main(words[3:]) == 0
    else:  # the fixture has made the data
        assert words[0] == "dvc"
