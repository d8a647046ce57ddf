"""The start of a command: output, arguments and errors."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

import commands
from bikefit.errors import BikefitError, run_command


def test_characters_that_the_output_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="cp1252"))
    assert run_command(lambda: print("l1 λ=0.1 · 3 → 4")) == 0
    assert output.getvalue().split() == b"l1 ?=0.1 \xb7 3 ? 4".split()


def test_an_error_is_a_line_and_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise BikefitError("seed = -1: must be at least 0")

    assert run_command(fail) == 1
    assert capsys.readouterr().err == "error: seed = -1: must be at least 0\n"


def test_ctrl_c_has_its_exit_status() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    assert run_command(interrupt) == 130


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("seed=1\r", "'seed=1\\r' ends with a carriage return"),
        ("data=Fahrr\udce4der", "is not text in the encoding utf-8: set PYTHONUTF8=1"),
    ],
)
def test_an_argument_that_is_no_text_is_refused(
    argument: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", argument])
    assert run_command(lambda: pytest.fail("the command must not start")) == 1
    assert words in capsys.readouterr().err


def test_a_variable_that_is_no_number_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "two")
    assert run_command(lambda: pytest.fail("the command must not start")) == 1
    assert "LOKY_MAX_CPU_COUNT=two: must be a number" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.parametrize(
    ("output", "message"),
    [("/dev/full", "error: [Errno 28] No space left on device\n"), ("pipe", "")],
)
def test_an_output_that_takes_nothing_ends_the_command(output: str, message: str) -> None:
    if output == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(output, os.O_WRONLY)
    code = (
        "import sys; from bikefit.errors import run_command\n"
        "sys.exit(run_command(lambda: print('row ' * 10_000)))"
    )
    process = commands.start(["-c", code], stdout=writing, stderr=-1)
    os.close(writing)
    assert process.communicate()[1].decode() == message
    assert process.returncode == 1


def test_source_files_are_opened_with_an_encoding() -> None:
    """The default encoding is not UTF-8 everywhere. Ruff's rule does not know all methods."""
    root = Path(__file__).parents[1]
    for file in (root / "src").rglob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if any(call in line for call in (".read_text(", ".write_text(", "FileHandler")):
                assert "encoding" in line, f"{file}: {line.strip()}"
