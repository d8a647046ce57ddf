"""Real faults, each written once: the tests inject a few of each, `make faults` many.

A fault is a function that gets an empty folder and a source of random numbers, brings about one
fault there, and returns how many things were lost (0, one hopes). It raises where the fault was
not survived: where what must happen did not. To add one, decorate it with `fault` in a module that
`registered` imports.
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
MODULES = ("of_data", "of_sweeps", "of_checkpoints")


class ImpossibleError(Exception):
    """This machine does not let the fault be brought about; says why."""


@dataclass(frozen=True)
class Fault:
    """A fault, what it is called in the table, and how often `make faults` injects it."""

    name: str
    times: int
    inject: Inject


@dataclass
class Tally:
    """What became of a fault."""

    injected: int = 0
    survived: int = 0
    lost: int = 0
    troubles: list[str] = field(default_factory=list)
    impossible: str = ""


_faults: dict[str, Fault] = {}


def fault(name: str, times: int) -> Callable[[Inject], Inject]:
    """Enter a function into the table of faults."""

    def enter(inject: Inject) -> Inject:
        _faults[name] = Fault(name, times, inject)
        return inject

    return enter


def registered() -> list[Fault]:
    """All faults, in the order of their modules."""
    for module in MODULES:
        importlib.import_module(f"faults.{module}")
    return list(_faults.values())


def tally(one: Fault, times: int, seed: int = 0) -> Tally:
    """Inject a fault so many times, each in a folder of its own."""
    found = Tally()
    for i in range(times):
        with tempfile.TemporaryDirectory(prefix="fault-", ignore_cleanup_errors=True) as folder:
            try:
                lost = one.inject(Path(folder).resolve(), random.Random(1000 * seed + i))
            except ImpossibleError as reason:
                found.impossible = str(reason)
                return found
            except Exception:
                found.injected += 1
                found.troubles.append(traceback.format_exc())
            else:
                found.injected += 1
                found.survived += 1
                found.lost += lost
    return found
