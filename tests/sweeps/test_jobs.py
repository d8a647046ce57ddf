"""Jobs become members, stacks and runs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from bikefit.comparison.result import assign_run_verdict
from bikefit.comparison.runs import run_table
from bikefit.config import ConfigError
from bikefit.sweeps import jobs, processes
from bikefit.sweeps.command import OpenSweep
from bikefit.sweeps.jobs import Job, MemberError, Task, make_stacks
from bikefit.tracking import connection, reading, writing
from bikefit.tracking.names import PROCESS
from bikefit.training import fit
from conftest import make_settings

QUICK = ["network.hidden=[4]", "training.epochs=2", "training.batch_size=64"]


def job(*overrides: str) -> Job:
    quick = QUICK[1:] if "network=custom" in overrides else QUICK
    return Job(make_settings(*quick, *overrides), " ".join(overrides))


def tasks(*found: Job) -> list[Task]:
    return [Task(j, i, m) for j, one in enumerate(found) for i, m in enumerate(one.members())]


def test_members_of_a_shape_share_stacks(workplace: Path) -> None:
    wide = [job("network.hidden=[8]", f"seed={s}") for s in (0, 1)]
    narrow = [job(f"regularization.l2={v}") for v in (0, 0.1, 1)]
    stacks = make_stacks(tasks(*wide, *narrow), processes=1, stack_size=8)
    # the costliest first
    assert [[task.job for task in stack] for stack in stacks] == [[0, 1], [2, 3, 4]]


def test_large_groups_are_cut_by_size_and_for_all_processes(workplace: Path) -> None:
    many = [job(f"seed={s}", f"regularization.l2={v}") for v in range(4) for s in range(2)]
    sizes = [len(s) for s in make_stacks(tasks(*many), processes=1, stack_size=3)]
    assert sorted(sizes) == [2, 3, 3]
    halves = make_stacks(tasks(*many), processes=2, stack_size=100)
    # members with one seed stay together: they share rows and noise
    assert [{t.member.settings.seed for t in stack} for stack in halves] == [{0}, {1}]


@pytest.mark.parametrize("wide", [["network.hidden=[64]"], ["network=custom"]])
def test_what_costs_more_than_a_share_is_cut_whatever_stands_beside_it(
    workplace: Path, wide: list[str]
) -> None:
    found = [job("network.hidden=[2]"), *(job(*wide, f"seed={seed}") for seed in range(6))]
    found.append(job("network.hidden=[3]"))
    assert [len(s) for s in make_stacks(tasks(*found), processes=2)] == [3, 3, 1, 1]
    assert [len(s) for s in make_stacks(tasks(*found), processes=1)] == [6, 1, 1]


@pytest.mark.slow
def test_small_networks_train_in_larger_stacks(workplace: Path) -> None:
    def sizes(*overrides: str) -> list[int]:
        found = [job(*overrides, f"regularization.l2={v}") for v in range(48)]
        return [len(s) for s in make_stacks(tasks(*found), processes=1)]

    # 4 bytes x 256 rows x 128 units = 128 KiB, of which 4 MiB hold 32
    assert sizes("network.hidden=[128,64]", "training.batch_size=256") == [24, 24]
    assert sizes("network.hidden=[16]", "training.batch_size=256") == [48]
    assert sizes("network.hidden=[4096]", "training.batch_size=256") == [4] * 12


def test_a_gpu_takes_hundreds_of_members(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make_settings("network.hidden=[4096]", "trainer.accelerator=gpu")
    found = [Job(one.model_copy(update={"seed": seed}), str(seed)) for seed in range(600)]
    assert [len(s) for s in make_stacks(tasks(*found), processes=1)] == [300, 300]
    assert [len(s) for s in make_stacks(tasks(*found[:400]), processes=1)] == [400]
    assert [len(s) for s in make_stacks(tasks(*found[:400]), processes=2)] == [200, 200]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert jobs._slots(found, None) == 2
    assert jobs._slots(found, 5) == 5
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"accelerator=gpu: .* no GPU here"):
        jobs.train(found[:1], None)


def test_a_sweep_without_the_gpu_that_it_asks_for_is_not_begun(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match="no GPU here"), OpenSweep([]) as sweep:
        sweep.train([make_settings("trainer.accelerator=gpu")], ["one"])
    assert [e.name for e in MlflowClient().search_experiments()] == ["Default"]


@pytest.mark.slow
def test_what_trains_alone_is_said_with_the_reason(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    noisy = "[{name: a, _target_: torch.nn.Dropout},{name: b, _target_: torch.nn.Linear}]"
    own = ["network=custom", f"network.layers={noisy.replace('Linear', 'Linear, out_features: 1')}"]
    found = [
        job("seed=0"), job("seed=1"), job("loss=mse", "seed=2"),
        job(*own, "seed=3"), job(*own, "seed=4"),
    ]  # fmt: skip
    jobs.train(found, None, processes=1)
    assert "trains alone, since no other has its loss: loss=mse seed=2" in caplog.text
    assert caplog.text.count("trains alone, since it cannot be stacked") == 2
    assert "(a.layer: vmap: called random operation" in caplog.text


def test_folds_are_members(workplace: Path) -> None:
    folds = job("validation=kfold", "validation.folds=3")
    assert [member.fold for member in folds.members()] == [0, 1, 2]


@pytest.mark.slow
def test_training_records_every_run(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "sweep", [])
    found = [job("seed=0"), job("regularization.l1=0.1"), job("network.hidden=[3]")]
    results = jobs.train(found, sweep, processes=1)
    runs = reading.read_runs(sweep).set_index("run_id")
    assert runs["status"].tolist() == ["FINISHED"] * 3
    for one, value in zip(found, results, strict=True):
        assert value == pytest.approx(runs.loc[one.run, "best/val/loss"])
        assert len(reading.read_history(one.run, "val/loss")) == 2
        assert len(reading.read_history(one.run, "train/loss")) == 2
    assert runs.loc[found[1].run, "train/penalty"] > 0


@pytest.mark.slow
def test_runs_say_from_the_start_what_the_ranking_will_call_them(workplace: Path) -> None:
    many = [job(f"optimizer.lr={lr}", "data.fraction=0.5", f"seed={s}")
            for lr in (0.1, 1e-05) for s in (0, 1)]  # fmt: skip
    sweep = writing.start_sweep("full", "a sweep", [])
    jobs.train([*many, job("network.hidden=[5]")], sweep, processes=1)
    runs = reading.read_runs(sweep)
    assert runs["tags.configuration"].tolist() == [
        *2 * ["none · mlp 4 · optimizer.lr=0.1"], *2 * ["none · mlp 4 · optimizer.lr=1e-05"],
        "none · mlp 5",
    ]  # fmt: skip
    assert runs["tags.configuration"].equals(run_table(runs)["configuration"])


@pytest.mark.slow
def test_a_diverging_member_fails_and_the_others_finish(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = job("optimizer=sgd", "optimizer.lr=1e12")
    tame = job("optimizer=sgd", "optimizer.lr=1e-5")
    results = jobs.train([wild, tame], None, processes=1)
    assert isinstance(results[0], MemberError)
    assert "loss became" in str(results[0])
    assert isinstance(results[1], float)
    status = [MlflowClient().get_run(one.run).info.status for one in (wild, tame)]
    assert status == ["FAILED", "FINISHED"]
    assert "FAILED optimizer=sgd optimizer.lr=1e12" in caplog.text


def test_a_wrong_layer_stops_everything_before_training(workplace: Path) -> None:
    layers = "[{name:a.linear,_target_:torch.nn.Linear,in_features:3,out_features:1}]"
    wrong = Job(make_settings("network=custom", f"network.layers={layers}"), "wrong")
    expected = r"'a.linear'.*received shape \(B, 87\) and expects \(B, 3\)"
    with pytest.raises(ConfigError, match=expected):
        jobs.train([job(), wrong], None, processes=1)
    assert MlflowClient().get_experiment_by_name("full") is None  # no run was started


def test_an_error_in_one_member_is_its_own(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = fit.fit_stack

    def broken(members: list[jobs.Member], *watch: Any) -> object:
        if any(m.settings.seed == 1 for m in members):
            raise OSError("disk on fire")
        return real(members, *watch)

    monkeypatch.setattr(fit, "fit_stack", broken)
    found = [job(f"seed={s}") for s in range(3)]
    results = jobs.train(found, None, processes=1)
    assert [type(r) for r in results] == [float, MemberError, float]
    assert "a stack of 3 is tried again in halves: OSError('disk on fire')" in caplog.text
    assert "FAILED seed=1: OSError: disk on fire" in caplog.text
    tags = MlflowClient().get_run(found[1].run).data.tags
    assert "disk on fire" in tags["failure"]


def test_folds_are_averaged(workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = job("validation=kfold", "validation.folds=3")
    (result,) = jobs.train([one], None, processes=1)
    assert "halves" not in caplog.text
    children = reading.read_runs(one.run)
    assert len(children) == 3
    assert result == pytest.approx(children["best/val/loss"].mean())
    assert MlflowClient().get_run(one.run).data.metrics["best/val/loss"] == pytest.approx(result)


@pytest.mark.slow
def test_processes_change_nothing(workplace: Path) -> None:
    overrides = [["seed=0"], ["seed=1", "regularization.dropout=0.3"], ["network.hidden=[3]"]]
    here = jobs.train([job(*o) for o in overrides], None, processes=1)
    there = jobs.train([job(*o, "rerun=true") for o in overrides], None, processes=2)
    assert there == pytest.approx(here, rel=1e-5)


@pytest.mark.slow
def test_a_finished_run_is_referred_to_and_not_trained_again(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = writing.start_sweep("full", "first", [])
    old = [job("seed=0"), job("seed=1")]
    values = jobs.train(old, first, processes=1)
    second = writing.start_sweep("full", "second", [])
    new = [job("seed=2"), job("seed=1", "trainer.progress=false"), job("seed=0")]
    again = jobs.train(new, second, processes=1)
    assert [again[2], again[1]] == pytest.approx(values)
    assert "2 of 3 runs are finished already" in caplog.text
    assert [new[1].run, new[2].run] == [old[1].run, old[0].run]
    # the new sweep counts them as its own
    assert set(reading.read_runs(second)["run_id"]) == {one.run for one in new}
    jobs.train([job("seed=0", "rerun=true")], second, processes=1)
    assert len(reading.read_runs(second)) == 4
    jobs.train([job("seed=2")], second, processes=1)  # as a later batch of the same command
    assert reading.read_runs(second)["run_id"].tolist().count(new[0].run) == 1


@pytest.mark.slow
def test_a_plain_run_leaves_the_verdict_of_a_sweep(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "sweep", [])
    old = job("seed=0")
    jobs.train([old], sweep, processes=1)
    kept = {"configuration": "none", "verdict": "overfitting", "reason": "so it is", "next": "less"}
    writing.tag_verdicts(pd.DataFrame([{"run_id": old.run, **kept}]))
    assert assign_run_verdict(old.run) == "overfitting: so it is. Next: less"
    assert connection.client().get_run(old.run).data.tags["verdict"] == "overfitting"
    alone = job("seed=1")
    jobs.train([alone], None, processes=1)
    assert assign_run_verdict(alone.run).startswith("undecided: ")
    assert connection.client().get_run(alone.run).data.tags["verdict"] == "undecided"


def test_equal_jobs_of_a_sweep_are_trained_once(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "sweep", [])
    twice = [job("seed=0"), job("network.name=another")]
    results = jobs.train(twice, sweep, processes=1)
    assert results[0] == results[1]
    assert twice[0].run == twice[1].run
    assert len(reading.read_runs(sweep)) == 1


@pytest.mark.slow
def test_a_cross_validation_goes_on_with_the_folds_it_has(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("validation=kfold", "validation.folds=3", "training.epochs=20")
    first = job(*overrides, "rerun=true")
    (undisturbed,) = jobs.train([first], None, processes=1)
    measured = MlflowClient().get_run(first.run).data.metrics
    assert measured["unfinished/standard_error"] > 0
    for run in MlflowClient().search_runs(["1"]):  # as if it had been killed before its last fold
        if run.data.params.get("fold") in (None, "2"):
            MlflowClient().set_terminated(run.info.run_id, "KILLED")
    trained = []
    real = fit.fit_stack

    def watched(members: list[jobs.Member], *watch: Any) -> object:
        trained.extend(m.fold for m in members)
        return real(members, *watch)

    monkeypatch.setattr(fit, "fit_stack", watched)
    one = job(*overrides)
    (resumed,) = jobs.train([one], None, processes=1)
    assert trained == [2]
    assert resumed == pytest.approx(undisturbed)
    folds = reading.read_runs(one.run)
    assert sorted(folds["fold"]) == [0, 1, 2]
    metrics = MlflowClient().get_run(one.run).data.metrics
    assert metrics == pytest.approx(measured, rel=1e-4, abs=1e-4)


def test_stopping_keeps_what_was_measured(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fit.Progress.on_validation_end

    def interrupted(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        if trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(fit.Progress, "on_validation_end", interrupted)
    stopped = [job("training.epochs=50"), job("network.hidden=[3]")]
    with pytest.raises(KeyboardInterrupt):
        jobs.train(stopped, None, processes=1)
    first, second = (MlflowClient().get_run(one.run) for one in stopped)
    assert first.info.status == second.info.status == "KILLED"
    assert first.data.tags["failure"] == "stopped after 2 epochs"
    assert len(reading.read_history(stopped[0].run, "val/loss")) == 2
    assert "best/val/loss" not in first.data.metrics
    assert second.data.tags["failure"] == "stopped before the end of the first epoch"


def test_runs_of_a_process_that_is_gone_are_closed(workplace: Path) -> None:
    alive, dead = (writing.start_sweep("full", name, []) for name in ("alive", "dead"))
    host, number, _ = MlflowClient().get_run(dead).data.tags[PROCESS].split(".")
    # the number was given to another process since
    MlflowClient().set_tag(dead, PROCESS, f"{host}.{number}.1000000000")
    elsewhere = writing.start_sweep("full", "elsewhere", [])
    MlflowClient().set_tag(elsewhere, PROCESS, f"not-{host}.{number}.1000000000")
    assert writing.close_abandoned_runs() == 1
    states = [MlflowClient().get_run(run).info.status for run in (alive, dead, elsewhere)]
    assert states == ["RUNNING", "KILLED", "RUNNING"]


SCRIPT = """
from bikefit.sweeps.processes import Board, run

