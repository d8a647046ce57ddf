"""The benchmark of the sweep: which parts it measures."""

from __future__ import annotations

import argparse
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks.sweep import __main__ as command


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that are measured, by name, in place of measuring them."""
    found: list[str] = []

    def note(name: str, options: argparse.Namespace) -> str:
        found.append(name)
        return ""

    for name in command.PARTS:
        monkeypatch.setitem(command.PARTS, name, lambda options, name=name: note(name, options))
    return found


def test_without_a_part_all_of_make_bench_is_measured(measured: list[str]) -> None:
    assert command.main([]) == 0
    assert measured == ["race", "start-up", "profile", "tracking"]


def test_a_part_can_be_chosen(measured: list[str]) -> None:
    assert command.main(["scaling", "race"]) == 0
    assert measured == ["scaling", "race"]


def test_an_unknown_part_is_refused(
    measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(["speed"])
    assert "no part speed; there are race, start-up" in capsys.readouterr().err
    assert measured == []
