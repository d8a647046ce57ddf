"""Processes are identified by host, container, number and start time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bikefit import processes
from bikefit.processes import has_ended, is_running, process_id
from namespaces import ELSEWHERE, needs_namespaces

SHOW = "from bikefit.processes import process_id; print(process_id(), flush=True)"


def test_this_process_is_running() -> None:
    host, number, started = process_id().split(".")
    assert int(number) == os.getpid()
    assert is_running(process_id()) is True
    assert is_running(f"{host}.{number}.{int(started) - 60}") is False  # an earlier process
    assert not has_ended(process_id(), last_sign=0)


@pytest.mark.process
def test_an_ended_process_is_not_running() -> None:
    ended = subprocess.check_output([sys.executable, "-c", SHOW], text=True).strip()
    assert is_running(ended) is False
    assert has_ended(ended, last_sign=time.time())


def test_processes_of_other_hosts_have_ended_after_an_hour_of_silence() -> None:
    _, number, started = process_id().split(".")
    for other in (f"elsewhere.{number}.{started}", ""):
        assert is_running(other) is None
        assert not has_ended(other, last_sign=time.time() - 3590)
        assert has_ended(other, last_sign=time.time() - 3610)


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The id of a process that is running in another namespace of process numbers."""
    code = f"{SHOW}; input()"
    command = [*ELSEWHERE, sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout and process.stdin
        yield process.stdout.readline().strip()
        process.stdin.close()


@needs_namespaces
@pytest.mark.process
def test_processes_of_other_containers_cannot_be_seen(elsewhere: str) -> None:
    code = "import sys; from bikefit.processes import *; print(is_running(sys.argv[1]))"
    command = [*ELSEWHERE, sys.executable, "-c", code, process_id()]
    assert is_running(elsewhere) is None  # though it runs, and the host has this number, too
    assert subprocess.check_output(command, text=True) == "None\n"
    place, number, _ = elsewhere.split(".")
    assert number == "1"
    assert place != process_id().split(".")[0]
    assert not has_ended(elsewhere, time.time())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has namespaces")
def test_a_restart_of_the_machine_ends_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a machine have a constant place, those of a container have not."""
    monkeypatch.setattr(processes.Path, "readlink", lambda _: processes.FIRST_NAMESPACE)
    machine = processes._place()
    assert machine == processes.socket.gethostname().replace(".", "-")
    monkeypatch.setattr(processes.Path, "readlink", lambda _: "pid:[4026532178]")
    first = processes._place()
    monkeypatch.setattr(processes.Path, "read_text", lambda *_, **__: "another start")
    assert first.startswith(f"{machine}-") and processes._place() != first
