"""Planning: which members train together in a stack."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from bikefit.config import Settings
from bikefit.sweeps.jobs import Job, Task
from bikefit.training.checkpoints import CheckpointDir, checkpoint_dirs
from bikefit.training.devices import gpus
from bikefit.training.folds import read_pool
from bikefit.training.members import stack_key

log = logging.getLogger(__name__)

# Stack size on the CPU: as many members as have their widest activations of one step fit into
# ACTIVATIONS bytes, from FEWEST to MOST. Smaller stacks have more Python overhead per member.
# Larger ones (up to 512, `make bench-scaling`) are no faster per member and leave cores idle at
# the end of a sweep.
ACTIVATIONS = 2**22
FEWEST, MOST = 4, 128
ON_GPU = 512  # not measured on a GPU


def plan_stacks(
    tasks: Sequence[Task],
    processes: int,
    stack_size: int | None,
    root: Path,
    finished: Collection[str],
) -> list[list[Task]]:
    """Return the stacks to train, the costliest first.

    A stack with a folder is trained with the same members again, so that it resumes from its
    checkpoint, if all its members are to be trained or are finished. All other members are divided
    into new stacks.

    Args:
        tasks: Members to train.
        processes: Number of stacks that train at the same time.
        stack_size: Largest number of members in a new stack; None for a suitable one.
        root: Folder of all checkpoints.
        finished: Fingerprints of finished members.
    """
    pending = {task.member.fingerprint: task for task in tasks}
    stacks, epochs = [], []
    for directory in sorted(checkpoint_dirs(root), key=CheckpointDir.epoch, reverse=True):
        known = pending.keys() & set(directory.fingerprints)
        if known and all(f in known or f in finished for f in directory.fingerprints):
            stacks.append([
                pending.pop(member.fingerprint, Task(member))
                for member in directory.members
            ])  # fmt: skip
            epochs += [directory.epoch()] * len(known)
        elif not directory.has_result and set(directory.fingerprints) <= set(finished):
            directory.remove()  # its members were trained in other stacks
    if any(epochs):
        log.info(
            f"{len(epochs)} members resume from checkpoints, "
            f"after {min(epochs)} to {max(epochs)} epochs"
        )
    stacks += make_stacks(list(pending.values()), processes, stack_size)
    return sorted(stacks, key=_cost, reverse=True)


def make_stacks(
    tasks: Sequence[Task], processes: int, stack_size: int | None = None
) -> list[list[Task]]:
    """Group members that can share a stack, and divide groups that are too large.

    Members with the same seed and fold stay together as far as possible, because they share rows
    and noise.
    """
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        alone = task.member.fingerprint if task.job and task.job.alone else ""
        groups.setdefault(_key(task) + alone, []).append(task)
    stacks = []
    total = sum(map(_cost, groups.values()))
    for group in groups.values():
        group.sort(key=lambda task: (task.member.settings.seed, task.member.fold or 0))
        size = stack_size or _members_per_stack(group[0].member.settings)
        shares = -(-_cost(group) * processes // total)
        count = min(len(group), max(shares, -(-len(group) // size)))
        stacks += [list(part) for part in np.array_split(np.array(group, dtype=object), count)]
    return sorted(stacks, key=_cost, reverse=True)  # then processes end at about the same time


def count_slots(jobs: Sequence[Job], processes: int | None) -> int:
    """Return how many stacks train at the same time here: one per GPU, or else one per core."""
    counts = [gpus(a) for a in {job.settings.trainer.accelerator for job in jobs}]
    return processes or min(counts, default=0) or joblib.cpu_count()


def log_plan(stacks: Sequence[Sequence[Task]], slots: int) -> None:
    """Log the sizes of the stacks, and why members train alone."""
    members = sum(map(len, stacks))
    if members > 1:
        sizes = ", ".join(str(len(stack)) for stack in stacks)
        where = f"{min(slots, len(stacks))} processes"
        log.info(f"{members} members in {len(stacks)} stacks (of {sizes}) on {where}")
    keys = [json.loads(_key(stack[0])) for stack in stacks]
    for stack, key in zip(stacks, keys, strict=True):
        others = [other for other in keys if other != key]
        if len(stack) == 1 and stack[0].job and len(others) == len(stacks) - 1 and others:
            difference = _difference(key, others)
            log.info(
                f"trains alone: {stack[0].job.label} differs from the most similar stack in "
                f"{difference}"
            )


def _key(task: Task) -> str:
    return stack_key(task.member, read_pool(task.member.settings.data.path))


def _members_per_stack(settings: Settings) -> int:
    accelerator = settings.trainer.accelerator
    if accelerator == "gpu" or gpus(accelerator):  # "gpu" may mean those of other machines
        return ON_GPU
    activations = 4 * settings.training.batch_size * max(settings.network.widths)
    return min(MOST, max(FEWEST, ACTIVATIONS // activations))


def _cost(stack: Sequence[Task]) -> int:
    settings = stack[0].member.settings
    products = sum(a * b for a, b in pairwise((64, *settings.network.widths)))
    return products * settings.training.epochs * len(stack)


def _difference(key: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Return the names in which a key differs from the most similar other one."""
    differing = [tuple(name for name in key if key[name] != other[name]) for other in others]
    return " and ".join(sorted(differing, key=len)[0])
