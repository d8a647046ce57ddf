"""Recording of stacks in MLflow: start of runs, curves during training, results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bikefit.processes import is_running, process_id
from bikefit.sweeps.jobs import Job
from bikefit.tracking import reading, writing
from bikefit.tracking.connection import (
    NotFoundError,
    StoreUnavailableError,
    TrackingError,
    address,
    without_retries,
)
from bikefit.tracking.reading import FinishedRun
from bikefit.training.checkpoints import NO_RUNS, CheckpointDir, MemberRuns, checkpoint_dirs
from bikefit.training.members import MemberResult

log = logging.getLogger(__name__)
CHECKPOINTS = Path("checkpoints")  # in the current folder
INTERVAL = 10.0  # s, at least, between two writes of curves, and until an error is retried
SIGN = 60.0  # s between two signs of life in MLflow; see `processes.SILENCE`
SHARE = 0.02  # largest fraction of the time that is spent on writing curves


@dataclass(eq=False)
class Stack:
    """Members that train together; their runs and results are in their folder."""

    directory: CheckpointDir
    attempts: int = 2  # remaining attempts to train it
    logged: int = 0  # number of epochs whose metrics are in MLflow
    results: Sequence[MemberResult] = ()

    def assign_runs(self, jobs: Mapping[str, Job], sweep: str | None) -> None:
        """Store the runs of the members, here and in the folder.

        ``jobs`` has the jobs by fingerprint of their members. A member without a job has a
        finished run and is not recorded again.
        """
        runs: list[str | None] = []
        parents: list[str | None] = []
        for fingerprint in self.directory.fingerprints:
            job = jobs.get(fingerprint)
            run = job.runs.get(fingerprint) if job else None
            runs.append(run)
            parents.append(job.run if job and run != job.run else None)
        self.directory.assign_runs(MemberRuns(address(), sweep, runs, parents, process_id()))

    @property
    def open_run(self) -> str:
        """A run that stays open until the results of all stacks of the command are recorded."""
        runs = self.directory.runs
        return next(filter(None, (runs.sweep, *runs.jobs, *runs.runs)))

    def divide(self) -> list[Stack]:
        """Return one stack per member, each with one attempt."""
        root, runs = self.directory.folder.parent, self.directory.runs
        return [
            Stack(
                CheckpointDir(root, [member], replace(runs, runs=[run], jobs=[job])),
                attempts=1,
                logged=self.logged,
            )
            for member, run, job in zip(self.directory.members, runs.runs, runs.jobs, strict=True)
        ]


def start_runs(job: Job, sweep: str | None) -> None:
    """Start the runs of a job and of its folds, except finished folds, which are reused."""
    settings, version, tags = job.settings, job.table.data_version, job.table.tags
    job.run = writing.start_job(
        settings, sweep, version, job.fingerprint, job.configuration, target=tags
    )
    reused = {f: r.run for f, r in job.results.items() if isinstance(r, FinishedRun)}
    writing.add_reused_runs(job.run, list(reused.values()))
    for member in job.members:
        fingerprint, fold = member.fingerprint, member.fold
        if fold is None:
            job.runs[fingerprint] = job.run
        else:
            job.runs[fingerprint] = reused.get(fingerprint) or writing.start_job(
                settings, job.run, version, fingerprint, fold=fold, target=tags
            )
    if not job.pending:
        finish_cross_validated(job.run)


def record_stack(stack: Stack) -> bool:
    """Write the results of a stack to MLflow and remove its folder.

    Calling it again with the same result changes nothing. The folder stays if members were stopped
    or if MLflow does not know one of the runs.

    Returns:
        False if the store refuses the results; the folder stays, and the reason is logged.

    Raises:
        StoreUnavailableError: The store does not take the results now; nothing is lost.
    """
    directory, runs = stack.directory, stack.directory.runs
    results = zip(directory.members, runs.runs, stack.results, strict=True)
    try:
        unknown = [
            run
            for member, run, result in results
            if run and not _write(writing.finish_member, run, result, member.settings, stack.logged)
        ]
        jobs = dict.fromkeys(filter(None, runs.jobs))
        unknown += [job for job in jobs if not _write(finish_cross_validated, job)]
    except StoreUnavailableError:
        raise
    except TrackingError as error:
        log.error(f"{error}; the results stay in {directory.folder}")
        return False
    if unknown:
        directory.assign_runs(NO_RUNS)
        log.error(
            f"{runs.store} does not know the runs {', '.join(unknown)}; the results stay in "
            f"{directory.folder} until the same configurations are trained again; delete the "
            "folder if they are not needed"
        )
    elif not any(result.killed for result in stack.results):
        directory.remove()
    return True


def _write(function: Callable[..., None], run: str, *arguments: Any) -> bool:
    """Call a function that writes to a run; return False if the store has no such run."""
    try:
        function(run, *arguments)
    except NotFoundError:
        return False
    return True


def finish_cross_validated(run: str) -> None:
    """Close the run of a cross-validated job if the runs of all its folds are closed."""
    folds = sorted(reading.children(run), key=lambda fold: int(fold.data.params["fold"]))
    failed = [fold for fold in folds if fold.info.status != "FINISHED"]
    if not failed:
        writing.finish_folds(run, [reading.summary_metrics(fold) for fold in folds])
    elif all(fold.info.status != "RUNNING" for fold in failed):
        worst = min(failed, key=lambda fold: str(fold.info.status == "KILLED"))
        reason = worst.data.tags.get("failure", "a fold has no result")
        writing.fail_run(run, reason, killed=worst.info.status == "KILLED")


class Recorder:
    """Write the curves and results of a command's stacks to MLflow.

    Curves are read from the checkpoints. While the store is unavailable, results stay in the
    folders of their stacks. A result that the store refuses is tried again at the end.
    """

    def __init__(self) -> None:
        self.waiting: list[Stack] = []  # stacks with results that MLflow does not have
        self.refused: list[Stack] = []  # those whose results MLflow has refused
        self.next_results = 0.0  # after an error
        self.next_curves = time.monotonic() + INTERVAL
        self.next_sign = time.monotonic() + SIGN

    def update(self, training: Collection[Stack]) -> None:
        """Write results, the curves of stacks in training, and a sign of life.

        Curves are written not more often than INTERVAL, signs of life not more often than SIGN. A
        store that is unavailable is not waited for.
        """
        start = time.monotonic()
        if start < self.next_results:
            return
        try:
            with without_retries():
                while self.waiting:
                    if not record_stack(self.waiting[0]):
                        self.refused.append(self.waiting[0])
                    del self.waiting[0]
                if start >= self.next_sign:
                    self.next_sign = start + SIGN
                    for parent in {stack.open_run for stack in training}:
                        _write(writing.renew, parent)
                if start >= self.next_curves:
                    self._write_curves(training)
        except (TrackingError, OSError) as error:
            log.warning(f"{error}: results are kept in {CHECKPOINTS}/ and recorded later")
            self.next_results = time.monotonic() + INTERVAL

    def _write_curves(self, training: Collection[Stack]) -> None:
        """Write the metrics of finished epochs."""
        start = time.monotonic()
        for stack in training:
            stamps, members = stack.directory.histories()
            for run, metrics in zip(stack.directory.runs.runs, members, strict=True):
                if run and len(stamps) > stack.logged:
                    _write(writing.log_epochs, run, metrics, stack.logged, stamps)
            stack.logged = max(stack.logged, len(stamps))
        end = time.monotonic()
        self.next_curves = end + max(INTERVAL, (end - start) / SHARE)

    def release(self) -> None:
        """Allow other commands to record the results that are still waiting."""
        for stack in self.waiting + self.refused:
            stack.directory.assign_runs(replace(stack.directory.runs, process=""))


def pending_stacks() -> list[Stack]:
    """Return the stacks whose results are not in this store yet.

    Stacks of another running command are excluded, because that command records them.
    """
    stacks = []
    for directory in checkpoint_dirs(CHECKPOINTS.absolute()):
        runs = directory.runs
        if runs.store != address():
            continue
        if runs.process != process_id() and is_running(runs.process):
            continue
        if results := directory.load_result():
            stacks.append(Stack(directory, results=results))
    return stacks


def record_pending_results() -> int:
    """Record the results that earlier commands could not record; return the number that is left.

    A cross-validated job is closed with its last fold.
    """
    try:
        for stack in pending_stacks():
            record_stack(stack)
    except (TrackingError, OSError) as error:
        log.warning(str(error))
    return sum(len(stack.directory.members) for stack in pending_stacks())
