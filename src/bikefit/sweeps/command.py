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
from bikefit.config import ConfigError, Settings, run_name
from bikefit.data.files import check_writable, write_json
from bikefit.errors import BikefitError
from bikefit.sweeps.engines import connect, local_engine
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.recording import CHECKPOINTS, record_pending_results
from bikefit.sweeps.run import check_jobs, train_jobs
from bikefit.sweeps.stacks import count_slots
from bikefit.tracking import views, writing
from bikefit.tracking.connection import TrackingError

log = logging.getLogger(__name__)


class FailedJobsError(BikefitError):
    """Jobs of a sweep have failed; all others are trained and recorded."""


def run_single(settings: Settings, command: Sequence[str]) -> float:
    """Train a single run and return its validation loss; ``command`` has its overrides.

    Raises:
        BikefitError: The run failed, or MLflow is unavailable for its results.
    """
    check_packages(settings, command)
    job = Job(settings, run_name(settings))
    check_jobs([job])
    try:
        with local_engine(count_slots([job], None)) as engine:
            (result,) = train_jobs([job], None, engine)
    finally:
        pending = record_pending_results()
    if isinstance(result, Exception):
        raise result
    log.info(f"{job.label}: validation loss {result:.4g} (run {job.run})")
    _raise_if_pending(pending)
    log.info(assign_run_verdict(job.run))
    return result


class OpenSweep:
    """A context manager for the sweep of a command, which trains one or several batches of jobs.

    The first batch starts the parent run in MLflow. At the end, also after an exception, the runs
    are ranked, the ranking is printed and the parent run is closed.

    Args:
        command: Overrides as the user typed them.
        processes: Number of worker processes; None for one per core or GPU.
        stack_size: Largest number of members in a stack; None for the default of the device.
        engine: Arguments of :func:`bikefit.sweeps.engines.connect`.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int | None = None,
        stack_size: int | None = None,
        **engine: Any,
    ) -> None:
        self.command, self.processes, self.stack_size = list(command), processes, stack_size
        for key, value in {"processes": processes, "stack_size": stack_size}.items():
            if value is not None and value < 1:
                raise ConfigError(f"hydra.launcher.{key} = {value}: must be at least 1")
        self.engine = {"backend": "local", **engine}
        self.run = ""  # id of the parent run
        self.record: str | None = None
        self.jobs = 0
        self.failures: list[str] = []
        self.started = time.perf_counter()

    def __enter__(self) -> OpenSweep:
        return self

    def train(self, settings: Sequence[Settings], labels: Sequence[str]) -> list[float | Exception]:
        """Train a batch of jobs and return the validation loss or the error of each job.

        The labels distinguish the jobs in messages.
        """
        jobs = [Job(s, label) for s, label in zip(settings, labels, strict=True)]
        for job in jobs:
            check_packages(job.settings, self.command)
        check_jobs(jobs)  # otherwise a wrong setting would leave a sweep without runs
        local = self.engine["backend"] == "local"
        processes = count_slots(jobs, self.processes) if local else self.processes
        with connect(**self.engine, processes=processes) as engine:
            if not self.run:
                read_thresholds()  # an error in the file must appear before the training
                tracking = settings[0].tracking
                if tracking.record:
                    check_writable(Path(tracking.record))
                name = f"sweep {time.strftime('%Y-%m-%d %H:%M')} · {' '.join(self.command)}"
                self.run = writing.start_sweep(tracking.experiment, name, self.command)
                self.record = tracking.record
            self.jobs += len(jobs)
            results = train_jobs(jobs, self.run, engine, self.stack_size)
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
            TrackingError: MLflow was unavailable for some results.
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
        _raise_if_pending(record_pending_results())
        ranking = compare(self.run).ranking
        print_ranking(ranking)
        links = [f"[{name}]({link})" for name, link in views.view_links(self.run).items()]
        note = f"{ranking_note(ranking)}\n\nViews: {', '.join(links)}"
        counts = {"runs": float(self.jobs), "runs.failed": float(len(self.failures))}
        writing.finish_sweep(self.run, note, counts, status)
        seconds = time.perf_counter() - self.started
        log.info(f"{self.jobs} runs in {seconds:.1f} s under sweep {self.run}; see `make ui`")
        for name, link in views.view_links(self.run, views.pages_address()).items():
            log.info(f"{name}: {link}")
        for failure in self.failures:
            log.error(f"failed: {failure}")


def check_packages(settings: Settings, command: Sequence[str]) -> None:
    """Raise a ConfigError if a file and not the command line sets ``network.allow``.

    A configuration file, which may come from another person, must not choose the code that runs.
    """
    words = [word.lstrip("+") for word in command]
    if settings.network.allow and not any(word.startswith("network.allow=") for word in words):
        packages = ",".join(settings.network.allow)
        raise ConfigError(
            f"network.allow = [{packages}]: a file cannot allow packages; if you trust them, write "
            f"network.allow=[{packages}] on the command line"
        )


def _raise_if_pending(results: int) -> None:
    if results:
        raise TrackingError(
            f"{results} results are kept in {CHECKPOINTS}/: `python -m bikefit.send` records them "
            "when MLflow is available again"
        )
