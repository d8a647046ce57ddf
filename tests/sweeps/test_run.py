"""Jobs are trained, reused, retried, interrupted and resumed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from bikefit.comparison.result import assign_run_verdict
from bikefit.comparison.runs import run_table
from bikefit.config import ConfigError, run_name
from bikefit.sweeps.jobs import Job, JobError
from bikefit.sweeps.recording import CHECKPOINTS
from bikefit.sweeps.run import check_jobs, train_jobs
from bikefit.tracking import connection, reading, writing
from bikefit.training import callbacks, fit
from bikefit.training.checkpoints import checkpoint_dirs
from conftest import make_settings
from inline import INLINE

QUICK = ["network.hidden=[4]", "training.epochs=2", "training.batch_size=64"]
FOLDS = ("validation=kfold", "validation.folds=3")
SETS = ("validation=resample", "validation.sets=3")


def make_job(*overrides: str) -> Job:
    quick = QUICK[1:] if "network=custom" in overrides else QUICK
    return Job(make_settings(*quick, *overrides), " ".join(overrides))


def run_of(job: Job) -> Any:
    return MlflowClient().get_run(job.run)


def history(job: Job) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(m.step, m.value) for m in connection.client().get_metric_history(job.run, name)]
        for name in ("train/loss", "val/loss", "best/val/loss")
    }


def record_calls(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Return a list that gets the members of each stack that is trained."""
    trained: list[list[Any]] = []
    real = fit.fit_stack

    def recorded(members: Any, *rest: Any) -> Any:
        trained.append(list(members))
        return real(members, *rest)

    monkeypatch.setattr(fit, "fit_stack", recorded)
    return trained


def after_step(epoch: int, action: Callable[[Any], object]) -> pytest.MonkeyPatch:
    """Call a function after each step of an epoch (from 0) until the patch is undone."""
    patch = pytest.MonkeyPatch()
    real = callbacks.StopCheck.on_train_batch_end

    def then(self: Any, trainer: Any, module: Any, *rest: Any) -> None:
        real(self, trainer, module, *rest)
        if trainer.current_epoch == epoch:
            action(module)

    patch.setattr(callbacks.StopCheck, "on_train_batch_end", then)
    return patch


@pytest.mark.slow
def test_training_records_every_run(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "sweep", [])
    jobs = [make_job("seed=0"), make_job("regularization.l1=0.1"), make_job("network.hidden=[3]")]
    results = train_jobs(jobs, sweep, engine=INLINE)
    runs = reading.read_runs(sweep).set_index("run_id")
    assert runs["status"].tolist() == ["FINISHED"] * 3
    for job, value in zip(jobs, results, strict=True):
        assert value == pytest.approx(runs.loc[job.run, "best/val/loss"])
        assert len(reading.read_history(job.run, "val/loss")) == 2
        assert len(reading.read_history(job.run, "train/loss")) == 2
    assert runs.loc[jobs[1].run, "train/penalty"] > 0
    assert not list(CHECKPOINTS.iterdir())


