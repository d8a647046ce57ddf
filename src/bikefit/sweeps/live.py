"""What stacks in training have measured so far, read by the command and written to MLflow.

One thread reads the files that stacks append to, and sends every few seconds what is new, a batch
a run. It never waits for a store that is away: what has not been sent then goes with the result.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bikefit.tracking import outbox
from bikefit.tracking.outbox import Sent
from bikefit.training.epochs import Epoch, Part, Reader

log = logging.getLogger(__name__)
LOOK = 0.5  # s between two looks at the files
SEND = 5.0  # s, at least, between two rounds of sending
SHARE = 0.02  # of the time that sending may take: many runs are sent less often
FOLDER = "epochs"  # below that of the checkpoints, which clusters may share


@dataclass
class _Run:
    """A run that grows.

    Args:
        run: its id.
        stamps: when each epoch was read, in ms since 1970; the first is that of epoch 1.
        written: number of epochs that MLflow has.
        waiting: metrics by epoch that it does not have yet.
        last: metrics of the last epoch.
    """

    run: str
    stamps: list[int] = field(default_factory=list)
    written: int = 0
    waiting: list[dict[str, float]] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)


class Live:
    """Runs that grow while their members train.

    Args:
        root: folder of the checkpoints.
        drain: takes what has come from machines that do not share that folder.
    """

    def __init__(self, root: Path, drain: Callable[[], Sequence[Part]] = tuple) -> None:
        self.drain = drain
        self.folder = root / FOLDER / f"{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        try:
            _clear(root / FOLDER)
            self.folder.mkdir(parents=True)
        except OSError as error:
            log.warning(f"epochs come to MLflow at the end only: {error}")
        self.readers: dict[Path, Reader] = {}
        self.runs: dict[str, _Run] = {}
        self.counts: dict[str, int] = {}
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Live:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def follow(self, runs: Mapping[str, str]) -> None:
        """Let runs grow: ids by the fingerprints of their members."""
        with self.lock:
            self.runs |= {mark: _Run(run) for mark, run in runs.items()}

    def leave(self, mark: str) -> Sent:
        """Follow a run no more; say what MLflow has of it."""
        with self.lock:
            found = self.runs.pop(mark, None)
        return Sent(found.written, found.stamps) if found else Sent()

    def epochs(self) -> int:
        """Count the member-epochs that are known of."""
        return sum(self.counts.values())

    def last(self) -> tuple[int, float, float] | None:
        """Return number, train and validation loss of the last epoch of a run that is alone."""
        with self.lock:
            run = next(iter(self.runs.values())) if len(self.runs) == 1 else _Run("")
        return (len(run.stamps), run.last["train/loss"], run.last["val/loss"]) if run.last else None

    def _watch(self) -> None:
        due = time.monotonic() + SEND
        while not self.stop.wait(LOOK):
            try:
                self._read()
                begun = time.monotonic()
                if begun >= due:
                    self._send()
                    ended = time.monotonic()
                    due = ended + max(SEND, (ended - begun) / SHARE)
            except Exception as error:  # whatever it is, results still come at the end
                log.warning(f"epochs come to MLflow at the end only: {error!r}")
                return

    def _read(self) -> None:
        for name, content in self.drain():
            with (self.folder / name).open("ab") as opened:
                opened.write(content)
        for file in self.folder.iterdir() if self.folder.exists() else ():
            reader = self.readers.setdefault(file, Reader(file))
            with self.lock:
                for epoch in reader.new():
                    self._note(epoch)

    def _note(self, epoch: Epoch) -> None:
        stamp = int(time.time() * 1000)
        for m, mark in enumerate(epoch.marks):
            if epoch.number != self.counts.get(mark, 0) + 1:
                continue  # a stack that was lost tells its epochs once more
            self.counts[mark] = epoch.number
            if mark in self.runs:
                values = zip(epoch.names, epoch.values[:, m].tolist(), strict=True)
                run = self.runs[mark]
                run.stamps.append(stamp)
                run.waiting.append({k: v for k, v in values if abs(v) < float("inf")})
                run.last = run.waiting[-1] or run.last

    def _send(self) -> None:
        for mark in list(self.runs):
            if self.stop.is_set():
                return
            with self.lock:  # whoever leaves waits for this one run
                run = self.runs.get(mark)
                if run is None or not run.waiting:
                    continue
                if not outbox.send_epochs(run.run, run.written, run.waiting, run.stamps):
                    return
                run.written += len(run.waiting)
                run.waiting = []


def _clear(folder: Path) -> None:
    """Remove what commands of this machine left behind that are gone."""
    for left in folder.glob(f"{socket.gethostname()}.*.*"):
        if not psutil.pid_exists(int(left.name.split(".")[-2])):
            shutil.rmtree(left, ignore_errors=True)
