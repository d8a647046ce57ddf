"""Faults in the middle of a long training: what was trained is not trained again."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from bikefit.training.checkpoints import CHECKPOINT, checkpoint_dirs
from faults import fault
from faults.of_sweeps import ALONE, LONG, SMALL, TWO, Sweep, finished, lost, states
from faults.places import fill, project, small_disk

EPOCHS = 200
LONGER = [SMALL, f"training.epochs={EPOCHS}", "seed=0,1,2,3", "regularization.dropout=0.2"]
EVERY_EPOCH = {"BIKEFIT_CHECKPOINT": "0"}


def _epochs(folder: Path) -> dict[str, int]:
    """After how many epochs each stack has its checkpoint."""
    return {d.folder.name: d.epoch() for d in checkpoint_dirs(folder / "checkpoints")}


def _wait(sweep: Sweep, ready: Callable[[], bool]) -> None:
    while sweep.process.poll() is None and not ready():
        assert sweep.age() < LONG, sweep.said()
        time.sleep(0.002)


def _at_an_epoch(sweep: Sweep, folder: Path, draw: random.Random, most: int = EPOCHS - 10) -> None:
    epoch = draw.randrange(1, most)
    _wait(sweep, lambda: max(_epochs(folder).values(), default=0) >= epoch)


def _in_a_write(sweep: Sweep, folder: Path, draw: random.Random) -> None:
    _at_an_epoch(sweep, folder, draw)
    _wait(sweep, lambda: any((folder / "checkpoints").glob(f"*/.{CHECKPOINT}.*.tmp")))


def _killed_and_resumed(
    folder: Path,
    draw: random.Random,
    until: Callable[[Sweep, Path, random.Random], None],
) -> int:
    """Kill a sweep, repeat it on one or two processes, and compare every number bit by bit."""
    project(folder)
    expected = [TWO, *LONGER]
    sweep = Sweep(folder, *expected, **EVERY_EPOCH)
    until(sweep, folder, draw)
    known = _epochs(folder)
    if sweep.process.poll() is None:
        sweep.send(signal.SIGKILL)
    sweep.process.wait()
    kept = _epochs(folder)
    assert all(kept.get(stack, EPOCHS) >= epoch for stack, epoch in known.items()), (known, kept)
    begun = [*kept.values()] if any(kept.values()) else []
    again = Sweep(folder, draw.choice([ALONE, TWO]), *LONGER, **EVERY_EPOCH)
    assert again.end() == 0, again.said()
    assert "is ignored" not in again.said(), again.said()
    if begun:  # nothing that was kept is trained again
        said = re.search(r"resume from checkpoints, after (\d+) to (\d+) epochs", again.said())
        assert said, again.said()
        assert [int(said[1]), int(said[2])] == [min(begun), max(begun)], (again.said(), kept)
    assert set(finished(folder).values()) == {1}, "a finished run was trained again"
    assert states(folder)["RUNNING"] == 0
    assert not _epochs(folder), "checkpoints are left over"
    return lost(folder, *expected, tolerance=0.0)


@fault("sweep killed at a random epoch, goes on with the same bits", times=38)
def kill_at_an_epoch(folder: Path, draw: random.Random) -> int:
    """What is kept is not trained again."""
    return _killed_and_resumed(folder, draw, _at_an_epoch)


@fault("sweep killed while it writes a checkpoint", times=12)
def kill_in_a_write(folder: Path, draw: random.Random) -> int:
    """The earlier checkpoint is whole."""
    return _killed_and_resumed(folder, draw, _in_a_write)


@fault("worker killed at a random epoch, its stack goes on with the same bits", times=6)
def kill_a_worker(folder: Path, draw: random.Random) -> int:
    """Stacks of all workers go on, one after the other."""
    project(folder)
    sweep = Sweep(folder, TWO, *LONGER, **EVERY_EPOCH)
    _at_an_epoch(sweep, folder, draw, most=EPOCHS // 2)
    sweep.kill_worker(draw)
    assert sweep.end() == 0, sweep.said()
    assert "is trained again" in sweep.said(), sweep.said()
    assert not _epochs(folder), "checkpoints are left over"
    return lost(folder, TWO, *LONGER, tolerance=0.0)


@fault("disk full at a checkpoint", times=6)
def full_at_a_checkpoint(folder: Path, draw: random.Random) -> int:
    """Training goes on; the sweep is killed, and goes on at the checkpoint that had room."""
    with small_disk(folder, 16384) as disk:
        project(disk)
        sweep = Sweep(disk, TWO, *LONGER, **EVERY_EPOCH)
        _at_an_epoch(sweep, disk, draw)
        filler = fill(disk, leave=draw.randrange(0, 4096))
        _wait(sweep, lambda: "could not be written, training continues" in sweep.said())
        if draw.random() < 0.5:
            sweep.process.kill()
            sweep.process.wait()
        filler.unlink()
        if sweep.process.poll() is None:
            sweep.process.wait(LONG)
        last = Sweep(disk, TWO, *LONGER, **EVERY_EPOCH)
        assert last.end() == 0, last.said()
        assert set(finished(disk).values()) == {1}
        return lost(disk, TWO, *LONGER, tolerance=0.0)