board = Board(2)
for index, results in run([[None], [None]], 2, board):
    print(index, results[0].reason)
board.close()
"""


@pytest.mark.process
def test_workers_that_never_begin_are_given_up(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)  # every worker would start the script anew
    done = subprocess.run(
        [sys.executable, str(script)], check=True, capture_output=True, text=True, timeout=60,
        cwd=tmp_path,
    )  # fmt: skip
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["0", "1"]
    assert done.stdout.count("below `if __name__ == '__main__':`") == 2


ENDLESS = """
import os, time
from joblib.externals.loky import get_reusable_executor
from bikefit.sweeps.processes import start
if __name__ == "__main__":
    start()
    executor = get_reusable_executor(max_workers=2)
    print(*{executor.submit(os.getpid).result() for _ in range(2)}, os.getpid(), flush=True)
    executor.submit(time.sleep, 60).result()
"""


@pytest.mark.slow(seconds=10)
def test_workers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(ENDLESS)
    command = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with command, command.stdout as output:  # type: ignore[union-attr]
        assert output.readline()
        started = psutil.Process(command.pid).children(recursive=True)
        assert len(started) >= 3  # the server and two workers
        command.kill()
        _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive


@pytest.mark.process
def test_workers_share_one_server_that_has_loaded_what_training_needs() -> None:
    processes.start()
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        assert pool.submit(eval, "'bikefit.training.fit' in __import__('sys').modules").result()
        first = pool.submit(os.getppid).result()
    processes.start()
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        assert pool.submit(os.getppid).result() == first
