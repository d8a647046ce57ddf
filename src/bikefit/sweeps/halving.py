"""One stack fitted; its halves where it raises, until the member whose fault it is stands alone."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from bikefit.data.table import read_table
from bikefit.errors import DataError
from bikefit.training.checkpoints import Place
from bikefit.training.epochs import Folders, Part, Writer
from bikefit.training.members import Failure, Member, MemberResult, Stopped

log = logging.getLogger(__name__)

T = TypeVar("T")
Results = Sequence[MemberResult | Failure]


def fit(
    members: Sequence[Member], report: Callable[[int], Any] = lambda _: None,
    stopping: Callable[[], bool] = lambda: False, folders: Folders | None = None,
    put: Callable[[Part], object] | None = None,
) -> Results:  # fmt: skip
    """Fit one stack; if it raises, try its halves, and so on, to find whose fault it is.

    Args:
        members: of the stack.
        report: called after each epoch with the number of member-epochs done.
        stopping: asked after each step.
        folders: in which the stack has its own for checkpoints, and tells its epochs; what is not
            there, as on a machine that does not share them, is not written.
        put: takes epochs where their folder is not there.
    """
    from bikefit.training.fit import fit_stack
    from bikefit.training.folds import read_pool

    if changed := _changed(members[0]):
        return [Failure(changed)] * len(members)
    try:
        if stopping():
            raise Stopped
        pool = read_pool(members[0].settings.data.path)
        place, told = place_of(members, folders), _writer(members, folders, put)
        return fit_stack(members, pool, report, stopping, place, told)
    except Stopped:
        return [Failure("stopped before the end of the first epoch", killed=True)] * len(members)
    except Exception as error:
        if len(members) == 1:
            return [Failure(traceback.format_exc().strip())]
        log.warning(f"a stack of {len(members)} is tried again in halves: {error!r}")
    parts = cut(members, folders)
    return [result for part, below in parts for result in fit(part, report, stopping, below, put)]


def _changed(member: Member) -> str:
    """Say so where the table of a stack is not the one that it shall train on."""
    path, found = member.settings.data.path, ""
    try:
        found = read_table(path).data_version if member.version else ""
    except DataError as error:
        return f"machine {socket.gethostname()}: {error}"
    if found == member.version:
        return ""
    return (
        f"machine {socket.gethostname()}: {path} has data version {found}, not {member.version}: "
        "run `dvc pull` there; if it was changed while the sweep ran, give the command again"
    )


def place_of(members: Sequence[Member], folders: Folders | None) -> Place | None:
    """Return where a stack keeps its checkpoints, None where that folder has not been made."""
    if folders is None:
        return None
    place = Place(folders.checkpoints, [member.fingerprint for member in members])
    return place if place.is_open else None


def _writer(
    members: Sequence[Member], folders: Folders | None, put: Callable[[Part], object] | None
) -> Writer | None:
    if folders is None or folders.epochs is None:
        return None
    return Writer(folders.epochs, [member.fingerprint for member in members], put)


def cut(
    members: Sequence[Member], folders: Folders | None
) -> list[tuple[Sequence[Member], Folders | None]]:
    """Cut a stack in halves, each with the folders in which it finds its slice of a checkpoint."""
    parts, place, below = halves(range(len(members))), place_of(members, folders), folders
    try:
        if place is not None:
            for part in parts:
                place.part(part)
            below = replace(folders, checkpoints=place.folder)  # type: ignore[type-var]
    except OSError as error:
        log.warning(f"{len(members)} members go on without checkpoints: {error}")
    return [([members[m] for m in part], below) for part in parts]


def halves(parts: Sequence[T]) -> list[Sequence[T]]:
    """Cut in two what can be cut."""
    middle = len(parts) // 2
    return [half for half in (parts[:middle], parts[middle:]) if half]
