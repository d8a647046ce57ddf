"""A forked command does what the same command does that is started anew."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import commands

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not commands.forking, reason="commands are forked on Linux only"),
]
SAY = (
    "import multiprocessing, os, sys\n"
    "print(sys.argv[1:], os.getcwd(), dict(os.environ)['OWN'], os.getsid(0) == os.getpid(),"
    " __name__, multiprocessing.parent_process(), flush=True)\n"
    "print('warned', file=sys.stderr)\n"
)


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("sys.exit(3)", 3), ("sys.exit('in words')", 1), ("os.kill(os.getpid(), 9)", -9)],
)
def test_it_says_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, status: int
) -> None:
    given = {**os.environ, "OWN": "ours"}
    words = ("-c", SAY + end, "one", "two words")
    forked = commands.run(*words, cwd=tmp_path, env=given)
    monkeypatch.setattr(commands, "forking", False)
    assert vars(forked) == vars(commands.run(*words, cwd=tmp_path, env=given))
    assert forked.returncode == status
    assert forked.stdout == f"['one', 'two words'] {tmp_path} ours True __main__ None\n"
    assert forked.stderr.startswith("warned\n")


def test_an_error_is_a_traceback_and_a_module_its_name(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import sys; print(__name__, sys.argv[1:]); 1 / 0")
    done = commands.run("-m", "own", "--flag", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "__main__ ['--flag']\n")
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_it_is_waited_for_and_killed() -> None:
    command = commands.start(["-c", "import time; time.sleep(60)"])
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(0.05)
    assert command.poll() is None
    command.kill()
    assert command.wait(10) == command.poll() == -9
