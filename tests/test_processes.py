"""Processes are identified by host, number and start time."""

import os
import subprocess
import sys

import pytest

from bikefit.processes import is_running, process_id


def test_this_process_is_running() -> None:
    host, number, started = process_id().split(".")
    assert int(number) == os.getpid()
    assert is_running(process_id()) is True
    assert is_running(f"{host}.{number}.{int(started) - 60}") is False  # an earlier process


@pytest.mark.process
def test_an_ended_process_is_not_running() -> None:
    code = "from bikefit.processes import process_id; print(process_id())"
    ended = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    assert is_running(ended) is False


def test_processes_of_other_hosts_are_unknown() -> None:
    _, number, started = process_id().split(".")
    assert is_running(f"elsewhere.{number}.{started}") is None
    assert is_running("") is None
