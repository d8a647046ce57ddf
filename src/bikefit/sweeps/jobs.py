"""From jobs to finished runs: members, stacks, records.

Training happens in worker processes (or here, if one process is asked for); everything that is said
to MLflow is said by this process, so that one writer meets the store.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bikefit.comparison.runs import configuration_labels
from bikefit.config import Settings, configuration_id, describe, network_label
from bikefit.data.table import read_table
from bikefit.errors import BikefitError
from bikefit.sweeps import cluster, processes
from bikefit.sweeps.cluster import Engine
from bikefit.sweeps.fingerprints import family, fingerprint
from bikefit.sweeps.live import Live
from bikefit.sweeps.processes import Board, Interrupt
from bikefit.sweeps.resuming import CHECKPOINTS, Kept, left_behind
from bikefit.tracking import outbox, reading, writing
from bikefit.tracking.reading import Finished
from bikefit.training.devices import gpus
from bikefit.training.epochs import Folders
from bikefit.training.folds import Pool, read_pool
from bikefit.training.members import Failure, Member, MemberResult, stack_key

log = logging.getLogger(__name__)

# Members trained as one: as many as have a layer's activations of a step fit into these bytes,
# within limits. A step takes only some of them at a time, so that more cost no more each, up to
# 512 (`make bench-scaling`); fewer, of whom each bears more of Python's share, do. More than
# these gain nothing, and leave cores without work at the end of a sweep.
ACTIVATIONS = 2**22
FEWEST, MOST = 4, 128
ON_GPU = 512  # a GPU wants large products; no GPU was at hand to measure how large


class MemberError(BikefitError):
    """A member without a result, with the reason."""


@dataclass
class Job:
    """One config of a sweep, or the one of a plain run.

    Args:
        settings: checked values of the config.
        label: what tells it from the others, for messages.
        configuration: all that it shares with the jobs of other seeds, in words.
        run: id of its MLflow run, once it has one.
        results: of its members by their number, as far as they are known.
    """

    settings: Settings
    label: str
    configuration: str = ""
    run: str = ""
    results: dict[int, MemberResult | Failure | Finished] = field(default_factory=dict)
    fold_runs: list[str] = field(default_factory=list)
    alone: bool = False

    @cached_property
    def data_version(self) -> str:
        """The version of its table."""
        return read_table(self.settings.data.path).data_version

    @property
    def pool(self) -> Pool:
        """The rows of its table."""
        return read_pool(self.settings.data.path)

    @property
    def crossed(self) -> bool:
        """Whether it is cross-validated: one member a fold."""
        return self.settings.validation.name != "holdout"

    def members(self) -> list[Member]:
        """List its members: one, or one for each fold."""
        folds = range(self.settings.validation.folds) if self.crossed else [None]
        version = self.data_version
        return [Member(self.settings, fold, self.fingerprint(fold), version) for fold in folds]

    def fingerprint(self, fold: int | None = None) -> str:
        """Say what determines its result, or that of one of its folds."""
        return fingerprint(self.settings, self.data_version, fold)

    def complete(self) -> bool:
        """Say whether every member has come back."""
        return len(self.results) == len(self.members())


@dataclass(frozen=True)
class Task:
    """A member on its way: which job it belongs to and which of its members it is."""

    job: int
    index: int
    member: Member
    alone: bool = False  # its network cannot share a stack


def train(
    jobs: Sequence[Job], sweep: str | None, processes: int | None = None,
    stack_size: int | None = None, engine: Engine | None = None,
) -> list[float | Exception]:  # fmt: skip
    """Train all members of all jobs and record each as an MLflow run.

    What has a finished run already, in this sweep or an earlier one, is not trained again.

    Args:
        jobs: in the order of the results.
        sweep: id of the parent run, or None for a run that stands alone.
        processes: worker processes; None for one a core, or one a GPU.
        stack_size: most members in a stack; None for what suits caches or a GPU.
        engine: trains the stacks elsewhere; None for processes of this machine.

    Returns:
        For each job its validation loss at the selected epoch (mean over folds), or what failed.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was done until then is recorded.
    """
    _check_networks(jobs)
    _name(jobs)
    marks = [job.fingerprint() for job in jobs]
    first: dict[str, Job] = {}
    for mark, job in zip(marks, jobs, strict=True):
        first.setdefault(mark, job)
    done: dict[str, float | Exception] = {
        mark: finished.metrics["best/val/loss"] for mark, finished in _reuse(first, sweep).items()
    }
    fresh = {mark: job for mark, job in first.items() if mark not in done}
    trained = _train(list(fresh.values()), sweep, processes, stack_size, engine)
    done |= zip(fresh, trained, strict=True)
    for mark, job in zip(marks, jobs, strict=True):
        job.run = first[mark].run
    return [done[mark] for mark in marks]


def _name(jobs: Sequence[Job]) -> None:
    """Name configurations as the ranking will, as far as these jobs are all of its runs."""
    if not jobs:
        return
    runs = [
        {
            **reading.parse_parameters(writing.parameters(job.settings)),
            "tags.configuration.id": configuration_id(job.settings),
            "tags.network.label": network_label(job.settings.network),
        }
        for job in jobs
    ]
    for job, name in zip(jobs, configuration_labels(pd.DataFrame(runs)), strict=True):
        job.configuration = name


def _check_networks(jobs: Sequence[Job]) -> None:
    """Build the networks that users wrote as lists of layers: an error stops before training."""
    written = [job for job in jobs if job.settings.network.layers is not None]
    if not written:
        return
    from bikefit.training.strengths import check_networks

    columns = [job.pool.features.shape[1] for job in written]
    reasons = check_networks([job.settings for job in written], columns)
    for job, why in zip(written, reasons, strict=True):
        job.alone = why is not None
        if why is not None and len(jobs) > 1:
            log.info(f"trains alone, since it cannot be stacked: {job.label} ({why})")


def _reuse(jobs: dict[str, Job], sweep: str | None) -> dict[str, Finished]:
    """Find the jobs, by fingerprint, that have a finished run, and let the sweep refer to it."""
    outbox.send_unsent()  # of a sweep that was killed before it could send
    dead = writing.close_abandoned_runs()
    if dead:
        log.info(f"{dead} runs of processes that are gone are closed as killed")
    known: dict[str, Finished] = {}
    for version in {job.data_version for job in jobs.values()}:
        known |= reading.find_finished(family(version))
    found = {
        mark: known[mark] for mark, job in jobs.items() if mark in known and not job.settings.rerun
    }
    for mark, finished in found.items():
        jobs[mark].run = finished.run
    for mark, job in jobs.items():
        if job.crossed and mark not in found and not job.settings.rerun:
            marks = {member.fold or 0: job.fingerprint(member.fold) for member in job.members()}
            job.results |= {i: known[m] for i, m in marks.items() if m in known}
    if found:
        log.info(
            f"{len(found)} of {len(jobs)} runs are finished already and not trained again "
            "(rerun=true trains them)"
        )
        if sweep is not None:
            writing.add_reused_runs(sweep, [finished.run for finished in found.values()])
    return found


def _train(
    jobs: Sequence[Job], sweep: str | None, count: int | None, stack_size: int | None,
    engine: Engine | None,
) -> list[float | Exception]:  # fmt: skip
    """Train the jobs, whose members may be known in part, and record them as they are done."""
    tasks = [
        Task(j, i, member, job.alone)
        for j, job in enumerate(jobs)
        for i, member in enumerate(job.members())
        if i not in job.results
    ]
    slots = engine.slots if engine else _slots(jobs, count)
    root = CHECKPOINTS.absolute()
    stacks = _stacks(tasks, slots or 1, stack_size, root)
    kept = Kept(root, [[task.member.fingerprint for task in stack] for stack in stacks])
    _announce(stacks, jobs, slots)
    done: list[float | Exception] = [MemberError("not trained")] * len(jobs)
    board = Board(len(stacks))
    shown = bool(jobs) and jobs[0].settings.trainer.progress
    live = Live(root, engine.drain) if engine else Live(root)
    folders = Folders(root, live.folder)
    with (
        closing(board),
        Interrupt(board),
        live,
        _Bar(tasks, len(jobs), board, live, enabled=shown) as bar,
    ):
        for job in jobs:
            if not board.stopping():
                _start_runs(job, sweep)
                live.follow(_runs(job))
        members = [[task.member for task in stack] for stack in stacks]
        finished = (
            cluster.run(members, engine, board, folders)
            if engine
            else processes.run(members, slots or 1, board, folders)
        )
        for j in [j for j, job in enumerate(jobs) if job.complete()]:  # all folds known
            done[j] = _record(jobs[j], live)
            bar.finished(jobs[j])
        for index, results in finished:
            for task, result in zip(stacks[index], results, strict=True):
                jobs[task.job].results[task.index] = result
            for j in dict.fromkeys(task.job for task in stacks[index]):
                if jobs[j].complete():
                    done[j] = _record(jobs[j], live)
                    kept.recorded(_trained(jobs[j]))
                    bar.finished(jobs[j])
        stopped = board.stopping()
    kept.clear()
    if stopped:
        raise KeyboardInterrupt
    return done


def _stacks(
    tasks: Sequence[Task], processes: int, stack_size: int | None, root: Path
) -> list[list[Task]]:
    """Take stacks that were left behind as they were, and make stacks of all other members."""
    new = {task.member.fingerprint: task for task in tasks}
    found = left_behind(root, new.keys(), stack_size)
    old = [[new.pop(mark) for mark in marks] for marks in found]
    return sorted([*old, *make_stacks(list(new.values()), processes, stack_size)], key=_cost)[::-1]


def _trained(job: Job) -> list[str]:
    """List the fingerprints of the members that came to their end."""
    return [
        member.fingerprint
        for i, member in enumerate(job.members())
        if (failure := _failure(job.results[i])) is None
        or (isinstance(job.results[i], MemberResult) and not failure.killed)
    ]


def make_stacks(
    tasks: Sequence[Task], processes: int, stack_size: int | None = None
) -> list[list[Task]]:
    """Group members that can train as one, and cut groups that are more than a process's share.

    Members that share seed and fold stay together where that is possible: they read the same
    rows and the same noise, which then is fetched once.
    """
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        own = f" {task.job} {task.index}" if task.alone else ""
        groups.setdefault(_stack_key(task) + own, []).append(task)
    stacks = []
    total = sum(map(_cost, groups.values()))
    for group in groups.values():
        group.sort(key=lambda t: (t.member.settings.seed, t.member.fold or 0, t.job))
        size = stack_size or _members_at_once(group[0].member.settings)
        shares = -(-_cost(group) * processes // total)
        count = min(len(group), max(shares, -(-len(group) // size)))
        stacks += [list(part) for part in np.array_split(np.array(group, dtype=object), count)]
    return sorted(stacks, key=_cost, reverse=True)  # the longest first: processes end together


def _stack_key(task: Task) -> str:
    return stack_key(task.member, read_pool(task.member.settings.data.path))


def _slots(jobs: Sequence[Job], count: int | None) -> int:
    """Return how many stacks this machine trains at once: one a core, or one a GPU."""
    found = [gpus(a) for a in {job.settings.trainer.accelerator for job in jobs}]
    return count or min(found, default=0) or joblib.cpu_count()


def _members_at_once(settings: Settings) -> int:
    """Return how many members to train as one."""
    accelerator = settings.trainer.accelerator
    if accelerator == "gpu" or gpus(accelerator):  # the first may be on other machines than this
        return ON_GPU
    activations = 4 * settings.training.batch_size * max(settings.network.widths)
    return min(MOST, max(FEWEST, ACTIVATIONS // activations))


def _cost(stack: Sequence[Task]) -> int:
    settings = stack[0].member.settings
    products = sum(a * b for a, b in pairwise((64, *settings.network.widths)))
    return products * settings.training.epochs * len(stack)


def _announce(stacks: Sequence[Sequence[Task]], jobs: Sequence[Job], count: int | None) -> None:
    members = sum(map(len, stacks))
    if members > 1:
        sizes = ", ".join(str(len(stack)) for stack in stacks)
        where = f" on {min(count, len(stacks))} processes" if count else ""
        log.info(f"{members} members in {len(stacks)} stacks (of {sizes}){where}")
    keys = [json.loads(_stack_key(stack[0])) for stack in stacks]
    for stack, key in zip(stacks, keys, strict=True):
        others = [other for other in keys if other != key]
        if len(stack) == 1 and len(others) == len(stacks) - 1 and others:
            job = jobs[stack[0].job]
            log.info(f"trains alone, since no other has its {_differs(key, others)}: {job.label}")


def _differs(key: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Name what keeps a member from the stack that it has most in common with."""
    differing = [tuple(name for name in key if key[name] != other[name]) for other in others]
    return " and ".join(sorted(differing, key=len)[0])


