"""The benchmark of the sweep: which parts it measures."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

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


SCRIPT = """
import os, threading, time

def work():  # 1.5 s of the processor, however busy the machine is
    while time.thread_time() < start + 1.5:
        pass

def short_lived():  # threads end while they are looked at
    while not done.is_set():
        thread = threading.Thread(target=sum, args=(range(2000),))
        thread.start()
        thread.join()

forked = os.fork() == 0  # a worker, as the server of workers makes them
start, done = time.thread_time(), threading.Event()
if not forked:
    threading.Thread(target=short_lived).start()
work()
done.set()
os._exit(0) if forked else os.wait()
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's clocks of threads")
def test_the_sampler_survives_threads_and_forks(tmp_path: Path) -> None:
    environment = {
        **os.environ, "BIKEFIT_SAMPLES": str(tmp_path),
        "PYTHONPATH": str(ROOT / "benchmarks/sweep/sampling"),
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True)
    seen = [json.loads(file.read_text()) for file in tmp_path.glob("[0-9]*.json")]
    assert len(seen) == 2
    for one in seen:  # written every half second, of which each process has its part
        assert 0.75 < one["cores"]["rest"] < 3.2
