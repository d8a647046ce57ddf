"""Identify processes by host, number and start time, to see whether they are still running."""

import socket

import psutil

CLOCK_ERROR = 2.0  # s by which the system may report the same start time differently


def process_id() -> str:
    """Return the id of this process: ``host.number.start``, where the host has no dots."""
    process = psutil.Process()
    return f"{_host()}.{process.pid}.{process.create_time():.0f}"


def is_running(process: str) -> bool | None:
    """Return whether a process is running; None if it belongs to another host.

    Args:
        process: Result of :func:`process_id`.
    """
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
