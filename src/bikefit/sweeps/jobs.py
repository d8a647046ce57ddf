"""Jobs: configurations to train, with the results of their members."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from bikefit.config import Settings
from bikefit.data.table import Table, read_table
from bikefit.errors import BikefitError
from bikefit.sweeps.fingerprints import fingerprint
from bikefit.tracking.reading import FinishedRun
from bikefit.training.members import Member, MemberResult


class JobError(BikefitError):
    """A job has no result; the message is the reason."""


@dataclass(eq=False)
class Job:
    """A configuration with one seed; its members are one network, or one per fold or training set.

    Args:
        label: Text that distinguishes the job from the others, for messages.
        configuration: Name of the configuration, shared by jobs that differ only in their seed.
        run: Id of its MLflow run, once it has one.
        runs: Ids of the runs of its members by fingerprint, once they have one.
        results: Results by fingerprint of the member, or of the whole job if it is reused.
        alone: Whether its network cannot be stacked.
    """

    settings: Settings
    label: str
    configuration: str = ""
    run: str = ""
    runs: dict[str, str] = field(default_factory=dict)
    results: dict[str, MemberResult | FinishedRun] = field(default_factory=dict)
    alone: bool = False

    @cached_property
    def table(self) -> Table:
        """Table of the job."""
        return read_table(self.settings.data.path)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the job; without cross-validation, its member has the same."""
        return fingerprint(self.settings, self.table.data_version)

    @cached_property
    def members(self) -> list[Member]:
        """All members of the job, in the order of their folds.

        Each drawn training set has a network seed, because the variance of a method is over both
        the training set and the initialization (Neal et al. 2018, arXiv:1810.08591).
        """
        settings, version = self.settings, self.table.data_version
        validation = settings.validation
        if validation.name == "holdout":
            return [Member(settings, None, self.fingerprint, version)]
        members = []
        for fold in range(validation.networks):
            seed = settings.seed
            if validation.name == "resample":
                seed = seed * validation.networks + fold
            trained = settings.model_copy(update={"seed": seed})
            members.append(Member(trained, fold, fingerprint(settings, version, fold), version))
        return members

    @property
    def pending(self) -> list[Member]:
        """Members without a result or a failure."""
        return [member for member in self.members if member.fingerprint not in self.results]

    @property
    def failed_member(self) -> MemberResult | None:
        """Result of a failed member, or else of a stopped member, if any."""
        results = self.results.values()
        failed = [r for r in results if isinstance(r, MemberResult) and r.failure]
        return min(failed, key=lambda result: result.killed, default=None)

    def val_loss(self) -> float | JobError:
        """Return the validation loss, mean over folds, or an error with the reason for none."""
        if self.failed_member:
            return JobError(self.failed_member.failure)
        if not self.results:
            return JobError("stopped before it began")
        return fmean(_val_loss(result) for result in self.results.values())


def _val_loss(result: MemberResult | FinishedRun) -> float:
    if isinstance(result, FinishedRun):
        return result.metrics["best/val/loss"]
    return float(result.metrics["val/loss"][result.selected - 1])