def _start_runs(job: Job, sweep: str | None) -> None:
    version = job.data_version
    job.run = writing.start_job(job.settings, sweep, version, job.fingerprint(), job.configuration)
    if not job.crossed:
        return
    known = {i: r.run for i, r in job.results.items() if isinstance(r, Finished)}
    writing.add_reused_runs(job.run, list(known.values()))
    job.fold_runs = [
        known.get(fold)
        or writing.start_fold(job.settings, job.run, version, fold, job.fingerprint(fold))
        for fold in range(job.settings.validation.folds)
    ]


def _runs(job: Job) -> dict[str, str]:
    """Map the fingerprints of the members that are to be trained to the ids of their runs."""
    return {
        member.fingerprint: run
        for i, (member, run) in enumerate(
            zip(job.members(), job.fold_runs or [job.run], strict=True)
        )
        if i not in job.results
    }


def _record(job: Job, live: Live) -> float | Exception:
    """Write what came out of a job to its runs; return its validation loss or what failed."""
    if not job.run:
        return MemberError("stopped before it began")
    results = [job.results[i] for i in range(len(job.results))]
    runs = job.fold_runs or [job.run]
    for run, member, result in zip(runs, job.members(), results, strict=True):
        sent = live.leave(member.fingerprint)
        if isinstance(result, Failure):
            outbox.fail_run(run, result)
        elif isinstance(result, MemberResult):
            outbox.finish_member(run, result, job.settings, sent)
    failures = [failure for failure in map(_failure, results) if failure is not None]
    if failures:
        return _fail(job, failures)
    measured = [_best(result) for result in results]
    if job.crossed:
        outbox.finish_folds(job.run, measured)
    return fmean(metrics["best/val/loss"] for metrics in measured)


