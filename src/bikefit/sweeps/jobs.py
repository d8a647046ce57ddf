"""Jobs: configurations to train, with the results of their members."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from bikefit.config import Settings
from bikefit.data.table import read_table
from bikefit.errors import BikefitError
from bikefit.sweeps.fingerprints import fingerprint
from bikefit.tracking.reading import Finished
from bikefit.training.members import Member, MemberResult


class MemberError(BikefitError):
    """A job has no result; the message is the reason."""


@dataclass(eq=False)
class Job:
    """One configuration with one seed.

    Args:
        settings: Checked settings.
        label: Text that distinguishes the job from the others, for messages.
        configuration: Name of the configuration, shared by jobs that differ only in their seed.
        run: Id of its MLflow run, once it has one.
        fold_runs: Ids of the runs of its folds; empty without cross-validation.
        results: Results of its members by number, as far as they are known.
        alone: Whether its network cannot be stacked.
    """

    settings: Settings
    label: str
    configuration: str = ""
    run: str = ""
    fold_runs: list[str] = field(default_factory=list)
    results: dict[int, MemberResult | Finished] = field(default_factory=dict)
    alone: bool = False

    @cached_property
    def data_version(self) -> str:
        """Version of its table."""
        return read_table(self.settings.data.path).data_version

    @property
    def cross_validated(self) -> bool:
        """Whether it has one member per fold."""
        return self.settings.validation.name != "holdout"

    @cached_property
    def members(self) -> list[Member]:
        """Its members: one, or one per fold."""
        folds = range(self.settings.validation.folds) if self.cross_validated else [None]
        version = self.data_version
        return [Member(self.settings, fold, self.fingerprint(fold), version) for fold in folds]

    @property
    def complete(self) -> bool:
        """Whether all members have a result or a failure."""
        return len(self.results) == len(self.members)

    def fingerprint(self, fold: int | None = None) -> str:
        """Return the fingerprint of the job, or of one of its folds."""
        return fingerprint(self.settings, self.data_version, fold)

    def member_run(self, index: int) -> str | None:
        """Return the id of a member's run, once it has one."""
        return self.fold_runs[index] if self.fold_runs else self.run or None


@dataclass(frozen=True)
class Task:
    """A member to train.

    Args:
        member: The member.
        job: Its job; None if its result is known and only its stack needs it.
        index: Its number in the job.
    """

    member: Member
    job: Job | None = None
    index: int = 0
