"""A search by Optuna: proposals, promotion, budgets and wrong settings."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from bikefit.config import ConfigError
from hydra_plugins.stack_launcher import _search, sweepers

Job = dict[str, float]
CONFIG: dict[str, Any] = {"x": 0.5, "width": 8, "epochs": 9, "n": 0}
SETTINGS: dict[str, Any] = {
    "space": {"x": "interval(0,1)", "width": "8,16,32"},
    "shared": ["width"],
    "stack": 3,
    "batch": 9,
    "trials": 18,
    "resource": "epochs",
}


def loss(job: Job) -> float:
    return (job["x"] - 0.3) ** 2 + {8: 0.1, 16: 0.0, 32: 0.2}[int(job["width"])]


class Batches:
    """A launcher that computes a value for each job, and stores the jobs."""

    def __init__(self, value: Callable[[Job], float]) -> None:
        self.value, self.batches = value, list[list[Job]]()

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        pairs = [[override.split("=", 1) for override in job] for job in jobs]
        self.batches.append([CONFIG | {k: float(v) for k, v in job} for job in pairs])
        values = [self.value(job) for job in self.batches[-1]]
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=value) for value in values]


def search(
    *arguments: str, value: Callable[[Job], float] = loss, **settings: Any
) -> tuple[list[list[Job]], list[dict[str, str]]]:
    """Search in the current folder; return the batches of jobs and the table of trials."""
    sweeper = sweepers.SearchSweeper(**(SETTINGS | settings))
    launcher = Batches(value)
    sweeper.launcher = launcher  # type: ignore[assignment]
    sweeper.config = OmegaConf.create({**CONFIG, "hydra": {"sweep": {"dir": "sweeps"}}})
    sweeper.hydra_context = SimpleNamespace(config_loader=None)  # type: ignore[assignment]
    sweeper.sweep(list(arguments))
    return launcher.batches, trials(Path())


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweeps/trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_batch_has_rungs_and_stacks() -> None:
    batches, table = search()
    assert [sorted({job["epochs"] for job in batch}) for batch in batches[:3]] == [[1], [3], [9]]
    assert [len(batch) for batch in batches[:3]] == [9, 3, 1]
    firsts = [batch for batch in batches if batch[0]["epochs"] == 1]
    assert [len(batch) for batch in firsts] == [9, 9]
    for batch in firsts:
        for start in (0, 3, 6):
            assert len({job["width"] for job in batch[start : start + 3]}) == 1
            assert len({job["x"] for job in batch[start : start + 3]}) == 3
    states = Counter(trial["state"] for trial in table)
    assert states["complete"] + states["stopped early"] == 18


def test_only_the_best_third_is_promoted() -> None:
    (first, second, third), table = search(trials=9)
    best = sorted(first, key=loss)
    assert sorted(job["x"] for job in second) == sorted(job["x"] for job in best[:3])
    assert [job["x"] for job in third] == [best[0]["x"]]
    assert Counter(trial["rung"] for trial in table) == {"1": 6, "3": 2, "9": 1}


def test_a_batch_is_compared_with_earlier_batches() -> None:
    batches, _ = search(trials=27)
    on_rung = {n: [job for batch in batches for job in batch if job["epochs"] == n] for n in (1, 3)}
    first = sorted(map(loss, on_rung[1][:18]))
    second_batch = {job["x"] for job in on_rung[1][9:18]}
    promoted = [loss(job) for job in on_rung[3] if job["x"] in second_batch]
    assert all(value <= first[5] for value in promoted)  # the best third of 18


def test_without_a_resource_every_trial_is_complete() -> None:
    batches, table = search(resource=None)
    assert [len(batch) for batch in batches] == [9, 9]
    assert {trial["state"] for trial in table} == {"complete"}


def test_proposals_depend_on_the_seed() -> None:
    one, again, other = (search(seed=seed)[0] for seed in (0, 0, 1))
    assert one == again
    assert one[0] != other[0]


def test_failed_trials_are_listed_and_the_search_continues() -> None:
    _, table = search(value=lambda job: math.nan if job["x"] < 0.2 else loss(job))
    for trial in table:
        failed = float(trial["x"]) < 0.2
        assert (trial["state"] == "failed") == failed
        assert (trial["value"] == "") == failed
    assert {trial["state"] for trial in table} >= {"failed", "complete"}


def test_the_command_fails_if_all_trials_fail() -> None:
    with pytest.raises(ConfigError, match="all 18 trials failed"):
        search(value=lambda job: math.nan)


def test_the_trials_are_written_if_the_search_is_interrupted() -> None:
    def interrupted(job: Job) -> float:
        if job["epochs"] == 3:
            raise KeyboardInterrupt
        return loss(job)

    with pytest.raises(KeyboardInterrupt):
        search(value=interrupted)
    states = Counter(trial["state"] for trial in trials(Path()))
    assert states == {"stopped early": 6, "open": 3}


@pytest.mark.parametrize(("seconds", "count", "spent"), [(20, 9, 27), (50, 18, 54), (None, 27, 81)])
def test_no_batch_begins_after_the_seconds(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, count: int, spent: float
) -> None:
    now = [0.0]
    monkeypatch.setattr(_search, "time", SimpleNamespace(monotonic=lambda: now[0]))

    losses: dict[float, float] = {}

    def slow(job: Job) -> float:  # each batch takes 27 s: nine jobs, and a third on each rung
        now[0] += job["epochs"]
        return losses.setdefault(job["x"], len(losses) % 9)

    _, table = search(value=slow, trials=27, seconds=seconds)
    assert (len(table), now[0]) == (count, spent)


def test_a_key_on_the_command_line_replaces_the_key_of_the_space() -> None:
    batches, _ = search(
        "width=16",
        "n=int(interval(0,3))",
        "x=tag(log,interval(1e-6,1e-2))",
        rungs=1,
    )
    jobs = [job for batch in batches for job in batch]
    assert {(job["width"], job["epochs"]) for job in jobs} == {(16, 9)}
    assert {job["n"] for job in jobs} <= {0, 1, 2, 3}
    assert all(1e-6 <= job["x"] <= 1e-2 for job in jobs)
    assert sum(job["x"] < 1e-4 for job in jobs) >= 3  # a hundredth of a plain range
    assert len(jobs) == 18


def test_every_third_stack_is_drawn_at_random() -> None:
    stacks = []
    for value in (loss, lambda job: -loss(job)):
        batches, _ = search(value=value, trials=36, resource=None)
        jobs = [(job["width"], job["x"]) for batch in batches for job in batch]
        stacks.append([jobs[start : start + 3] for start in range(0, 36, 3)])
    same = [i for i, (one, other) in enumerate(zip(*stacks, strict=True)) if one == other]
    assert [i for i in same if i >= 6] == [6, 9]  # before, TPE is random, too


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": {"x": "1"}}, "nothing to search"),
        ({"space": {"x": "tag(log,interval(0,1))"}}, r"x=tag\(log,interval\(0,1\)\): "),
        ({"batch": 0}, "hydra.sweeper.batch = 0: must be at least 1"),
        ({"reduction": 1}, "hydra.sweeper.reduction = 1: must be at least 2"),
        ({"resource": "x"}, "resource = x: must name an integer of the config, but its"),
    ],
)
def test_a_wrong_setting_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search(**settings)
