"""Train the jobs of a command: reuse finished runs, train stacks on an engine, record results."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bikefit.comparison.runs import run_table
from bikefit.config import configuration_id, network_label
from bikefit.processes import process_id
from bikefit.sweeps import forkserver
from bikefit.sweeps.engines import Engine
from bikefit.sweeps.fingerprints import fingerprint_prefix
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.recording import (
    CHECKPOINTS,
    Recorder,
    Stack,
    record_pending_results,
    start_runs,
)
from bikefit.sweeps.stacks import plan_stacks
from bikefit.tracking import reading, writing
from bikefit.tracking.reading import FinishedRun
from bikefit.training.folds import read_pool
from bikefit.training.members import STOPPED, MemberResult
from bikefit.training.worker import StackError, run_stack

log = logging.getLogger(__name__)
POLL = 0.5  # s between two readings of checkpoints
LOST = (
    "its worker was lost: {error}; a smaller network, training.batch_size or table needs less "
    "memory"
)


class Interrupt:
    """Handle Ctrl-C: the first one stops all stacks by the file ``stop``, the second one exits.

    Only the main thread gets Ctrl-C; a sweep in another thread does not handle it.
    """

    def __init__(self, root: Path) -> None:
        self.requested = False
        self.stop = root / f".stop.{process_id()}.tmp"  # deleted with other temporary files

    def __enter__(self) -> Interrupt:
        self.previous = None
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
        self.stop.unlink(missing_ok=True)

    def request(self) -> None:
        """Stop all stacks at the end of their step."""
        self.requested = True
        with suppress(OSError):
            self.stop.touch()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:  # workers exit with this process; the next command closes the runs
            forkserver.kill()
            os._exit(130)
        self.request()
        log.warning("stopping at the end of the step; Ctrl-C again stops at once")


class StackLoop:
    """Train stacks on an engine.

    A stack that raises or whose worker is lost is submitted once more. If it fails again, each of
    its members is submitted alone, once.
    """

    def __init__(self, engine: Engine, interrupt: Interrupt, stacks: Sequence[Stack]) -> None:
        self.engine, self.interrupt = engine, interrupt
        self.training: dict[Future[list[MemberResult]], Stack] = {}
        for stack in stacks:
            self._submit(stack)

    def _submit(self, stack: Stack) -> None:
        stack.directory.create()
        members = stack.directory.members
        table = members[0].settings.data.path.absolute()
        root, stop = stack.directory.folder.parent, self.interrupt.stop
        self.training[self.engine.executor.submit(run_stack, members, table, root, stop)] = stack

    def finished_stacks(self) -> Iterator[list[Stack]]:
        """Yield the stacks that have finished since the last time, at least every POLL seconds."""
        while self.training:
            if self.interrupt.requested:
                self.cancel()
            done, _ = wait(self.training, POLL, FIRST_COMPLETED)
            yield [stack for future in done for stack in self._take_result(future)]

    def cancel(self) -> None:
        """Cancel stacks that have not started; on clusters also those in training."""
        for future in self.training:
            future.cancel()

    def _take_result(self, future: Future[list[MemberResult]]) -> list[Stack]:
        """Return the stack of a future if it has finished; otherwise submit it again."""
        stack = self.training.pop(future)
        directory, count = stack.directory, len(stack.directory.members)
        try:
            stack.results = future.result()
            if not directory.has_result and not any(r.killed for r in stack.results):
                directory.save_result(stack.results)  # the worker does not have the folder
            return [stack]
        except (CancelledError, Exception) as error:
            if self.interrupt.requested:
                stack.results = [MemberResult(failure=STOPPED, killed=True)] * count
                return [stack]
            last = (str(error) or repr(error)).splitlines()[-1]
            reason = str(error) if isinstance(error, StackError) else LOST.format(error=last)
        stack.attempts -= 1
        if stack.attempts > 0:
            log.warning(f"a stack of {count} is trained again: {last}")
            self._submit(stack)
        elif count > 1:
            log.warning(f"the {count} members of a stack are trained alone: {last}")
            directory.remove()
            for single in stack.divide():
                self._submit(single)
        else:
            stack.results = [MemberResult(failure=reason)]
            directory.save_result(stack.results)
            return [stack]
        return []


def train_jobs(
    jobs: Sequence[Job],
    sweep: str | None,
    engine: Engine,
    stack_size: int | None = None,
) -> list[float | Exception]:
    """Train and record all jobs; return the validation loss or the error of each.

    Members with a finished run, in this sweep or an earlier one, are not trained again.

    Args:
        jobs: Jobs to train.
        sweep: Id of the parent run; None for a single run.
        engine: Engine that trains the stacks.
        stack_size: Largest number of members in a stack; None for the default of the device.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the metrics measured until then are recorded.
    """
    _name_configurations(jobs)
    unique: dict[str, Job] = {}
    for job in jobs:
        unique.setdefault(job.fingerprint, job)
    finished = _find_finished(unique, sweep)
    fresh = [job for job in unique.values() if not job.run]
    if fresh:
        _train_pending(fresh, sweep, finished, engine, stack_size)
    for job in jobs:
        job.run = unique[job.fingerprint].run
    return [unique[job.fingerprint].val_loss() for job in jobs]


def _name_configurations(jobs: Sequence[Job]) -> None:
    """Give the configurations of jobs the names that they will have in the ranking."""
    runs = [
        {
            **reading.parse_parameters(writing.parameters(job.settings)),
            "tags.configuration.id": configuration_id(job.settings),
            "tags.network.label": network_label(job.settings.network),
        }
        for job in jobs
    ]
    for job, label in zip(jobs, run_table(pd.DataFrame(runs))["configuration"], strict=True):
        job.configuration = label


def check_jobs(jobs: Sequence[Job]) -> None:
    """Raise a BikefitError for settings that do not fit the table, or for a wrong layer.

    Networks that are lists of layers are built; ``job.alone`` is set if they cannot be stacked.
    """
    reasons: dict[str, str | None] = {}
    for job in jobs:
        read_pool(job.settings.data.path).folds(job.settings)
        if job.settings.network.layers is None:
            continue
        from bikefit.training.strengths import stacking_error

        columns = len(job.table.feature_names)
        network = f"{columns} {job.settings.network}"
        if network not in reasons:
            reasons[network] = stacking_error(job.settings, columns)
        job.alone = reasons[network] is not None
        if job.alone and len(jobs) > 1:
            log.info(
                f"trains alone, because it cannot be stacked: {job.label} ({reasons[network]})"
            )


def _find_finished(jobs: dict[str, Job], sweep: str | None) -> set[str]:
    """Set the results of jobs and folds that are finished; return all finished fingerprints.

    ``jobs`` has the jobs by fingerprint.
    """
    record_pending_results()
    writing.close_abandoned_runs()
    finished: dict[str, FinishedRun] = {}
    for version in {job.table.data_version for job in jobs.values()}:
        finished |= reading.finished_runs(fingerprint_prefix(version))
    reused = []
    for fingerprint, job in jobs.items():
        if job.settings.rerun:
            continue
        parts = {fingerprint} if fingerprint in finished else {m.fingerprint for m in job.members}
        job.results = {part: finished[part] for part in parts & finished.keys()}
        if fingerprint in job.results:
            job.run = finished[fingerprint].run
            reused.append(job.run)
    if reused:
        log.info(
            f"{len(reused)} of {len(jobs)} runs are finished already and not trained again "
            "(rerun=true trains them)"
        )
        if sweep is not None:
            writing.add_reused_runs(sweep, reused)
    return set(finished)


def _train_pending(
    jobs: Sequence[Job],
    sweep: str | None,
    finished: Collection[str],
    engine: Engine,
    stack_size: int | None,
) -> None:
    """Train and record the members of jobs that have no result yet."""
    root = CHECKPOINTS.absolute()
    stacks = [Stack(d) for d in plan_stacks(jobs, engine.slots, stack_size, root, finished)]
    members = {member.fingerprint: job for job in jobs for member in job.pending}
    if len(members) > 1:
        sizes = ", ".join(str(len(stack.directory.members)) for stack in stacks)
        slots = min(engine.slots, len(stacks))
        log.info(
            f"{len(members)} members in {len(stacks)} stacks (of {sizes}) on {slots} processes"
        )
    recorder, complete = Recorder(), 0
    with (
        Interrupt(root) as interrupt,
        logging_redirect_tqdm(),
        _progress_bar(jobs) as bar,
    ):
        loop = StackLoop(engine, interrupt, stacks)
        try:
            for job in jobs:
                if not interrupt.requested:
                    start_runs(job, sweep)
            for stack in stacks:
                stack.assign_runs(members, sweep)
            for done in loop.finished_stacks():
                for stack in done:
                    recorder.waiting.append(stack)
                    complete += _collect(stack, members)
                    if bar.disable and len(jobs) > 1:
                        log.info(f"{complete}/{len(jobs)} runs done")
                recorder.update(loop.training.values())
                if bar.disable:
                    continue
                trained = sum(len(job.results) * job.settings.training.epochs for job in jobs)
                for stack in loop.training.values():
                    trained += stack.directory.epoch() * len(stack.directory.members)
                bar.n = min(trained, bar.total)
                bar.set_description_str(f"{complete}/{len(jobs)} runs")
        except BaseException:
            interrupt.request()
            loop.cancel()
            wait(loop.training)  # until the workers have seen the file `stop`
            raise
        finally:
            recorder.release()
    if interrupt.requested:
        raise KeyboardInterrupt


def _progress_bar(jobs: Sequence[Job]) -> Any:
    """Return a bar for the epochs of all members, which is shown only in a terminal."""
    return tqdm(
        total=sum(len(job.members) * job.settings.training.epochs for job in jobs),
        disable=None if jobs[0].settings.trainer.progress else True,
        desc=f"0/{len(jobs)} runs",
        leave=False,
        smoothing=0.05,
        bar_format="{desc} {bar} {percentage:3.0f} % · {elapsed} gone, {remaining} to go",
    )


def _collect(stack: Stack, jobs: Mapping[str, Job]) -> int:
    """Copy the results of a stack to its jobs; return the number of jobs that are now complete.

    ``jobs`` has the jobs by fingerprint of their members.
    """
    complete = 0
    for fingerprint, result in zip(stack.directory.fingerprints, stack.results, strict=True):
        job = jobs.get(fingerprint)
        if job is None:  # the member is finished and was trained only to resume its stack
            continue
        job.results[fingerprint] = result
        if not job.pending:
            complete += 1
            if member := job.failed_member:
                word = "stopped" if member.killed else "FAILED"
                log.error(f"{word} {job.label}: {member.failure.splitlines()[-1]}")
    return complete
