"""Ids of processes, and whether a process is still running."""

import socket

import psutil

CLOCK_ERROR = 2.0  # s by which two readings of a start time may differ


def process_id() -> str:
    """Return the id of this process, ``<host>.<number>.<start time>``; the host has no dots."""
    process = psutil.Process()
    return f"{_host()}.{process.pid}.{process.create_time():.0f}"


def is_running(process: str) -> bool | None:
    """Return whether the process with this id is running; None if it belongs to another host."""
    host, *rest = process.split(".")
    if host != _host() or len(rest) != 2:
        return None
    number, started = map(int, rest)
    try:
        return abs(psutil.Process(number).create_time() - started) <= CLOCK_ERROR
    except psutil.NoSuchProcess:
        return False


def _host() -> str:
    return socket.gethostname().replace(".", "-")
