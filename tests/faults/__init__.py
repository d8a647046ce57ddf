"""Real faults: tests inject each fault once, `make faults` many times.

A fault is a function that gets an empty folder and a source of random numbers, causes one fault
there, and returns the number of results that were lost. It raises an error if the command did not
survive the fault.
"""

from __future__ import annotations

import importlib
import random
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Inject = Callable[[Path, random.Random], int]
MODULES = ("of_data", "of_sweeps")


class ImpossibleError(Exception):
    """The fault cannot be caused on this machine; the message is the reason."""


@dataclass(frozen=True)
class Fault:
    """A fault, its name in the table, and the number of times `make faults` injects it."""

    name: str
    times: int
    inject: Inject


@dataclass
class Tally:
    """Outcomes of a fault: counts, tracebacks of failed commands, reason if it is impossible."""

    injected: int = 0
    lost: int = 0
    errors: list[str] = field(default_factory=list)
    impossible: str = ""


_faults: dict[str, Fault] = {}


def fault(name: str, times: int) -> Callable[[Inject], Inject]:
    """Register a function as a fault."""

    def register(inject: Inject) -> Inject:
        _faults[name] = Fault(name, times, inject)
        return inject

    return register


def registered() -> list[Fault]:
    """Return all faults, in the order of their modules."""
    for module in MODULES:
        importlib.import_module(f"faults.{module}")
    return list(_faults.values())


def tally(fault: Fault, times: int, seed: int = 0) -> Tally:
    """Inject a fault several times, each time in an empty folder."""
    outcome = Tally()
    for i in range(times):
        with tempfile.TemporaryDirectory(prefix="fault-", ignore_cleanup_errors=True) as folder:
            try:
                lost = fault.inject(Path(folder).resolve(), random.Random(1000 * seed + i))
            except ImpossibleError as reason:
                outcome.impossible = str(reason)
                return outcome
            except Exception:
                outcome.errors.append(traceback.format_exc())
            else:
                outcome.lost += lost
            outcome.injected += 1
    return outcome
