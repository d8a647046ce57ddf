"""Train the jobs of a command: a single run, or a sweep with its parent run."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bikefit.comparison.result import assign_run_verdict, compare
from bikefit.comparison.tables import print_ranking, ranking_note
from bikefit.comparison.verdicts import read_thresholds
from bikefit.config import ConfigError, Settings, describe
from bikefit.data.files import write_json
from bikefit.errors import BikefitError
from bikefit.sweeps.engines import connect
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.recording import CHECKPOINTS, record_pending_results
from bikefit.sweeps.run import train
from bikefit.sweeps.stacks import count_slots
from bikefit.tracking import views, writing
from bikefit.tracking.connection import TrackingError

log = logging.getLogger(__name__)


class FailedJobsError(BikefitError):
    """Jobs of a sweep have failed; all others are trained and recorded."""


def run_single(settings: Settings, command: Sequence[str]) -> float:
    """Train a single run, whose overrides are ``command``, and return its validation loss.

    Raises:
        BikefitError: The run failed, or MLflow does not take its results.
    """
    check_allowed(settings, command)
    job = Job(settings, describe(settings))
    try:
        (result,) = train([job], sweep=None)
    finally:
        left = record_pending_results()
    if isinstance(result, Exception):
        raise result
    log.info(f"{job.label}: validation loss {result:.4g} (run {job.run})")
    _check_recorded(left)
    log.info(assign_run_verdict(job.run))
    return result


class OpenSweep:
    """The sweep of a command: its parent run in MLflow, to which batches of jobs are added.

    It is a context manager: at its end the runs are ranked, the ranking is printed and the parent
    run is closed, also after an exception. Without a batch nothing is recorded.

    Args:
        command: Overrides as the user typed them.
        processes: Number of worker processes; None for one per core or GPU.
        stack_size: Largest number of members in a stack; None for the default of the device.
        engine: Arguments of :func:`bikefit.sweeps.engines.connect`.

    Attributes:
        run: Id of the parent run; "" before the first batch.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int | None = None,
        stack_size: int | None = None,
        **engine: Any,
    ) -> None:
        self.command, self.processes, self.stack_size = list(command), processes, stack_size
        self.engine = {"backend": "local", **engine}
        self.run = ""
        self.record: str | None = None
        self.jobs = 0
        self.failures: list[str] = []
        self.started = time.perf_counter()

    def __enter__(self) -> OpenSweep:
        return self

    def train(self, settings: Sequence[Settings], labels: Sequence[str]) -> list[float | Exception]:
        """Train a batch of jobs, whose labels distinguish them in messages.

        Returns:
            The validation loss of each job, or the error of a job that failed.
        """
        for job_settings in settings:
            check_allowed(job_settings, self.command)
        jobs = [Job(s, label) for s, label in zip(settings, labels, strict=True)]
        with connect(**self.engine, processes=self.processes) as engine:
            if engine is None:
                count_slots(jobs, self.processes)  # raises an error if there is no GPU
            if not self.run:
                read_thresholds()  # an error in the file must appear before the training
                tracking = settings[0].tracking
                name = f"sweep {time.strftime('%Y-%m-%d %H:%M')} · {' '.join(self.command)}"
                self.run = writing.start_sweep(tracking.experiment, name[:250], self.command)
                self.record = tracking.record
            self.jobs += len(jobs)
            results = train(jobs, self.run, self.processes, self.stack_size, engine)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                self.failures.append(f"{job.label}: {str(result).splitlines()[-1]}")
        return results

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Rank the runs and close the parent run.

        Raises:
            FailedJobsError: Jobs have failed.
            TrackingError: MLflow has not taken all results.
        """
        if not self.run:
            return
        stopped = isinstance(error, KeyboardInterrupt)
        failed = bool(self.failures or error) and not stopped
        try:
            self._finish("FAILED" if failed else "KILLED" if stopped else "FINISHED")
        except (BikefitError, OSError) as failure:
            if error is None:
                raise
            log.error(str(failure))
        if error is None and self.record:
            write_json(Path(self.record), {"sweep": self.run, "runs": self.jobs})
        if error is None and self.failures:
            raise FailedJobsError(f"{len(self.failures)} of {self.jobs} jobs failed")

    def _finish(self, status: str) -> None:
        _check_recorded(record_pending_results())
        ranking = compare(self.run).ranking
        print_ranking(ranking)
        links = [f"[{name}]({link})" for name, link in views.view_links(self.run).items()]
        note = f"{ranking_note(ranking)}\n\nViews: {', '.join(links)}"
        counts = {"runs": float(self.jobs), "runs.failed": float(len(self.failures))}
        writing.finish_sweep(self.run, note, counts, status)
        seconds = time.perf_counter() - self.started
        log.info(f"{self.jobs} runs in {seconds:.1f} s under sweep {self.run}; see `make ui`")
        for name, link in views.view_links(self.run, views.pages()).items():
            log.info(f"{name}: {link}")
        for failure in self.failures:
            log.error(f"failed: {failure}")


def check_allowed(settings: Settings, command: Sequence[str]) -> None:
    """Check that packages of layers are allowed on the command line.

    A configuration file, which may come from someone else, must not choose what code runs.

    Raises:
        ConfigError: The settings allow packages that the command does not allow.
    """
    words = [word.lstrip("+") for word in command]
    if settings.network.allow and not any(word.startswith("network.allow=") for word in words):
        packages = ",".join(settings.network.allow)
        raise ConfigError(
            f"network.allow = [{packages}]: a file cannot allow packages; if you trust them, write "
            f"network.allow=[{packages}] on the command line"
        )


def _check_recorded(left: int) -> None:
    """Raise an error if results are left that MLflow has not taken."""
    if left:
        raise TrackingError(
            f"{left} results are kept in {CHECKPOINTS}/: `python -m bikefit.send` records them "
            "when MLflow is available again"
        )
