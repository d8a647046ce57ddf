"""From jobs to finished runs: members, stacks, processes, records.

Training happens in worker processes (or here, when there is one stack); everything that is said
to MLflow is said by this process, so that one writer meets the store.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from tqdm import tqdm

from bikefit import tracking
from bikefit.config import Settings, describe
from bikefit.data.table import read_table
from bikefit.training.fit import fit_stack
from bikefit.training.members import Member, MemberResult, stack_key
from bikefit.training.strengths import check_networks

log = logging.getLogger(__name__)

STACK_SIZE = 12  # members trained as one


class MemberError(RuntimeError):
    """A member without a result, with the reason."""


@dataclass
class Job:
    """One config of a sweep, or the one of a plain run.

    Args:
        settings: checked values of the config.
        label: what tells it from the others, for messages.
        run: id of its MLflow run, once it has one.
    """

    settings: Settings
    label: str
    run: str = ""
    results: dict[int, MemberResult | str] = field(default_factory=dict)
    fold_runs: list[str] = field(default_factory=list)

    def members(self) -> list[Member]:
        """List its members: one, or one for each fold."""
        validation = self.settings.validation
        if validation.name == "holdout":
            return [Member(self.settings)]
        return [Member(self.settings, fold) for fold in range(validation.folds)]

    def complete(self) -> bool:
        """Say whether every member has come back."""
        return len(self.results) == len(self.members())


@dataclass(frozen=True)
class Task:
    """A member on its way: which job it belongs to and which of its members it is."""

    job: int
    index: int
    member: Member


def train(
    jobs: Sequence[Job], sweep: str | None, processes: int | None = None,
    stack_size: int | None = None,
) -> list[float | Exception]:  # fmt: skip
    """Train all members of all jobs and record each as an MLflow run.

    Args:
        jobs: in the order of the results.
        sweep: id of the parent run, or None for a run that stands alone.
        processes: worker processes; None for one a core.
        stack_size: most members in a stack; None for what was measured to suit caches.

    Returns:
        For each job its validation loss at the selected epoch (mean over folds), or what failed.
    """
    check_networks([job.settings for job in jobs])
    tasks = [Task(j, i, m) for j, job in enumerate(jobs) for i, m in enumerate(job.members())]
    processes = processes or joblib.cpu_count()
    stacks = make_stacks(tasks, processes, stack_size or STACK_SIZE)
    _announce(stacks, processes)
    done: list[float | Exception] = [MemberError("not trained")] * len(jobs)
    with _Bar(tasks, enabled=jobs[0].settings.trainer.progress) as bar:
        finished = _run(stacks, processes, bar)  # starts the workers
        for job in jobs:
            _start_runs(job, sweep)
        for stack, results in finished:
            for task, result in zip(stack, results, strict=True):
                jobs[task.job].results[task.index] = result
            for j in dict.fromkeys(task.job for task in stack):
                if jobs[j].complete():
                    done[j] = _record(jobs[j])
                    bar.finished(jobs[j])
    return done


def make_stacks(tasks: Sequence[Task], processes: int, stack_size: int) -> list[list[Task]]:
    """Group members that can train as one, and cut the groups so that all processes have work.

    Members that share seed and fold stay together where that is possible: they read the same
    rows and the same noise, which then is fetched once.
    """
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(stack_key(task.member), []).append(task)
    stacks = []
    for group in groups.values():
        group.sort(key=lambda t: (t.member.settings.seed, t.member.fold or 0, t.job))
        share = -(-len(group) // processes) if len(groups) < processes else len(group)
        count = -(-len(group) // max(1, min(stack_size, share)))
        stacks += [list(part) for part in np.array_split(np.array(group, dtype=object), count)]
    return sorted(stacks, key=_cost, reverse=True)  # the longest first: processes end together


def _cost(stack: Sequence[Task]) -> int:
    settings = stack[0].member.settings
    widths = (64, *settings.network.hidden, 1)
    products = sum(a * b for a, b in pairwise(widths))
    return products * settings.training.epochs * len(stack)


def _announce(stacks: Sequence[Sequence[Task]], processes: int) -> None:
    members = sum(map(len, stacks))
    if members > 1:
        sizes = ", ".join(str(len(stack)) for stack in stacks)
        log.info(
            f"{members} members in {len(stacks)} stacks (of {sizes}) on "
            f"{min(processes, len(stacks))} processes"
        )


def _run(
    stacks: Sequence[list[Task]], processes: int, bar: _Bar
) -> Iterator[tuple[list[Task], Sequence[MemberResult | str]]]:
    """Train the stacks and give each with its results as it is done."""
    if len(stacks) == 1 or processes == 1:
        return ((stack, _fit(i, stack, bar.add)[1]) for i, stack in enumerate(stacks))
    # joblib renews a worker that has grown by 300 MB; its stacks go on elsewhere, nothing is lost.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
    parallel = joblib.Parallel(
        n_jobs=min(processes, len(stacks)), return_as="generator_unordered", batch_size=1,
        pre_dispatch="all",
    )  # fmt: skip
    found = parallel(
        joblib.delayed(_fit_in_worker)(i, stack, bar.board) for i, stack in enumerate(stacks)
    )
    return ((stacks[i], results) for i, results in found)


def _fit_in_worker(
    index: int, stack: list[Task], board: Path
) -> tuple[int, Sequence[MemberResult | str]]:
    counter = np.memmap(board, dtype=np.int64, mode="r+")

    def report(epochs: int) -> None:
        counter[index] += epochs

    return _fit(index, stack, report)


def _fit(
    index: int, stack: list[Task], report: Callable[[int], Any]
) -> tuple[int, Sequence[MemberResult | str]]:
    """Fit one stack; if it raises, try its members one by one to find whose fault it is."""
    try:
        return index, fit_stack([task.member for task in stack], report)
    except Exception:
        if len(stack) == 1:
            return index, [traceback.format_exc()]
    return index, [_fit(0, [task], report)[1][0] for task in stack]


def _start_runs(job: Job, sweep: str | None) -> None:
    version = data_version(job.settings)
    job.run = tracking.start_job(job.settings, sweep, version)
    if job.settings.validation.name == "kfold":
        job.fold_runs = [
            tracking.start_fold(job.settings, job.run, version, fold)
            for fold in range(job.settings.validation.folds)
        ]


def data_version(settings: Settings) -> str:
    """Return the version of the table that the settings name."""
    return read_table(settings.data.path).data_version


def _record(job: Job) -> float | Exception:
    """Write what came out of a job to its runs; return its validation loss or what failed."""
    results = [job.results[i] for i in range(len(job.results))]
    runs = job.fold_runs or [job.run]
    for run, result in zip(runs, results, strict=True):
        if isinstance(result, str):
            tracking.fail(run, result)
        else:
            tracking.finish_member(run, result, job.settings)
    trained = [result for result in results if not isinstance(result, str)]
    errors = [result for result in results if isinstance(result, str)]
    errors += [result.failure for result in trained if result.failure is not None]
    if errors:
        if job.fold_runs:
            tracking.fail(job.run, errors[0])
        log.error(f"FAILED {job.label}: {errors[0].strip().splitlines()[-1]}")
        log.debug(errors[0])
        return MemberError(errors[0].strip())
    if job.fold_runs:
        tracking.finish_folds(job.run, trained)
    return float(np.mean([r.metrics["val/loss"][r.selected - 1] for r in trained]))


class _Bar:
    """How many jobs are done, and how long the rest will take.

    Workers count member-epochs in a small shared file (the board); a thread looks at it.
    """

    def __init__(self, tasks: Sequence[Task], enabled: bool) -> None:
        self.total = sum(task.member.settings.training.epochs for task in tasks)
        self.jobs = len({task.job for task in tasks})
        self.enabled = enabled
        self.local = 0
        self.jobs_done = 0

    def __enter__(self) -> _Bar:
        descriptor, name = tempfile.mkstemp(prefix="bikefit-progress-")
        os.close(descriptor)
        self.board = Path(name)
        self.counter = np.memmap(self.board, dtype=np.int64, mode="w+", shape=(self.total + 1,))
        self.bar = tqdm(
            total=self.total, disable=None if self.enabled else True, unit="epoch",
            desc=f"0/{self.jobs} runs", leave=False, smoothing=0.05,
            bar_format="{desc} {bar} {percentage:3.0f} % · {elapsed} gone, {remaining} to go",
        )  # fmt: skip
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.bar.close()
        self.board.unlink(missing_ok=True)

    def add(self, epochs: int) -> None:
        """Count epochs trained in this process."""
        self.local += epochs

    def finished(self, job: Job) -> None:
        """Count a job that is recorded."""
        self.jobs_done += 1
        self.bar.set_description_str(f"{self.jobs_done}/{self.jobs} runs")
        if self.bar.disable and self.jobs_done % max(1, self.jobs // 10) == 0 and self.jobs > 1:
            log.info(f"{self.jobs_done}/{self.jobs} runs done ({describe(job.settings)})")

    def _watch(self) -> None:
        while not self.stop.wait(0.2):
            done = int(self.counter.sum()) + self.local
            self.bar.n = min(done, self.total)
            self.bar.refresh()
