"""A command of a user, with what each of its processes spent its time on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sweep.processes import run, scratch

SAMPLING = Path(__file__).parent / "sampling"


@dataclass(frozen=True)
class Process:
    """Seconds of one process by category.

    Args:
        seconds: from its start until it was seen last.
        main: wall time of its main thread.
        others: wall time of its other threads.
        cores: what all its threads had of the processor.
    """

    seconds: float
    main: dict[str, float]
    others: dict[str, float]
    cores: dict[str, float]

    def spent(self, prefix: str) -> float:
        """Sum the seconds of all threads in categories that begin so."""
        items = [*self.main.items(), *self.others.items()]
        return sum(value for name, value in items if name.startswith(prefix))


@dataclass(frozen=True)
class Sampled:
    """A command's wall time in seconds, its own process, its workers and who forks these."""

    seconds: float
    parent: Process
    server: Process
    workers: list[Process]


def sampled(arguments: Sequence[str]) -> Sampled:
    """Run Python with arguments in a scratch folder and say where its processes' time went.

    The last half second of a process is not seen, nor what comes before Python runs.
    """
    with scratch() as folder:
        samples = folder / "samples"
        samples.mkdir()
        path = os.pathsep.join(filter(None, (str(SAMPLING), os.environ.get("PYTHONPATH"))))
        environment = {"BIKEFIT_SAMPLES": str(samples), "PYTHONPATH": path}
        measured = run(arguments, folder, environment)
        files = sorted(samples.glob("[0-9]*.json"), key=lambda file: int(file.stem))
        found = {int(file.stem): json.loads(file.read_text()) for file in files}
    (parent,) = (i for i, one in found.items() if one["command"][1:] == list(arguments))
    (server,) = (i for i, one in found.items() if _is_server(one) and one["parent"] == parent)
    workers = [one for one in found.values() if one["parent"] == server]
    return Sampled(
        measured.seconds, _process(found[parent]), _process(found[server]),
        [_process(one) for one in workers],
    )  # fmt: skip


def _is_server(content: dict) -> bool:
    return any("multiprocessing.forkserver" in word for word in content["command"])


def _process(content: dict) -> Process:
    return Process(content["seconds"], content["main"], content["others"], content["cores"])
