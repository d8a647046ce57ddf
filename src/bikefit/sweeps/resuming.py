"""Stacks that a command left behind when it was killed, and those of the command under way.

What was cut as one stack goes on as one: the members' numbers then have the same bits as if
nothing had happened, however many processes there are now. Of a stack some of whose members are
not to be trained any more, the others go on with their slices.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from bikefit.training.checkpoints import Place, places

log = logging.getLogger(__name__)
CHECKPOINTS = Path("checkpoints")


def left_behind(
    root: Path, pending: Collection[str], stack_size: int | None = None
) -> list[list[str]]:
    """Find the members that were in training before, stack by stack, and put their slices ready.

    Args:
        root: folder of the checkpoints.
        pending: fingerprints of the members to train.
        stack_size: most members in a stack, None for as many as were together.

    Returns:
        The fingerprints of each stack's members, in order.
    """
    families = {mark.partition("-")[0] for mark in pending}
    wanted, stacks, foreign, epochs = set(pending), [], 0, []
    for place in places(root):
        foreign += not {mark.partition("-")[0] for mark in place.marks} & families
        members = [m for m, mark in enumerate(place.marks) if mark in wanted]
        epoch = place.epoch() if members else 0
        if not members or (len(members) < len(place.marks) and epoch == 0):
            continue
        count = -(-len(members) // (stack_size or len(members)))
        for part in np.array_split(members, count):
            marks = [place.marks[m] for m in part]
            if len(marks) < len(place.marks) or place.folder.parent != root:
                _slice(place, part.tolist(), root)
            stacks.append(marks)
            wanted -= set(marks)
            epochs += [epoch] * len(marks) if epoch else []
    if foreign and pending:
        log.info(f"{root} holds {foreign} stacks of other code or data: not used here")
    if epochs:
        log.info(
            f"{len(epochs)} members go on at a checkpoint, after {min(epochs)} to {max(epochs)} "
            "epochs"
        )
    return stacks


def _slice(place: Place, members: Sequence[int], root: Path) -> None:
    try:
        place.part(members, root)
    except OSError as error:
        log.warning(f"{len(members)} members begin anew, their checkpoint cannot be cut: {error}")


class Kept:
    """The checkpoints of a command's stacks: each goes once its members are recorded.

    Args:
        root: folder of the checkpoints.
        stacks: fingerprints of each stack's members.
    """

    def __init__(self, root: Path, stacks: Sequence[Sequence[str]]) -> None:
        self.root, self.done = root, set[str]()
        self.waiting: dict[str, tuple[Place, set[str]]] = {}
        try:
            for marks in stacks:
                place = Place(root, marks)
                place.open()
                waits = set(marks)
                self.waiting |= dict.fromkeys(marks, (place, waits))
        except OSError as error:
            log.warning(f"some stacks keep no checkpoints: {error}")

    def recorded(self, marks: Iterable[str]) -> None:
        """Note members whose results MLflow has, or the folder of what is unsent."""
        for mark in marks:
            self.done.add(mark)
            if mark in self.waiting:
                place, waits = self.waiting.pop(mark)
                waits.discard(mark)
                if not waits:
                    _remove(place)

    def clear(self) -> None:
        """Remove what is left of stacks whose members are all done, some of them earlier."""
        for place in places(self.root):
            if self.done.issuperset(place.marks):
                _remove(place)


def _remove(place: Place) -> None:
    with suppress(OSError):  # another command may have trained the same and was quicker
        place.remove()
