"""Training the jobs of a command: reuse, stacks on an engine, results."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import nullcontext
from typing import Any

import pandas as pd
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bikefit.comparison.runs import run_table
from bikefit.config import configuration_id, network_label
from bikefit.data.table import read_table
from bikefit.sweeps.engines import Engine, local_engine
from bikefit.sweeps.fingerprints import family
from bikefit.sweeps.interrupt import Interrupt
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.recording import (
    CHECKPOINTS,
    Recorder,
    Stack,
    record_pending_results,
    start_runs,
)
from bikefit.sweeps.stacks import count_slots, plan_stacks
from bikefit.tracking import reading, writing
from bikefit.tracking.reading import Finished
from bikefit.training.members import STOPPED, MemberResult
from bikefit.training.worker import StackError, run_stack

log = logging.getLogger(__name__)
POLL = 0.5  # s between two looks at checkpoints
LOST = (
    "its worker was lost: {error}; a smaller network, training.batch_size or table needs less "
    "memory; a script that starts sweeps must do so below `if __name__ == '__main__':`"
)


class StackLoop:
    """Trains stacks on an engine.

    A stack that raises or is lost is submitted again once, and then each member alone. A member
    that fails alone has failed.
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

    def results(self) -> Iterator[list[Stack]]:
        """Yield stacks that have their results, and an empty list now and then."""
        while self.training:
            if self.interrupt.requested:
                self.cancel()
            done, _ = wait(self.training, POLL, FIRST_COMPLETED)
            yield [stack for future in done for stack in self._finish(future)]

    def cancel(self) -> None:
        """Cancel stacks that have not begun, and on other machines those in training."""
        for future in self.training:
            future.cancel()

    def _finish(self, future: Future[list[MemberResult]]) -> list[Stack]:
        stack = self.training.pop(future)
        directory, count = stack.directory, len(stack.directory.members)
        try:
            stack.results = future.result()
            if not directory.has_result and not any(r.killed for r in stack.results):
                directory.save_result(stack.results)  # trained where the folder does not exist
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
        jobs: Jobs to train.
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
        unique.setdefault(job.fingerprint, job)
    finished = _find_finished(unique, sweep)
    fresh = [job for job in unique.values() if not job.run]
    if fresh:
        _train_jobs(fresh, sweep, finished, processes, stack_size, engine)
    for job in jobs:
        job.run = unique[job.fingerprint].run
    return [unique[job.fingerprint].outcome() for job in jobs]


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
    """Give jobs and folds their finished runs; return all finished fingerprints."""
    record_pending_results()
    writing.close_abandoned_runs()
    finished: dict[str, Finished] = {}
    for version in {job.data_version for job in jobs.values()}:
        finished |= reading.find_finished(family(version))
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
    root = CHECKPOINTS.absolute()
    stacks = [Stack(d) for d in plan_stacks(jobs, slots, stack_size, root, finished)]
    members = {member.fingerprint: job for job in jobs for member in job.pending}
    if len(members) > 1:
        sizes = ", ".join(str(len(stack.directory.members)) for stack in stacks)
        where = f"{min(slots, len(stacks))} processes"
        log.info(f"{len(members)} members in {len(stacks)} stacks (of {sizes}) on {where}")
    recorder, complete = Recorder(), 0
    with (
        Interrupt(root) as interrupt,
        nullcontext(engine) if engine else local_engine(slots) as chosen,
        logging_redirect_tqdm(),
        _progress_bar(jobs) as bar,
    ):
        loop = StackLoop(chosen, interrupt, stacks)
        try:
            for job in jobs:
                if not interrupt.requested:
                    start_runs(job, sweep)
            for stack in stacks:
                stack.assign_runs(members, sweep)
            for done in loop.results():
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
            raise
        finally:
            recorder.release()
    if interrupt.requested:
        raise KeyboardInterrupt


def _progress_bar(jobs: Sequence[Job]) -> Any:
    """Return a bar that counts the epochs of all members and is shown only in a terminal."""
    return tqdm(
        total=sum(len(job.members) * job.settings.training.epochs for job in jobs),
        disable=None if jobs[0].settings.trainer.progress else True,
        desc=f"0/{len(jobs)} runs",
        leave=False,
        smoothing=0.05,
        bar_format="{desc} {bar} {percentage:3.0f} % · {elapsed} gone, {remaining} to go",
    )


def _collect(stack: Stack, jobs: Mapping[str, Job]) -> int:
    """Give jobs, by fingerprint of their members, the results; return how many became complete."""
    complete = 0
    for fingerprint, result in zip(stack.directory.fingerprints, stack.results, strict=True):
        job = jobs.get(fingerprint)
        if job is None:  # its result is finished, and only the stack needs it
            continue
        job.results[fingerprint] = result
        if not job.pending:
            complete += 1
            if member := job.failed_member:
                word = "stopped" if member.killed else "FAILED"
                log.error(f"{word} {job.label}: {member.failure.splitlines()[-1]}")
    return complete