def _fail(job: Job, failures: Sequence[Failure]) -> MemberError:
    # A job whose members were stopped in part has failed if any of them did.
    worst = min(failures, key=lambda failure: failure.killed)
    if job.crossed:
        outbox.fail_run(job.run, worst)
    word = "stopped" if worst.killed else "FAILED"
    log.error(f"{word} {job.label}: {worst.reason.splitlines()[-1]}")
    log.debug(worst.reason)
    return MemberError(worst.reason)


def _failure(result: MemberResult | Failure | Finished) -> Failure | None:
    if isinstance(result, Failure):
        return result
    return result.failure if isinstance(result, MemberResult) else None


def _best(result: MemberResult | Failure | Finished) -> dict[str, float]:
    """Return what was measured at the selected epoch, of a member trained now or earlier."""
    if isinstance(result, MemberResult):
        return writing.best_metrics(result)
    assert isinstance(result, Finished)
    return result.best


class _Bar:
    """How many jobs are done, and how long the rest will take; the losses of a run alone."""

    def __init__(
        self, tasks: Sequence[Task], jobs: int, board: Board, live: Live, enabled: bool
    ) -> None:
        self.total = sum(task.member.settings.training.epochs for task in tasks)
        self.jobs, self.board, self.live, self.enabled = jobs, board, live, enabled
        self.jobs_done = 0

    def __enter__(self) -> _Bar:
        self.bar = tqdm(
            total=self.total, disable=None if self.enabled else True, unit="epoch",
            desc=f"0/{self.jobs} runs", leave=False, smoothing=0.05,
            bar_format="{desc} {bar} {percentage:3.0f} % · {elapsed} gone, {remaining} to go",
        )  # fmt: skip
        # what is said meanwhile stands on lines of its own
        self.apart: AbstractContextManager[None] = (
            nullcontext() if self.bar.disable else logging_redirect_tqdm()
        )
        self.apart.__enter__()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.bar.close()
        self.apart.__exit__(None, None, None)

    def finished(self, job: Job) -> None:
        """Count a job that is recorded."""
        if self.board.stopping():
            return
        self.jobs_done += 1
        self.bar.set_description_str(f"{self.jobs_done}/{self.jobs} runs")
        if self.bar.disable and self.jobs_done % max(1, self.jobs // 10) == 0 and self.jobs > 1:
            log.info(f"{self.jobs_done}/{self.jobs} runs done ({describe(job.settings)})")

    def _watch(self) -> None:
        while not self.stop.wait(0.2):
            # of stacks on other machines the board knows when they have come back
            self.bar.n = min(max(self.board.epochs(), self.live.epochs()), self.total)
            if self.jobs == 1 and (last := self.live.last()):
                epoch, train, val = last
                self.bar.set_description_str(
                    f"epoch {epoch}/{self.total} · train loss {train:.4g} · "
                    f"validation loss {val:.4g}",
                    refresh=False,
                )
            self.bar.refresh()
