"""One command of a user: a plain run, or a sweep with its parent run and its last word."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bikefit.comparison.conclude import conclude, conclude_run
from bikefit.comparison.ranking import winner_note
from bikefit.comparison.terminal import print_ranking
from bikefit.comparison.verdicts import read_thresholds
from bikefit.config import Settings, describe
from bikefit.data.files import write_json
from bikefit.sweeps.cluster import Engine
from bikefit.sweeps.jobs import Job, train
from bikefit.tracking import outbox, reading, views, writing
from bikefit.tracking.outbox import UNSENT
from bikefit.training.devices import gpus

log = logging.getLogger(__name__)


@dataclass
class _Open:
    """The sweep that is under way in this process.

    Args:
        run: its parent run.
        started: when, by the process's clock.
        record: where it is noted once it is whole.
        jobs: there were.
        failures: of jobs, in words.
        ended: how its last batch ended; until one has come back, as if it never would.
    """

    run: str
    started: float
    record: Path | None
    jobs: int = 0
    failures: list[str] = field(default_factory=list)
    ended: Literal["FINISHED", "FAILED", "KILLED"] = "FAILED"

    def status(self) -> str:
        """How the parent run ends."""
        return "FAILED" if self.ended == "FINISHED" and self.failures else self.ended

    def counts(self) -> dict[str, float]:
        """How many jobs there were, and how many failed."""
        return {"runs": float(self.jobs), "runs.failed": float(len(self.failures))}


_open: _Open | None = None


def run_one(settings: Settings) -> float:
    """Train one job on its own and return its validation loss.

    Raises:
        RuntimeError: the job failed.
    """
    job = Job(settings, describe(settings))
    (result,) = train([job], sweep=None)
    if isinstance(result, Exception):
        raise result
    log.info(f"{job.label}: validation loss {result:.4g} (run {job.run})")
    if not outbox.unsent():
        log.info(conclude_run(job.run))
    return result


def run_sweep(
    settings: Sequence[Settings], labels: Sequence[str], command: Sequence[str],
    processes: int | None = None, stack_size: int | None = None, engine: Engine | None = None,
) -> list[float | Exception]:  # fmt: skip
    """Train a batch of jobs below the parent run of this command.

    Args:
        settings: of each job.
        labels: what tells the jobs apart (their overrides).
        command: the overrides as the user typed them.
        processes: worker processes, None for one a core, or one a GPU.
        stack_size: most members in a stack, None for what suits caches or a GPU.
        engine: trains the stacks elsewhere, None for processes of this machine.
    """
    global _open  # Hydra calls once a batch; the sweep lasts for all of them
    if engine is None:
        for accelerator in {one.trainer.accelerator for one in settings}:
            gpus(accelerator)  # where there is none, no run is begun
    if _open is None:
        read_thresholds()  # a wrong file must not be found out after the training
        name = f"sweep {time.strftime('%Y-%m-%d %H:%M')} · {' '.join(command)}"
        run = writing.start_sweep(settings[0].tracking.experiment, name[:250], command)
        record = settings[0].tracking.record
        _open = _Open(run, time.perf_counter(), Path(record) if record else None)
    jobs = [Job(s, label) for s, label in zip(settings, labels, strict=True)]
    _open.ended = "FAILED"
    try:
        results = train(jobs, _open.run, processes, stack_size, engine)
    except KeyboardInterrupt:
        _open.jobs += len(jobs)
        _open.ended = "KILLED"
        raise
    _open.jobs += len(jobs)
    _open.failures += _failures(jobs, results)
    _open.ended = "FINISHED"
    return results


def _failures(jobs: Sequence[Job], results: Sequence[float | Exception]) -> list[str]:
    return [
        f"{job.label}: {str(result).splitlines()[-1]}"
        for job, result in zip(jobs, results, strict=True)
        if isinstance(result, Exception)
    ]


def open_sweep() -> str:
    """Return the run id of the sweep under way."""
    assert _open is not None
    return _open.run


def close_sweep() -> int:
    """Print who won and who failed, write it to the parent run and close that.

    Without a sweep, see to what a plain run could not send.

    Returns:
        The exit status: 1 where a job failed or MLflow has not taken all results.
    """
    global _open
    sweep, _open = _open, None
    if outbox.send_unsent():
        if sweep is not None:
            outbox.keep(sweep.run, sweep.counts(), sweep.status())
        log.error(
            f"{len(outbox.unsent())} runs are kept in {UNSENT}/: "
            "`python -m bikefit.send` sends them once the store takes them"
        )
        return 1
    if sweep is None:
        return 0
    _conclude(sweep)
    seconds = time.perf_counter() - sweep.started
    log.info(
        f"{sweep.jobs} runs in {seconds:.1f} s under sweep {sweep.run}; see them with `make ui`"
    )
    log.info(views.view_lines(sweep.run))
    for failure in sweep.failures:
        log.error(f"failed: {failure}")
    return int(sweep.status() == "FAILED")


def _conclude(sweep: _Open) -> None:
    ranking, _ = conclude(sweep.run, reading.read_runs(sweep.run))
    print_ranking(ranking)
    links = [f"[{name}]({link})" for name, link in views.view_links(sweep.run).items()]
    note = f"{winner_note(ranking)}\n\nViews: {', '.join(links)}"
    writing.finish_sweep(sweep.run, note, sweep.counts(), sweep.status())
    if sweep.record is not None and sweep.ended == "FINISHED":
        write_json(sweep.record, {"sweep": sweep.run, "runs": sweep.jobs})
