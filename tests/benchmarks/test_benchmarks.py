"""The command `python -m benchmarks`, and the parts that the benchmarks share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))
import benchmarks.__main__ as command

from benchmarks import against, common, race


@pytest.mark.slow
@pytest.mark.parametrize("name", command.NAMES)
def test_every_benchmark_prints_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main([name, "--help"])
    assert exit_.value.code == 0
    assert f"usage: python -m benchmarks {name}" in capsys.readouterr().out


def test_every_benchmark_is_listed() -> None:
    modules = (ROOT / "benchmarks").glob("*.py")
    assert set(command.NAMES) == {
        file.stem for file in modules if "\ndef measure(" in file.read_text()
    }


def test_sections_are_printed_and_written_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / race.PAGE
    page.parent.mkdir()
    page.write_text("<!-- race -->\n\nold\n\n<!-- end of race -->\n")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "machine", lambda: "A machine.")

    def measure(options: argparse.Namespace) -> dict[str, str]:
        return {"race": f"{options.repetitions} repetitions"}

    monkeypatch.setattr(race, "measure", measure)
    command.main(["race", "--repetitions", "5"])
    assert "5 repetitions\n\nA machine." in capsys.readouterr().out
    assert "old" in page.read_text()
    command.main(["race", "--write"])
    assert page.read_text() == (
        "<!-- race -->\n\n3 repetitions\n\nA machine.\n\n<!-- end of race -->\n"
    )


def test_sections_of_every_page_are_there() -> None:
    sections = {
        "benchmarks/results.md": ["against", "race", "start-up", "scaling"],
        "docs/champion.md": ["champion", "ablation"],
    }
    for page, names in sections.items():
        text = (ROOT / page).read_text()
        for name in names:
            assert text.count(f"<!-- {name} -->") == text.count(f"<!-- end of {name} -->") == 1


@pytest.mark.process
def test_a_command_is_timed_and_its_failure_shown(tmp_path: Path) -> None:
    code = "import os, time; print(os.getcwd(), os.environ['COLOUR']); time.sleep(0.3)"
    seconds, output = common.run([sys.executable, "-c", code], tmp_path, {"COLOUR": "red"})
    assert output == f"{tmp_path} red\n"
    assert 0.3 < seconds < 60
    with pytest.raises(RuntimeError, match="KeyError: 'COLOUR'"):
        common.run([sys.executable, "-c", code], tmp_path)
    assert common.run([sys.executable, "-c", "exit(3)"], tmp_path, statuses=(3,))[1] == ""


def test_numbers_as_text() -> None:
    assert common.spread([3.0]) == "3.0"
    assert common.spread([3.0, 1.0, 2.25], 2) == "2.25 (1.00-3.00)"
    assert common.mean_with_error(np.array([10.0, 5.0])) == "7.5 ± 2.5"
    # standard deviation of 12.5^½ times (1/2 + 1/4)^½
    assert common.mean_with_error(np.array([10.0, 5.0]), 0.25) == "7.5 ± 3.1"
    assert common.mean_with_error(np.array([10.0])) == "10.0"
    assert common.table(("a", "b"), [[1, "x"]]) == "| a | b |\n| :-- | --: |\n| 1 | x |"


def test_the_race_gives_times_relative_to_ours() -> None:
    ours = race.Racer("bikefit", [], seconds=[2.0, 4.0], loss=0.5)
    peer = race.Racer("peer", [], seconds=[6.0], loss=0.7)
    assert race._row(ours, ours, 10) == [
        *("bikefit", 2, "3.0 (2.0-4.0)", "12.5 (8.3-16.7)", "0.5000", "")
    ]
    assert race._row(peer, ours, 10) == ["peer", 1, "6.0", "25.0", "0.7000", "3.00 ×"]


def test_another_checkout_is_compared_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([2.0, 5.0, 4.0, 6.0])
    started = []

    def run(command: list[str], folder: Path) -> tuple[float, str]:
        if command[0] == "git":
            return 0.0, "abc123\n" if command[2] == str(tmp_path) else "def456\n"
        started.append((command[0], (folder / "data").readlink()))
        return next(seconds), ""

    monkeypatch.setattr(against, "run", run)
    options = argparse.Namespace(checkout=tmp_path, repetitions=2)
    text = against.measure(options)["against"]
    ours, other = (
        (sys.executable, ROOT / "data"),
        (str(tmp_path / ".venv/bin/python"), tmp_path / "data"),
    )
    assert started == [ours, other, ours, other]
    assert "| commit def456 | 2 | 3.0 (2.0-4.0) |  |" in text
    assert "| commit abc123 | 2 | 5.5 (5.0-6.0) | 2.00 (1.50-2.50) × |" in text