@pytest.mark.slow
def test_training_does_not_wait_for_the_runs_in_mlflow(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = record_calls(monkeypatch)
    stacks_before: list[int] = []
    real = writing.start_job

    def start_job(*arguments: Any, **more: Any) -> str:
        stacks_before.append(len(trained))
        return real(*arguments, **more)

    monkeypatch.setattr(writing, "start_job", start_job)
    train_jobs([make_job("seed=0"), make_job("seed=1")], None, engine=INLINE)
    assert stacks_before == [1, 1]


@pytest.mark.slow
def test_configurations_are_named_from_the_start_as_in_the_ranking(workplace: Path) -> None:
    many = [
        make_job(f"optimizer.lr={lr}", "data.fraction=0.5", f"seed={s}")
        for lr in (0.1, 1e-05)
        for s in (0, 1)
    ]
    sweep = writing.start_sweep("full", "a sweep", [])
    train_jobs([*many, make_job("network.hidden=[5]")], sweep, engine=INLINE)
    runs = reading.read_runs(sweep)
    assert runs["tags.configuration"].tolist() == [
        *2 * ["none · mlp 4 · optimizer.lr=0.1"],
        *2 * ["none · mlp 4 · optimizer.lr=1e-05"],
        "none · mlp 5",
    ]
    assert runs["tags.configuration"].equals(run_table(runs)["configuration"])


@pytest.mark.slow
def test_networks_that_cannot_be_stacked_train_alone(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    noisy = "[{name: a, _target_: torch.nn.Dropout},{name: b, _target_: torch.nn.Linear}]"
    layers = f"network.layers={noisy.replace('Linear', 'Linear, out_features: 1')}"
    custom = [make_job("network=custom", layers, f"seed={seed}") for seed in (0, 1)]
    jobs = [make_job("seed=0"), make_job("seed=1"), *custom]
    check_jobs(jobs)
    train_jobs(jobs, None, engine=INLINE)
    assert "4 members in 3 stacks (of 2, 1, 1) on 1 processes" in caplog.text
    assert caplog.text.count("trains alone, because it cannot be stacked") == 2
    assert "(a.layer: vmap: called random operation" in caplog.text


@pytest.mark.slow
def test_a_diverging_member_fails_and_the_others_finish(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = make_job("optimizer=sgd", "optimizer.lr=1e12")
    tame = make_job("optimizer=sgd", "optimizer.lr=1e-5")
    results = train_jobs([wild, tame], None, engine=INLINE)
    assert isinstance(results[0], JobError)
    assert "loss became" in str(results[0])
    assert isinstance(results[1], float)
    assert [run_of(job).info.status for job in (wild, tame)] == ["FAILED", "FINISHED"]
    assert "FAILED optimizer=sgd optimizer.lr=1e12" in caplog.text


def test_a_wrong_layer_is_an_error_before_training(workplace: Path) -> None:
    layers = "[{name:a.linear,_target_:torch.nn.Linear,in_features:3,out_features:1}]"
    wrong = Job(make_settings("network=custom", f"network.layers={layers}"), "wrong")
    expected = r"'a.linear'.*received shape \(B, 87\) and expects \(B, 3\)"
    with pytest.raises(ConfigError, match=expected):
        check_jobs([make_job(), wrong])


def test_a_stack_that_raises_is_retried_and_then_each_member_alone(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, sizes = fit.fit_stack, []

    def broken(members: Any, *rest: Any) -> object:
        sizes.append(len(members))
        if any(m.settings.seed == 1 for m in members):
            raise OSError("disk on fire")
        return real(members, *rest)

    monkeypatch.setattr(fit, "fit_stack", broken)
    jobs = [make_job(f"seed={s}") for s in range(3)]
    results = train_jobs(jobs, None, engine=INLINE)
    assert sizes == [3, 3, 1, 1, 1]
    assert [type(r) for r in results] == [float, JobError, float]
    assert "a stack of 3 is trained again: OSError: disk on fire" in caplog.text
    assert "FAILED seed=1: OSError: disk on fire" in caplog.text
    assert run_of(jobs[1]).data.tags["failure"].endswith("OSError: disk on fire")
    assert [run_of(job).info.status for job in jobs] == ["FINISHED", "FAILED", "FINISHED"]
    assert not list(CHECKPOINTS.iterdir())


@pytest.mark.parametrize("overrides", [FOLDS, SETS])
def test_folds_and_training_sets_are_averaged(workplace: Path, overrides: tuple[str, ...]) -> None:
    job = make_job(*overrides)
    (result,) = train_jobs([job], None, engine=INLINE)
    children = reading.read_runs(job.run)
    assert len(children) == 3
    assert result == pytest.approx(children["best/val/loss"].mean())
    assert run_of(job).info.status == "FINISHED"
    assert run_of(job).data.metrics["best/val/loss"] == pytest.approx(result)


@pytest.mark.slow
def test_a_finished_run_is_reused(workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first = writing.start_sweep("full", "first", [])
    old = [make_job("seed=0"), make_job("seed=1")]
    values = train_jobs(old, first, engine=INLINE)
    second = writing.start_sweep("full", "second", [])
    new = [make_job("seed=2"), make_job("seed=1", "trainer.progress=false"), make_job("seed=0")]
    again = train_jobs(new, second, engine=INLINE)
    assert [again[2], again[1]] == pytest.approx(values)
    assert "2 of 3 runs are finished already" in caplog.text
    assert [new[1].run, new[2].run] == [old[1].run, old[0].run]
    assert set(reading.read_runs(second)["run_id"]) == {job.run for job in new}
    train_jobs([make_job("seed=0", "rerun=true")], second, engine=INLINE)
    assert len(reading.read_runs(second)) == 4
    train_jobs([make_job("seed=2")], second, engine=INLINE)  # as a later batch of the same command
    assert reading.read_runs(second)["run_id"].tolist().count(new[0].run) == 1


@pytest.mark.slow
def test_a_single_run_has_the_verdict_of_its_sweep(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "sweep", [])
    old = make_job("seed=0")
    train_jobs([old], sweep, engine=INLINE)
    verdict = {"configuration": "none", "verdict": "overfitting", "reason": "gap", "next": "less"}
    writing.tag_verdicts(pd.DataFrame([{"run_id": old.run, **verdict}]))
    assert assign_run_verdict(old.run) == "overfitting: gap. Next: less"
    assert run_of(old).data.tags["verdict"] == "overfitting"
    alone = make_job("seed=1")
    train_jobs([alone], None, engine=INLINE)
    assert assign_run_verdict(alone.run).startswith("undecided: ")
    assert run_of(alone).data.tags["verdict"] == "undecided"


def test_equal_jobs_of_a_sweep_are_trained_once(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "sweep", [])
    twice = [make_job("seed=0"), make_job("network.name=another")]
    results = train_jobs(twice, sweep, engine=INLINE)
    assert results[0] == results[1]
    assert twice[0].run == twice[1].run
    assert len(reading.read_runs(sweep)) == 1


def test_networks_of_training_sets_have_seeds_of_their_own(workplace: Path) -> None:
    seeds = [[m.settings.seed for m in make_job(*SETS, f"seed={s}").members] for s in (0, 1)]
    assert seeds == [[0, 1, 2], [3, 4, 5]]
    names = [run_name(make_settings(*chosen), 2) for chosen in (FOLDS, SETS)]
    assert [name.split(" · ")[-1] for name in names] == ["fold 2", "set 2"]


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [FOLDS, SETS])
def test_finished_folds_are_reused(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    overrides = (*overrides, "training.epochs=20")
    first = make_job(*overrides, "rerun=true")
    (undisturbed,) = train_jobs([first], None, engine=INLINE)
    measured = run_of(first).data.metrics
    assert measured["unfinished/standard_error"] > 0
    for run in MlflowClient().search_runs(["1"]):  # as if it had been killed before its last fold
        if run.data.params.get("fold") in (None, "2"):
            MlflowClient().set_terminated(run.info.run_id, "KILLED")
    trained = record_calls(monkeypatch)
    job = make_job(*overrides)
    (resumed,) = train_jobs([job], None, engine=INLINE)
    assert [[member.fold for member in stack] for stack in trained] == [[2]]
    assert resumed == pytest.approx(undisturbed)
    assert sorted(reading.read_runs(job.run)["fold"]) == [0, 1, 2]
    assert run_of(job).data.metrics == pytest.approx(measured, rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_after_ctrl_c_a_stack_resumes_from_its_checkpoint(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(callbacks.INTERVAL, "0")
    long = ("training.epochs=20", "rerun=true")
    undisturbed = make_job(*long)
    train_jobs([undisturbed], None, engine=INLINE)
    sent = False

    def interrupt(module: Any) -> None:
        nonlocal sent
        if not sent:
            sent = True
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    stopped, other = make_job(*long), make_job("network.hidden=[3]")
    patch = after_step(2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_jobs([stopped, other], None, engine=INLINE)
    patch.undo()
    # the inline engine trains before runs are started, so there is nothing to record
    (left, _) = sorted(checkpoint_dirs(CHECKPOINTS.absolute()), key=lambda d: -d.epoch())
    assert left.epoch() == 2
    resumed = make_job(*long)
    train_jobs([resumed, make_job("network.hidden=[3]")], None, engine=INLINE)
    assert history(resumed) == history(undisturbed)
    assert not list(CHECKPOINTS.iterdir())
