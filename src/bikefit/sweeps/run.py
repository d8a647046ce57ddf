"""Training the jobs of a command: reuse, stacks on an engine, results."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean

import pandas as pd

from bikefit.comparison.runs import run_table
from bikefit.config import configuration_id, network_label
from bikefit.data.table import read_table
from bikefit.processes import process_id
from bikefit.sweeps.engines import Engine, local_engine
from bikefit.sweeps.fingerprints import family
from bikefit.sweeps.interrupt import Interrupt
from bikefit.sweeps.jobs import Job, MemberError, Task
from bikefit.sweeps.progress import ProgressBar
from bikefit.sweeps.recording import CHECKPOINTS, Recorder, record_pending_results, start_runs
from bikefit.sweeps.stacks import count_slots, log_plan, plan_stacks
from bikefit.tracking import reading, writing
from bikefit.tracking.connection import address
from bikefit.tracking.reading import Finished
from bikefit.training.checkpoints import CheckpointDir, MemberRuns
from bikefit.training.members import STOPPED, MemberResult
from bikefit.training.worker import StackError, run_stack

log = logging.getLogger(__name__)
POLL = 0.5  # s between two looks at checkpoints
ATTEMPTS = 2  # to train a whole stack
LOST = (
    "its worker was lost: {error}; a smaller network, training.batch_size or table needs less "
    "memory; a script that starts sweeps must do so below `if __name__ == '__main__':`"
)


class Stack:
    """Members that train together.

    Args:
        root: Folder of all checkpoints.
        tasks: The members.
        attempts: How often to train it whole.
    """

    def __init__(self, root: Path, tasks: Sequence[Task], attempts: int = ATTEMPTS) -> None:
        self.tasks, self.attempts = list(tasks), attempts
        self.directory = CheckpointDir(root, [task.member for task in tasks])
        self.directory.create()
        self.runs = MemberRuns("", None, [], [])

    def assign_runs(self, sweep: str | None) -> None:
        """Write the ids of the runs of its members to its folder."""
        runs = [task.job.member_run(task.index) if task.job else None for task in self.tasks]
        jobs = [task.job.run if task.job and task.job.fold_runs else None for task in self.tasks]
        self.runs = MemberRuns(address(), sweep, runs, jobs, process_id())
        self.directory.assign_runs(self.runs)


class StackLoop:
    """Trains stacks on an engine.

    A stack that raises or is lost is submitted again once, and then each member alone. A member
    that fails alone has failed.

    Args:
        engine: Where to train.
        interrupt: Asks for the end.
        sweep: Run of the sweep, if any.
        stacks: Stacks to train.
    """

    def __init__(
        self, engine: Engine, interrupt: Interrupt, sweep: str | None, stacks: Sequence[Stack]
    ) -> None:
        self.engine, self.interrupt, self.sweep = engine, interrupt, sweep
        self.futures: dict[Future[list[MemberResult]], Stack] = {}
        for stack in stacks:
            self._submit(stack)

    def _submit(self, stack: Stack) -> None:
        members = stack.directory.members
        table = members[0].settings.data.path.absolute()
        root, stop = stack.directory.folder.parent, self.interrupt.stop
        future = self.engine.executor.submit(run_stack, members, table, root, stop)
        self.futures[future] = stack

    def results(self) -> Iterator[list[tuple[Stack, list[MemberResult]]]]:
        """Yield stacks with their results as they finish, and an empty list now and then."""
        while self.futures:
            if self.interrupt.requested:
                self.cancel()
            done, _ = wait(self.futures, POLL, FIRST_COMPLETED)
            yield [pair for future in done for pair in self._result(future)]

    def cancel(self) -> None:
        """Cancel stacks that have not begun, and on other machines those in training."""
        for future in self.futures:
            future.cancel()

    def _result(self, future: Future[list[MemberResult]]) -> list[tuple[Stack, list[MemberResult]]]:
        stack = self.futures.pop(future)
        count = len(stack.tasks)
        try:
            results = future.result()
            if not stack.directory.has_result and not any(result.killed for result in results):
                stack.directory.save_result(results)  # trained where the folder does not exist
            return [(stack, results)]
        except (CancelledError, Exception) as error:
            if self.interrupt.requested:
                return [(stack, [MemberResult(failure=STOPPED, killed=True)] * count)]
            last = (str(error) or repr(error)).splitlines()[-1]
            reason = str(error) if isinstance(error, StackError) else LOST.format(error=last)
        stack.attempts -= 1
        if stack.attempts > 0:
            log.warning(f"a stack of {count} is trained again: {last}")
            self._submit(stack)
            return []
        if count > 1:
            log.warning(f"the {count} members of a stack are trained alone: {last}")
            stack.directory.remove()
            for task in stack.tasks:
                alone = Stack(stack.directory.folder.parent, [task], attempts=1)
                alone.assign_runs(self.sweep)
                self._submit(alone)
            return []
        failed = [MemberResult(failure=reason)]
        stack.directory.save_result(failed)
        return [(stack, failed)]


def train(
    jobs: Sequence[Job],
    sweep: str | None,
    processes: int | None = None,
    stack_size: int | None = None,
    engine: Engine | None = None,
) -> list[float | Exception]:
    """Train all members of all jobs and record them in MLflow.

    Members with a finished run, in this sweep or an earlier one, are not trained again.

    Args:
        jobs: Jobs in the order of the results.
        sweep: Id of the parent run; None for a single run.
        processes: Number of worker processes; None for one per core, or one per GPU.
        stack_size: Largest number of members in a stack; None for a suitable one.
        engine: Where to train; None for processes of this machine.

    Returns:
        The validation loss of each job at the selected epoch (mean over folds), or its error.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; what was measured until then is recorded.
    """
    _check_networks(jobs)
    _name_configurations(jobs)
    unique: dict[str, Job] = {}
    for job in jobs:
        unique.setdefault(job.fingerprint(), job)
    finished = _find_finished(unique, sweep)
    fresh = [job for job in unique.values() if not job.run]
    if fresh:
        _train_jobs(fresh, sweep, finished, processes, stack_size, engine)
    for job in jobs:
        job.run = unique[job.fingerprint()].run
    return [_outcome(unique[job.fingerprint()]) for job in jobs]


def _name_configurations(jobs: Sequence[Job]) -> None:
    """Name configurations as the ranking will, if these jobs are all its runs."""
    runs = [
        {
            **reading.parse_parameters(writing.parameters(job.settings)),
            "tags.configuration.id": configuration_id(job.settings),
            "tags.network.label": network_label(job.settings.network),
        }
        for job in jobs
    ]
    if runs:
        for job, label in zip(jobs, run_table(pd.DataFrame(runs))["configuration"], strict=True):
            job.configuration = label


def _check_networks(jobs: Sequence[Job]) -> None:
    """Build each network that is a list of layers, so that an error stops before training."""
    reasons: dict[str, str | None] = {}
    for job in jobs:
        if job.settings.network.layers is None:
            continue
        from bikefit.training.strengths import stacking_error

        columns = len(read_table(job.settings.data.path).feature_names)
        network = f"{columns} {job.settings.network}"
        if network not in reasons:
            reasons[network] = stacking_error(job.settings, columns)
        job.alone = reasons[network] is not None
        if job.alone and len(jobs) > 1:
            log.info(
                f"trains alone, because it cannot be stacked: {job.label} ({reasons[network]})"
            )


def _find_finished(jobs: dict[str, Job], sweep: str | None) -> set[str]:
    """Give jobs and folds their finished runs; return all finished fingerprints.

    Args:
        jobs: Jobs by fingerprint.
        sweep: Run of the sweep that reuses them.
    """
    record_pending_results()
    abandoned = writing.close_abandoned_runs()
    if abandoned:
        log.info(f"{abandoned} runs of commands that were killed are closed")
    finished: dict[str, Finished] = {}
    for version in {job.data_version for job in jobs.values()}:
        finished |= reading.find_finished(family(version))
    reused = []
    for fingerprint, job in jobs.items():
        if job.settings.rerun:
            continue
        if run := finished.get(fingerprint):
            job.run = run.run
            job.results = {0: run}
            reused.append(run)
        elif job.cross_validated:
            folds = {i: finished.get(m.fingerprint) for i, m in enumerate(job.members)}
            job.results |= {i: fold for i, fold in folds.items() if fold}
    if reused:
        log.info(
            f"{len(reused)} of {len(jobs)} runs are finished already and not trained again "
            "(rerun=true trains them)"
        )
        if sweep is not None:
            writing.add_reused_runs(sweep, [run.run for run in reused])
    return set(finished)


def _train_jobs(
    jobs: Sequence[Job],
    sweep: str | None,
    finished: Collection[str],
    processes: int | None,
    stack_size: int | None,
    engine: Engine | None,
) -> None:
    """Train the members of jobs that have no result yet, and record them."""
    slots = engine.slots if engine else count_slots(jobs, processes)
    tasks = [
        Task(member, job, i)
        for job in jobs
        for i, member in enumerate(job.members)
        if i not in job.results
    ]
    root = CHECKPOINTS.absolute()
    planned = plan_stacks(tasks, slots, stack_size, root, finished)
    log_plan(planned, slots)
    epochs = sum(task.member.settings.training.epochs for stack in planned for task in stack)
    recorder = Recorder()
    with (
        Interrupt(root) as interrupt,
        nullcontext(engine) if engine else local_engine(slots) as chosen,
        ProgressBar(len(jobs), epochs, jobs[0].settings.trainer.progress) as bar,
    ):
        stacks = [Stack(root, stack) for stack in planned]
        loop = StackLoop(chosen, interrupt, sweep, stacks)
        try:
            for job in jobs:
                if not interrupt.requested:
                    start_runs(job, sweep)
            for stack in stacks:
                stack.assign_runs(sweep)
                recorder.follow(stack.directory, stack.runs)
            for done in loop.results():
                for stack, results in done:
                    _collect(stack, results, recorder, bar)
                recorder.update()
                bar.update(recorder)
        except BaseException:
            interrupt.request()
            loop.cancel()
            raise
        finally:
            recorder.release()
    if interrupt.requested:
        raise KeyboardInterrupt


def _collect(
    stack: Stack, results: Sequence[MemberResult], recorder: Recorder, bar: ProgressBar
) -> None:
    """Give jobs the results of a stack, and record them."""
    recorder.add(stack.directory, stack.runs, results)
    for task, result in zip(stack.tasks, results, strict=True):
        bar.epochs_done += task.member.settings.training.epochs
        if task.job:
            task.job.results[task.index] = result
    for job in dict.fromkeys(task.job for task in stack.tasks if task.job):
        if job.complete:
            bar.finish(job)
            if failed := _failed_member(job):
                word = "stopped" if failed.killed else "FAILED"
                log.error(f"{word} {job.label}: {failed.failure.splitlines()[-1]}")


def _outcome(job: Job) -> float | MemberError:
    """Return the validation loss of a job, or why it has none."""
    if failed := _failed_member(job):
        return MemberError(failed.failure)
    if not job.results:
        return MemberError("stopped before it began")
    return fmean(_val_loss(result) for result in job.results.values())


def _failed_member(job: Job) -> MemberResult | None:
    """Return a member that has failed; one that was stopped counts only if no other failed."""
    members = [r for r in job.results.values() if isinstance(r, MemberResult) and r.failure]
    return min(members, key=lambda result: result.killed, default=None)


def _val_loss(result: MemberResult | Finished) -> float:
    if isinstance(result, Finished):
        return result.metrics["best/val/loss"]
    return float(result.metrics["val/loss"][result.selected - 1])
