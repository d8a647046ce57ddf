"""Results on their way to MLflow: on disk first, deleted once the store has taken them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from mlflow.entities import Metric

from bikefit.data.files import atomic_folder, delete_temporary_files, remove_folder
from bikefit.tracking.connection import (
    GONE,
    AwayError,
    TrackingError,
    address,
    artifacts_of,
    at_once,
    client,
    log_batch,
)

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


def send_epochs(
    run: str, after: int, epochs: Sequence[Mapping[str, float]], stamps: Sequence[int]
) -> bool:
    """Send metrics of epochs as they are done; what the store does not take now is kept nowhere.

    Sent again with the same stamps, MLflow keeps one of each, so nothing is there twice.

    Args:
        run: that grows.
        after: number of epochs that it has already.
        epochs: metrics of those that follow.
        stamps: of all its epochs, in ms since 1970.

    Returns:
        False where the store is away.
    """
    global _pause_until
    if time.monotonic() < _pause_until:
        return False
    metrics = [
        Metric(name, value, stamps[epoch - 1], epoch)
        for epoch, values in enumerate(epochs, start=after + 1)
        for name, value in values.items()
    ]
    try:
        with at_once():
            log_batch(run, metrics, {})
    except TrackingError as error:
        if error.code in GONE:  # said when the run ends
            return True
        log.debug(f"{error}: epochs are sent later")
        _pause_until = time.monotonic() + PAUSE
        return False
    return True


def _deliver(folder: Path) -> None:
    with FileLock(UNSENT / ".lock"), at_once():  # a sweep beside this one may be sending, too
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
        except AwayError as error:
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
