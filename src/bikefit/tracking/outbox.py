"""Results on their way to MLflow: on disk first, deleted once the store has taken them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from mlflow.entities import Metric

from bikefit.config import Settings
from bikefit.data.files import atomic_folder, delete_temporary_files, remove_folder
from bikefit.tracking import writing
from bikefit.tracking.connection import (
    GONE,
    StoreUnavailableError,
    TrackingError,
    address,
    artifacts_of,
    client,
    log_batch,
    without_retries,
)

if TYPE_CHECKING:
    from bikefit.training.members import Failure, MemberResult

log = logging.getLogger(__name__)
UNSENT = Path("unsent")  # results that MLflow has not taken yet
REFUSED = "refused"  # folder in it: results of runs that the store does not know (any more)
PAUSE = 10  # s before results are sent again to a server that was away
_pause_until = 0.0  # by time.monotonic(): until then a store that was away is left alone


@contextmanager
def to_send(
    run: str, metrics: Sequence[Metric], tags: Mapping[str, str], status: str
) -> Iterator[Path]:
    """Write what is to be sent to a folder of its own: until MLflow has it, it lies there.

    Yields:
        The folder for the run's artifacts.
    """
    with atomic_folder(UNSENT / run) as folder:
        (folder / "artifacts").mkdir()
        yield folder / "artifacts"
        record = {
            "store": address(), "run": run, "status": status, "tags": dict(tags),
            "metrics": [[m.key, m.value, m.timestamp, m.step] for m in metrics],
        }  # fmt: skip
        (folder / "record.json").write_text(json.dumps(record))  # indented, it takes 3 ms a run


def send(run: str) -> bool:
    """Send what a run has unsent; where that fails now, it stays and is sent later."""
    global _pause_until
    if time.monotonic() < _pause_until:
        return False
    try:
        _deliver(UNSENT / run)
        return True
    except (TrackingError, OSError) as error:
        if isinstance(error, TrackingError) and error.code in GONE:
            place = _set_aside(run)
            log.error(f"{error}; what was to be sent lies in {place}/ now and can be deleted")
            return True
        log.warning(f"{error}: results are kept in {UNSENT}/ and sent later")
        _pause_until = time.monotonic() + PAUSE
        return False


@dataclass(frozen=True)
class Sent:
    """Epochs of a run that MLflow has: their number, and the times of these and later ones."""

    epochs: int = 0
    stamps: Sequence[int] = ()


NOTHING = Sent()


def finish_member(run: str, result: MemberResult, settings: Settings, sent: Sent = NOTHING) -> None:
    """Keep and send the result of a member."""
    missing = max(map(len, result.metrics.values())) - len(sent.stamps)
    stamps = [*sent.stamps, *[int(time.time() * 1000)] * max(missing, 1)]
    metrics = writing.member_metrics(result, stamps, sent.epochs)
    tags, status = writing.member_tags(result), writing.status(result.failure)
    with to_send(run, metrics, tags, status) as folder:
        writing.write_artifacts(folder, result, settings)
    send(run)


def finish_folds(run: str, folds: Sequence[Mapping[str, float]]) -> None:
    """Keep and send the mean over the folds of a job."""
    with to_send(run, writing.fold_metrics(folds, int(time.time() * 1000)), {}, "FINISHED"):
        pass
    send(run)


def fail_run(run: str, failure: Failure) -> None:
    """Keep and send why a run has no result."""
    with to_send(run, [], {"failure": failure.reason[-5000:]}, writing.status(failure)):
        pass
    send(run)


def send_epochs(
    run: str, after: int, epochs: Sequence[Mapping[str, float]], stamps: Sequence[int]
) -> bool:
    """Send metrics of epochs as they are done; return False where the store is away."""
    global _pause_until
    if time.monotonic() < _pause_until:
        return False
    try:
        writing.log_epochs(run, after, epochs, stamps)
    except TrackingError as error:
        if error.code in GONE:  # said when the run ends
            return True
        log.debug(f"{error}: epochs are sent later")
        _pause_until = time.monotonic() + PAUSE
        return False
    return True


def _deliver(folder: Path) -> None:
    with (
        FileLock(UNSENT / ".lock"),
        without_retries(),
    ):
        if not folder.exists():
            return
        record = json.loads((folder / "record.json").read_text())
        run = record["run"]
        log_batch(run, [Metric(*values) for values in record["metrics"]], record["tags"])
        if any((folder / "artifacts").iterdir()):
            artifacts_of(run).log_artifacts(str(folder / "artifacts"))
        client().set_terminated(run, record["status"])
        remove_folder(folder)


def _set_aside(run: str) -> Path:
    place = UNSENT / REFUSED / run
    place.parent.mkdir(exist_ok=True)
    (UNSENT / run).replace(place)
    return place


def keep(run: str, metrics: Mapping[str, float], status: str) -> None:
    """Keep for later how a run ends."""
    stamp = int(time.time() * 1000)
    with to_send(run, [Metric(k, v, stamp, 0) for k, v in metrics.items()], {}, status):
        pass


def send_unsent() -> int:
    """Send what lies unsent for this store and return how many runs are left."""
    global _pause_until
    waiting = unsent()
    if waiting:
        delete_temporary_files(UNSENT)
        try:
            client().search_experiments(max_results=1)  # waits for a server that is away
        except StoreUnavailableError as error:
            log.warning(str(error))
            return len(waiting)
        _pause_until = 0.0
    return sum(not send(run) for run in waiting)


def refused(runs: Iterable[str]) -> list[str]:
    """List those of some runs whose results were set aside, since the store does not know them."""
    return [run for run in runs if (UNSENT / REFUSED / run).exists()]


def unsent() -> list[str]:
    """List the runs whose results wait to be sent to this store, in the order they ended."""
    found = []
    for file in UNSENT.glob("[!.]*/record.json"):
        try:
            if json.loads(file.read_text())["store"] == address():
                found.append((file.stat().st_mtime, file.parent.name))
        except FileNotFoundError:  # a sweep beside this one has just sent it
            continue
    return [run for _, run in sorted(found)]
