"""A search by Optuna: what is proposed, who goes on, what is told, and what a kill leaves."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf

from hydra_plugins.stack_launcher import _search
from hydra_plugins.stack_launcher._space import SearchError
from hydra_plugins.stack_launcher.search_sweeper import SearchSweeper

Job = dict[str, float]
CONFIG: dict[str, Any] = {"x": 0.5, "width": 8, "epochs": 9, "n": 0}
SETTINGS: dict[str, Any] = {
    "space": {"x": "interval(0,1)", "width": "8,16,32"}, "shared": ["width"], "stack": 3,
    "batch": 9, "trials": 18, "resource": "epochs",
}  # fmt: skip


def loss(job: Job) -> float:
    return (job["x"] - 0.3) ** 2 + {8: 0.1, 16: 0.0, 32: 0.2}[int(job["width"])]


class Batches:
    """A launcher that computes a value for each job, and keeps what it was given."""

    def __init__(self, value: Callable[[Job], float]) -> None:
        self.value, self.batches = value, list[list[Job]]()

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        pairs = [[override.split("=", 1) for override in job] for job in jobs]
        self.batches.append([CONFIG | {k: float(v) for k, v in job} for job in pairs])
        return [self._returned(job) for job in self.batches[-1]]

    def _returned(self, job: Job) -> JobReturn:
        try:
            return JobReturn(status=JobStatus.COMPLETED, _return_value=self.value(job))
        except ArithmeticError as error:
            return JobReturn(status=JobStatus.FAILED, _return_value=error)


def search(
    *arguments: str, value: Callable[[Job], float] = loss, version: str = "1", **settings: Any
) -> tuple[list[list[Job]], list[dict[str, str]]]:
    """Search in the current folder; return the batches of jobs and the table of trials."""
    sweeper = SearchSweeper(**(SETTINGS | settings))
    launcher = Batches(value)
    sweeper.launcher = launcher  # type: ignore[assignment]
    sweeper.config = OmegaConf.create({**CONFIG, "hydra": {"sweep": {"dir": "sweeps"}}})
    sweeper.hydra_context = SimpleNamespace(config_loader=None)  # type: ignore[assignment]
    sweeper.task_function = SimpleNamespace(version=lambda config: version)  # type: ignore[assignment]
    sweeper.sweep(list(arguments))
    return launcher.batches, trials(Path())


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweeps/trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_hydra_finds_the_sweeper() -> None:
    assert SearchSweeper.__name__ in [p.__name__ for p in Plugins.instance().discover(Sweeper)]


def test_rungs_of_batches_that_stack() -> None:
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


def test_only_the_best_third_goes_on() -> None:
    (first, second, third), table = search(trials=9)
    best = sorted(first, key=loss)
    assert sorted(job["x"] for job in second) == sorted(job["x"] for job in best[:3])
    assert [job["x"] for job in third] == [best[0]["x"]]
    assert Counter(trial["rung"] for trial in table) == {"1": 6, "3": 2, "9": 1}


def test_a_batch_is_compared_with_those_before() -> None:
    batches, _ = search(trials=27)
    on_rung = {n: [job for batch in batches for job in batch if job["epochs"] == n] for n in (1, 3)}
    first = sorted(map(loss, on_rung[1][:18]))
    second_batch = {job["x"] for job in on_rung[1][9:18]}
    went_on = [loss(job) for job in on_rung[3] if job["x"] in second_batch]
    assert all(value <= first[5] for value in went_on)  # the best third of 18


def test_without_a_resource_every_trial_is_complete() -> None:
    batches, table = search(resource=None)
    assert [len(batch) for batch in batches] == [9, 9]
    assert {trial["state"] for trial in table} == {"complete"}


def test_the_same_seed_proposes_the_same_and_another_seed_does_not() -> None:
    one, again, other = (search(studies=None, seed=seed)[0] for seed in (0, 0, 1))
    assert one == again
    assert one[0] != other[0]
    assert not Path("studies").exists()


def test_the_same_command_goes_on_and_makes_nothing_again() -> None:
    whole, _ = search(studies=None, trials=27)
    begun, _ = search()
    nothing, table = search()
    assert nothing == []
    assert len(table) == 18
    rest, table = search(trials=27)
    assert begun + rest == whole
    assert len(table) == 27


def test_other_data_or_another_space_is_another_study() -> None:
    search()
    search(version="2")
    search("n=1")
    search("x=interval(0,0.5)")
    assert len(list(Path("studies").glob("*.journal"))) == 4


@pytest.mark.parametrize("rung", [1, 3, 9])
def test_an_interrupted_search_goes_on_as_if_nothing_had_been(rung: int) -> None:
    whole, table = search(studies=None)

    def interrupted(job: Job) -> float:
        if job["epochs"] == rung:
            raise KeyboardInterrupt
        return loss(job)

    with pytest.raises(KeyboardInterrupt):
        search(value=interrupted)
    assert {trial["state"] for trial in trials(Path())} >= {"open"}
    before = [1, 3, 9].index(rung)
    assert search() == (whole[before:], table)


def test_failed_trials_are_told_and_the_search_goes_on() -> None:
    def value(job: Job) -> float:
        if job["x"] < 0.2:
            raise ZeroDivisionError
        return math.nan if job["x"] > 0.8 else loss(job)

    _, table = search(value=value)
    for trial in table:
        failed = not 0.2 <= float(trial["x"]) <= 0.8
        assert (trial["state"] == "failed") == failed
        assert (trial["value"] == "") == failed
    assert {trial["state"] for trial in table} >= {"failed", "complete"}


def test_where_all_trials_fail_the_command_fails() -> None:
    with pytest.raises(SearchError, match="none of 18 trials gave a number"):
        search(value=lambda job: math.nan)


def test_a_task_that_returns_no_number_is_an_error() -> None:
    with pytest.raises(SearchError, match="must return the number to be lowered, not None"):
        search(value=lambda job: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("seconds", "count", "spent"), [(60, 18, 54), (50, 18, 45), (None, 27, 81)]
)
def test_no_batch_begins_that_would_end_too_late(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, count: int, spent: float
) -> None:
    now = [0.0]
    monkeypatch.setattr(_search, "time", SimpleNamespace(monotonic=lambda: now[0]))

    places: dict[float, float] = {}

    def slow(job: Job) -> float:  # each rung of a batch takes 9 s: a third of nine goes on
        now[0] += job["epochs"]
        return places.setdefault(job["x"], len(places) % 9)

    _, table = search(value=slow, trials=27, seconds=seconds)
    assert (len(table), now[0]) == (count, spent)


def test_a_key_on_the_command_line_takes_its_place_in_the_space() -> None:
    batches, _ = search(
        "width=16", "n=3", "x=tag(log,interval(1e-6,1e-2))", rungs=1, sampler="random"
    )
    jobs = [job for batch in batches for job in batch]
    assert {(job["width"], job["n"], job["epochs"]) for job in jobs} == {(16, 3, 9)}
    assert all(1e-6 <= job["x"] <= 1e-2 for job in jobs)
    assert sum(job["x"] < 1e-4 for job in jobs) >= 3  # a hundredth of a plain range
    assert len(jobs) == 18


def test_every_third_stack_is_drawn_at_random_whatever_is_known() -> None:
    stacks = []
    for value in (loss, lambda job: -loss(job)):
        batches, _ = search(value=value, trials=36, resource=None, studies=None)
        jobs = [(job["width"], job["x"]) for batch in batches for job in batch]
        stacks.append([jobs[start : start + 3] for start in range(0, 36, 3)])
    same = [i for i, (one, other) in enumerate(zip(*stacks, strict=True)) if one == other]
    assert [i for i in same if i >= 6] == [6, 9]  # TPE knows nothing before


def test_whole_numbers() -> None:
    batches, _ = search("x=int(interval(0,3))", rungs=1)
    assert {job["x"] for batch in batches for job in batch} <= {0, 1, 2, 3}


@pytest.mark.slow
def test_it_comes_closer_than_random_search() -> None:
    late = {}
    for sampler in ("tpe", "random"):
        _, table = search("n=interval(0,1)", sampler=sampler, trials=72, rungs=1)
        values = [float(trial["value"]) for trial in table[36:]]
        late[sampler] = sum(values) / len(values)
    assert late["tpe"] < late["random"] - 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": {"x": "1"}}, "nothing to search"),
        ({"space": {"x": "tag(log,interval(0,1))"}}, r"x=tag\(log,interval\(0,1\)\): "),
        ({"sampler": "grid"}, "sampler = grid: allowed are tpe, random"),
        ({"batch": 0}, "hydra.sweeper.batch = 0: must be at least 1"),
        ({"reduction": 1}, "hydra.sweeper.reduction = 1: must be at least 2"),
        ({"resource": "x"}, "resource = x: must name a whole number of the config, found 0.5"),
        ({"trials": None}, "give hydra.sweeper.trials or hydra.sweeper.seconds"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SearchError, match=message):
        search(**settings)


# The same as a program of its own, under Hydra and with the stack launcher.
APP = """
import json, os, time
from pathlib import Path
import hydra

