"""Recording: runs in MLflow from their start, over their curves, to their results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bikefit.processes import is_running, process_id
from bikefit.sweeps.jobs import Job
from bikefit.tracking import reading, writing
from bikefit.tracking.connection import (
    GONE,
    TrackingError,
    address,
    client,
    without_retries,
)
from bikefit.tracking.names import PROCESS
from bikefit.tracking.reading import Finished
from bikefit.training.checkpoints import CheckpointDir, MemberRuns, checkpoint_dirs
from bikefit.training.members import Arrays, MemberResult

log = logging.getLogger(__name__)
CHECKPOINTS = Path("checkpoints")  # in the current folder
INTERVAL = 10.0  # s, at least, between two writes of curves, and until a store is tried again
SHARE = 0.02  # largest fraction of the time that writing curves takes


def start_runs(job: Job, sweep: str | None) -> None:
    """Start the runs of a job and of its folds; finished folds are reused."""
    version = job.data_version
    job.run = writing.start_job(job.settings, sweep, version, job.fingerprint(), job.configuration)
    if not job.cross_validated:
        return
    finished = {i: r.run for i, r in job.results.items() if isinstance(r, Finished)}
    writing.add_reused_runs(job.run, list(finished.values()))
    job.fold_runs = [
        finished.get(i)
        or writing.start_job(job.settings, job.run, version, job.fingerprint(i), fold=i)
        for i in range(job.settings.validation.folds)
    ]
    if job.complete:
        finish_cross_validated(job.run)


def record_stack(
    directory: CheckpointDir,
    runs: MemberRuns,
    results: Sequence[MemberResult],
    logged: Mapping[str, int],
) -> None:
    """Write the results of a stack to MLflow and remove its folder.

    Calling it again with the same result changes nothing. The folder stays if members were stopped
    or if MLflow does not know one of the runs.

    Args:
        directory: Folder of the stack.
        runs: Runs of the members.
        results: Results of the members.
        logged: Number of epochs that MLflow has, by run.

    Raises:
        TrackingError: The store does not take the results now; nothing is lost.
    """
    actions: dict[str, Callable[[], None]] = {}
    for member, run, result in zip(directory.members, runs.runs, results, strict=True):
        if run is not None:
            count = logged.get(run, 0)
            actions[run] = partial(writing.finish_member, run, result, member.settings, count)
    for job in filter(None, runs.jobs):
        actions[job] = partial(finish_cross_validated, job)
    unknown = [run for run, action in actions.items() if not _succeeds(action)]
    if unknown:
        directory.forget_runs()
        log.error(
            f"{runs.store} does not know the runs {', '.join(unknown)}, which may have been "
            f"deleted; the results stay in {directory.folder} until the same configurations are "
            "trained again; delete the folder if they are not needed"
        )
    elif not any(result.killed for result in results):
        directory.remove()


def _succeeds(action: Callable[[], None]) -> bool:
    """Do something with a run; return False if the store does not know the run."""
    try:
        action()
    except TrackingError as error:
        if error.code not in GONE:
            raise
        return False
    return True


def finish_cross_validated(run: str) -> None:
    """Close the run of a cross-validated job once the runs of all its folds are closed."""
    if client().get_run(run).info.status == "FINISHED":
        return
    folds = sorted(reading.children(run), key=lambda fold: int(fold.data.params["fold"]))
    failed = [fold for fold in folds if fold.info.status != "FINISHED"]
    if not failed:
        writing.finish_folds(
            run, [Finished(f.info.run_id, dict(f.data.metrics)).best for f in folds]
        )
    elif all(fold.info.status != "RUNNING" for fold in failed):
        worst = min(failed, key=lambda fold: str(fold.info.status == "KILLED"))
        reason = worst.data.tags.get("failure", "a fold has no result")
        writing.fail_run(run, reason, killed=worst.info.status == "KILLED")


class Recorder:
    """Records the stacks of a command.

    Curves are read from the checkpoints. While the store is unavailable, training continues, and
    results stay in the folders of their stacks.
    """

    def __init__(self) -> None:
        self.active: dict[Path, tuple[CheckpointDir, MemberRuns]] = {}
        self.histories: dict[Path, tuple[list[int], list[Arrays]]] = {}
        self.read: dict[Path, float] = {}  # time of the checkpoint that was read last
        self.logged: dict[str, int] = {}  # number of epochs that MLflow has, by run
        self.waiting: list[tuple[CheckpointDir, MemberRuns, Sequence[MemberResult]]] = []
        self.next_curves = time.monotonic() + INTERVAL
        self.next_results = 0.0

    def follow(self, directory: CheckpointDir, runs: MemberRuns) -> None:
        """Write the curves of a stack while it trains."""
        self.active[directory.folder] = directory, runs

    def add(
        self, directory: CheckpointDir, runs: MemberRuns, results: Sequence[MemberResult]
    ) -> None:
        """Record the results of a stack, at the next update."""
        self.active.pop(directory.folder, None)
        self.histories.pop(directory.folder, None)
        self.waiting.append((directory, runs, results))

    def update(self) -> None:
        """Read new checkpoints, and write what is due."""
        for folder, (directory, _) in self.active.items():
            changed = directory.changed()
            if changed != self.read.get(folder, 0.0):
                self.read[folder] = changed
                self.histories[folder] = directory.histories()
        if time.monotonic() >= self.next_results:
            self._write_results()
        start = time.monotonic()
        if start >= max(self.next_curves, self.next_results):
            self._write_curves()
            end = time.monotonic()
            self.next_curves = end + max(INTERVAL, (end - start) / SHARE)

    def release(self) -> None:
        """Let other commands record the results that the store has not taken."""
        for directory, runs, _ in self.waiting:
            directory.assign_runs(replace(runs, process=""))

    @property
    def member_epochs(self) -> int:
        """Number of epochs of all members that are in training."""
        return sum(len(stamps) * len(members) for stamps, members in self.histories.values())

    def _write_results(self) -> None:
        try:
            while self.waiting:
                with without_retries():
                    record_stack(*self.waiting[0], self.logged)
                del self.waiting[0]
        except (TrackingError, OSError) as error:
            log.warning(f"{error}: results are kept in {CHECKPOINTS}/ and recorded later")
            self.next_results = time.monotonic() + INTERVAL

    def _write_curves(self) -> None:
        for folder, (stamps, members) in self.histories.items():
            for run, metrics in zip(self.active[folder][1].runs, members, strict=True):
                logged = self.logged.get(run or "", 0)
                count = max(map(len, metrics.values()), default=0)
                if run is None or count <= logged:
                    continue
                try:
                    writing.log_epochs(run, metrics, logged, stamps)
                except (TrackingError, OSError) as error:  # they are written with the result
                    log.debug(f"curves are written later: {error}")
                    return
                self.logged[run] = count


def pending_results() -> list[tuple[CheckpointDir, MemberRuns]]:
    """List the stacks whose results this store does not have yet.

    Those of another command that is running are left out: it records them itself.
    """
    directories = [d for d in checkpoint_dirs(CHECKPOINTS.absolute()) if d.has_result]
    runs = [(directory, directory.runs()) for directory in directories]
    return [(directory, r) for directory, r in runs if r and _is_ours(r)]


def _is_ours(runs: MemberRuns) -> bool:
    mine = runs.process == process_id()
    return runs.store == address() and (mine or not is_running(runs.process))


def record_pending_results() -> int:
    """Record the results that earlier commands could not record; return how many runs are left.

    Cross-validated jobs and sweeps are closed with their last run.
    """
    pending = pending_results()
    if not pending:
        return 0
    try:
        client().search_experiments(max_results=1)  # waits for a store that is unavailable
        for directory, runs in pending:
            if results := directory.load_result():
                record_stack(directory, runs, results, {})
        for sweep in {runs.sweep for _, runs in pending if runs.sweep}:
            _succeeds(partial(_close_sweep, sweep))
    except (TrackingError, OSError) as error:
        log.warning(str(error))
    return sum(len(runs.runs) for _, runs in pending_results())


def _close_sweep(sweep: str) -> None:
    """Close a sweep whose command has ended, once all its runs are closed."""
    run = client().get_run(sweep)
    statuses = [child.info.status for child in reading.children(sweep)]
    ended = is_running(run.data.tags.get(PROCESS, "")) is False
    if run.info.status == "RUNNING" and ended and "RUNNING" not in statuses:
        failed = len(statuses) - statuses.count("FINISHED")
        counts = {"runs": float(len(statuses)), "runs.failed": float(failed)}
        note = f"Results were recorded later: `python -m bikefit.compare --sweep {sweep}`"
        writing.finish_sweep(sweep, note, counts, "FAILED" if failed else "FINISHED")
