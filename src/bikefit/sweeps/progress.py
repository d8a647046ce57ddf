"""The progress bar of a command."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bikefit.config import describe
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.recording import Recorder

log = logging.getLogger(__name__)


class ProgressBar:
    """Shows finished jobs and the remaining time, or the losses of a single job.

    Args:
        jobs: Number of jobs.
        epochs: Number of epochs of all members.
        enabled: Whether it is shown in a terminal.
    """

    def __init__(self, jobs: int, epochs: int, enabled: bool) -> None:
        self.jobs, self.jobs_done, self.epochs_done = jobs, 0, 0
        self.bar = tqdm(
            total=epochs,
            disable=None if enabled else True,
            unit="epoch",
            desc=f"0/{jobs} runs",
            leave=False,
            smoothing=0.05,
            bar_format="{desc} {bar} {percentage:3.0f} % · {elapsed} gone, {remaining} to go",
        )
        self.stack = ExitStack()

    def __enter__(self) -> ProgressBar:
        if not self.bar.disable:
            self.stack.enter_context(logging_redirect_tqdm())  # log lines stand above the bar
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self.stack.close()

    def finish(self, job: Job) -> None:
        """Count a finished job."""
        self.jobs_done += 1
        self.bar.set_description_str(f"{self.jobs_done}/{self.jobs} runs", refresh=False)
        if self.bar.disable and self.jobs_done % max(1, self.jobs // 10) == 0 and self.jobs > 1:
            log.info(f"{self.jobs_done}/{self.jobs} runs done ({describe(job.settings)})")

    def update(self, recorder: Recorder) -> None:
        """Show the epochs so far."""
        self.bar.n = min(self.epochs_done + recorder.member_epochs, self.bar.total)
        for _, (metrics, *_) in recorder.histories.values() if self.jobs == 1 else ():
            losses = [metrics[name] for name in ("train/loss", "val/loss")]
            if len(losses[0]):
                self.bar.set_description_str(
                    f"epoch {len(losses[0])} · train loss {losses[0][-1]:.4g} · "
                    f"validation loss {losses[1][-1]:.4g}",
                    refresh=False,
                )
        self.bar.refresh()
