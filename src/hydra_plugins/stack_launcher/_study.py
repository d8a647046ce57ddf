"""An Optuna study in a file, of which the next process goes on where one was killed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.stack_launcher._space import SearchError, suggest

RANDOM_STACK = 3  # one of so many is drawn at random, however good TPE's proposals are

optuna.logging.set_verbosity(optuna.logging.WARNING)


def name(parts: Mapping[str, Any]) -> str:
    """Name a study after all that its trials depend on: another search is another study."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return f"search-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@contextmanager
def opened(study: str, folder: str | None) -> Iterator[Study]:
    """Open or make a study for this process alone.

    Raises:
        SearchError: another process has it open.
    """
    if folder is None:
        yield _load(study, InMemoryStorage())
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = Path(folder) / f"{study}.journal"
    try:
        with FileLock(file.with_suffix(".in-use"), blocking=False):
            yield _load(study, JournalStorage(JournalFileBackend(str(file))))
    except Timeout:
        raise SearchError(
            f"another process is at work on {file}: wait for it, or search on your own with "
            "another hydra.sweeper.seed"
        ) from None


def _load(study: str, storage: BaseStorage) -> Study:
    return optuna.create_study(study_name=study, storage=storage, load_if_exists=True)


def asked(study: Study) -> list[FrozenTrial]:
    """List the trials that were proposed, in their order."""
    return [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]


class Proposals:
    """Trials whose values follow from the seed and what is known, not from who asks.

    Each trial has a sampler of its own seed, so that a study that was interrupted anywhere goes
    on as it would have without. The first trial of every ``stack`` proposes all values; the
    others take over those of the ``shared`` keys, and propose the rest.

    Every third stack is drawn at random, as in BOHB (Falkner et al. 2018). There are few stacks, so
    that TPE alone takes the best of the first handful of shapes and never looks at another.

    Args:
        searched: distribution of each key.
        shared: keys with equal values in a stack.
        stack: number of trials in it.
        sampler: tpe or random.
        seed: of the samplers.

    Raises:
        SearchError: no such sampler.
    """

    def __init__(
        self, searched: Mapping[str, BaseDistribution], shared: Sequence[str], stack: int,
        sampler: str, seed: int,
    ) -> None:  # fmt: skip
        if sampler not in ("tpe", "random"):
            raise SearchError(f"hydra.sweeper.sampler = {sampler}: allowed are tpe, random")
        self.searched, self.stack, self.sampler, self.seed = searched, stack, sampler, seed
        self.shared = [key for key in searched if key in shared]

    def next(self, study: Study) -> Trial:
        """Propose one more trial."""
        known = asked(study)
        study.sampler = self._sampler(len(known))
        place = len(known) % self.stack
        waiting = study.get_trials(deepcopy=False, states=[TrialState.WAITING])
        if place and self.shared and not waiting:
            first = known[-place]
            study.enqueue_trial({key: first.params[key] for key in self.shared})
        return self._complete(study.ask())

    def unfinished(self, study: Study) -> list[Trial]:
        """List the trials that were told no end: under way, or of a process that was killed."""
        found = []
        for trial in asked(study):
            if trial.state == TrialState.RUNNING:
                study.sampler = self._sampler(trial.number)
                found.append(self._complete(Trial(study, trial._trial_id)))
        return found

    def _complete(self, trial: Trial) -> Trial:
        """Propose the values that a trial does not have yet."""
        for key, distribution in self.searched.items():
            suggest(trial, key, distribution)
        return trial

    def _sampler(self, number: int) -> BaseSampler:
        seed = random.Random(f"{self.seed} {number}").getrandbits(32)
        if self.sampler == "random" or number // self.stack % RANDOM_STACK == 0:
            return RandomSampler(seed=seed)
        return TPESampler(multivariate=True, constant_liar=True, seed=seed)


def describe(searched: Mapping[str, BaseDistribution]) -> dict[str, str]:
    """Write a search space as text."""
    return {key: distribution_to_json(d) for key, d in searched.items()}
