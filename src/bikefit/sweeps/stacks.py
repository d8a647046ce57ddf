"""Group members into stacks."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from math import ceil
from pathlib import Path

import joblib
import numpy as np

from bikefit.config import Settings
from bikefit.processes import process_id
from bikefit.sweeps.jobs import Job
from bikefit.training.checkpoints import CheckpointDir, MemberRuns, checkpoint_dirs
from bikefit.training.devices import gpu_count
from bikefit.training.folds import read_pool
from bikefit.training.members import Member, stack_key

log = logging.getLogger(__name__)

# Stack size on the CPU: as many members as have their parameters and widest activations of one step
# fit into CACHE bytes, from FEWEST to MOST. Smaller stacks have more Python overhead per member.
# Larger ones are slower per member, because their tensors do not stay in the cache, and leave cores
# idle at the end of a sweep.
CACHE = 3 * 2**20
FEWEST, MOST = 4, 128
ON_GPU = 512  # not measured on a GPU


def plan_stacks(
    jobs: Sequence[Job],
    processes: int,
    stack_size: int | None,
    root: Path,
    finished: Collection[str],
) -> list[CheckpointDir]:
    """Return the folders of the stacks that train the pending members of jobs, costliest first.

    A stack resumes from its folder in ``root`` with the same members if all of them are pending or
    have a fingerprint in ``finished``. All other members are divided into new stacks.
    """
    pending = {member.fingerprint: member for job in jobs for member in job.pending}
    alone = {member.fingerprint for job in jobs if job.alone for member in job.members}
    stacks, epochs = [], []
    for directory in sorted(checkpoint_dirs(root), key=CheckpointDir.epoch, reverse=True):
        resumed = pending.keys() & set(directory.fingerprints)
        if resumed and all(f in resumed or f in finished for f in directory.fingerprints):
            stacks.append([pending.pop(m.fingerprint, m) for m in directory.members])
            epochs += [directory.epoch()] * len(resumed)
        elif (
            not directory.has_result
            and set(directory.fingerprints) <= set(finished)
            and directory.abandoned
        ):
            directory.remove()  # its members were trained in other stacks
    if any(epochs):
        log.info(
            f"{len(epochs)} members resume from checkpoints, "
            f"after {min(epochs)} to {max(epochs)} epochs"
        )
    stacks += group_members(pending.values(), processes, stack_size, alone)
    runs = MemberRuns(process=process_id())
    return [CheckpointDir(root, stack, runs) for stack in sorted(stacks, key=_cost, reverse=True)]


def group_members(
    members: Iterable[Member],
    processes: int,
    stack_size: int | None = None,
    alone: Collection[str] = (),
) -> list[list[Member]]:
    """Divide members into stacks of at most ``stack_size``, at least one stack per process.

    Only members with equal shapes share a stack, and members whose fingerprints are in ``alone``
    share none. Members with the same seed and fold, which share rows and noise, stay together as
    far as possible.
    """
    groups: dict[str, list[Member]] = {}
    for member in members:
        key = stack_key(member, read_pool(member.settings.data.path))
        key += member.fingerprint if member.fingerprint in alone else ""
        groups.setdefault(key, []).append(member)
    stacks = []
    total = sum(map(_cost, groups.values()))
    for group in groups.values():
        group.sort(key=lambda member: (member.settings.seed, member.fold or 0))
        size = stack_size or _members_per_stack(group[0].settings)
        shares = ceil(_cost(group) * processes / total)
        count = min(len(group), max(shares, ceil(len(group) / size)))
        stacks += [list(part) for part in np.array_split(np.array(group, dtype=object), count)]
    return stacks


def count_slots(jobs: Sequence[Job], processes: int | None) -> int:
    """Return the number of stacks that train at the same time on this machine.

    The default is one per GPU, or one per core if the jobs train on the CPU.
    """
    counts = [gpu_count(a) for a in {job.settings.trainer.accelerator for job in jobs}]
    return processes or min(counts, default=0) or joblib.cpu_count()


def _members_per_stack(settings: Settings) -> int:
    accelerator = settings.trainer.accelerator
    if accelerator == "gpu" or gpu_count(accelerator):  # "gpu" may be a GPU of another machine
        return ON_GPU
    widths = settings.network.widths
    features = read_pool(settings.data.path).features.shape[1]
    parameters = _products(features, widths)
    activations = settings.training.batch_size * max(widths)
    return min(MOST, max(FEWEST, CACHE // (4 * (parameters + activations))))


def _cost(stack: Sequence[Member]) -> float:
    """Estimate the relative training time of members with equal shapes."""
    settings = stack[0].settings
    products = _products(64, settings.network.widths)
    return products * settings.training.epochs * sum(m.settings.data.fraction for m in stack)


def _products(inputs: int, widths: Sequence[int]) -> int:
    """Return the number of weights, which is that of products per row, of linear layers."""
    return sum(a * b for a, b in pairwise((inputs, *widths)))