def task(config):
    raise AssertionError("jobs must not run one by one")

def together(configs, **options):
    with Path("jobs.jsonl").open("a") as file:
        file.write(json.dumps([[c.x, c.width, c.epochs] for c in configs]) + "\\n")
    if len(Path("jobs.jsonl").read_text().splitlines()) == int(os.environ.get("HANG", 0)):
        Path("hanging").touch()
        time.sleep(60)
    return [(c.x - 0.3) ** 2 + {8: 0.1, 16: 0.0, 32: 0.2}[c.width] for c in configs]

task.together = together
hydra.main(version_base="1.3", config_path=".", config_name="app")(task)()
"""
COMMAND = [sys.executable, "app.py", "-m"]
CONF = {
    "defaults": [
        "_self_", {"override hydra/launcher": "stack"}, {"override hydra/sweeper": "search"},
    ],
    **CONFIG,
    "hydra": {
        "sweep": {"dir": "sweeps", "subdir": "${hydra.job.num}"}, "sweeper": SETTINGS | {"batch": 6}
    },
}  # fmt: skip


def write_app() -> None:
    Path("app.py").write_text(APP)
    Path("app.yaml").write_text(yaml.safe_dump(CONF, sort_keys=False))


def launched() -> list[list[list[float]]]:
    return [json.loads(line) for line in Path("jobs.jsonl").read_text().splitlines()]


def hanging(batch: int) -> subprocess.Popen[bytes]:
    """Start a search, and return once a batch of it is under way."""
    environment = {**os.environ, "HANG": str(batch)}
    with Path("said.txt").open("w") as said:
        process = subprocess.Popen(COMMAND, env=environment, stdout=said, stderr=said)
    while not Path("hanging").exists():
        assert process.poll() is None, Path("said.txt").read_text()
        time.sleep(0.02)
    return process


def run() -> subprocess.CompletedProcess[str]:
    return subprocess.run(COMMAND, capture_output=True, text=True, check=False)


@pytest.mark.slow(seconds=15)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_killed_search_goes_on_as_if_nothing_had_been(batch: int) -> None:
    write_app()
    assert run().returncode == 0
    whole, table = launched(), trials(Path())
    (study,) = Path("studies").glob("*.journal")
    study.unlink()
    Path("jobs.jsonl").unlink()
    process = hanging(batch)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run()
    assert done.returncode == 0, done.stderr
    assert f"study {study.stem} goes on after 6 trials" in done.stdout
    assert trials(Path()) == table
    assert launched() == whole[:batch] + whole[batch - 1 :]  # the batch under way comes again


@pytest.mark.slow
def test_two_commands_do_not_work_on_one_study() -> None:
    write_app()
    first = hanging(1)
    try:
        second = run()
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 1
    assert "another process is at work on studies/search-" in second.stderr
    assert "Traceback" not in second.stderr
    assert len(launched()) == 1
