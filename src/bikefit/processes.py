"""Ids of processes, and whether a process has ended."""

import hashlib
import socket
import sys
import time
from pathlib import Path

import psutil

CLOCK_ERROR = 2.0  # s by which two readings of a start time may differ
SILENCE = 3600.0  # s without a sign of life after which an invisible process has ended
FIRST_NAMESPACE = "pid:[4026531836]"  # of a machine's own processes; containers have others


def process_id() -> str:
    """Return the id of this process, ``<place>.<number>.<start time>``; the place has no dots."""
    process = psutil.Process()
    return f"{_place()}.{process.pid}.{process.create_time():.0f}"


def is_running(process: str) -> bool | None:
    """Return whether the process with this id is running.

    Returns:
        None if it cannot be seen from here: it belongs to another host or another container.
    """
    place, *rest = process.split(".")
    if place != _place() or len(rest) != 2:
        return None
    number, started = map(int, rest)
    try:
        return abs(psutil.Process(number).create_time() - started) <= CLOCK_ERROR
    except psutil.NoSuchProcess:
        return False


def has_ended(process: str, last_sign: float) -> bool:
    """Return whether the process with this id has ended.

    A process that cannot be seen from here counts as ended if its last sign of life, in s since
    1970, is older than `SILENCE`.
    """
    running = is_running(process)
    return time.time() - last_sign > SILENCE if running is None else not running


def _place() -> str:
    """Return the host, and for a container also its namespace of process numbers.

    The number of a namespace is unique only until the machine restarts. That of a machine's own
    processes is constant, so that processes from before a restart count as ended.
    """
    host = socket.gethostname().replace(".", "-")
    if sys.platform != "linux":
        return host
    namespace = str(Path("/proc/self/ns/pid").readlink())
    if namespace == FIRST_NAMESPACE:
        return host
    start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return f"{host}-{hashlib.sha256((namespace + start).encode()).hexdigest()[:8]}"
