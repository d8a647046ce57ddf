"""Jobs become members, stacks and runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from bikefit import jobs, tracking
from bikefit.jobs import Job, MemberError, Task, make_stacks
from conftest import make_settings

QUICK = ["network.hidden=[4]", "training.epochs=2", "training.batch_size=64"]


def job(*overrides: str) -> Job:
    return Job(make_settings(*QUICK, *overrides), " ".join(overrides))


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


def test_folds_are_members(workplace: Path) -> None:
    folds = job("validation=kfold", "validation.folds=3")
    assert [member.fold for member in folds.members()] == [0, 1, 2]


def test_training_records_every_run(workplace: Path) -> None:
    sweep = tracking.start_sweep("full", "sweep", [])
    found = [job("seed=0"), job("regularization.l1=0.1"), job("network.hidden=[3]")]
    results = jobs.train(found, sweep, processes=1)
    runs = tracking.read_runs(sweep).set_index("run_id")
    assert runs["status"].tolist() == ["FINISHED"] * 3
    for one, value in zip(found, results, strict=True):
        assert value == pytest.approx(runs.loc[one.run, "best/val/loss"])
        assert len(tracking.read_history(one.run, "val/loss")) == 2
        assert len(tracking.read_history(one.run, "train/loss")) == 2
    assert runs.loc[found[1].run, "train/penalty"] > 0


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
    with pytest.raises(ValueError, match=expected):
        jobs.train([job(), wrong], None, processes=1)
    assert MlflowClient().get_experiment_by_name("full") is None  # no run was started


def test_an_error_in_one_member_is_its_own(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = jobs.fit_stack

    def broken(members: list[jobs.Member], report: object) -> object:
        if any(m.settings.seed == 1 for m in members):
            raise OSError("disk on fire")
        return real(members, report)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "fit_stack", broken)
    found = [job(f"seed={s}") for s in range(3)]
    results = jobs.train(found, None, processes=1)
    assert [type(r) for r in results] == [float, MemberError, float]
    assert "FAILED seed=1: OSError: disk on fire" in caplog.text
    tags = MlflowClient().get_run(found[1].run).data.tags
    assert "disk on fire" in tags["failure"]


def test_folds_are_averaged(workplace: Path) -> None:
    one = job("validation=kfold", "validation.folds=3")
    (result,) = jobs.train([one], None, processes=1)
    children = tracking.read_runs(one.run)
    assert len(children) == 3
    assert result == pytest.approx(children["best/val/loss"].mean())
    assert MlflowClient().get_run(one.run).data.metrics["best/val/loss"] == pytest.approx(result)


@pytest.mark.slow
def test_processes_change_nothing(workplace: Path) -> None:
    overrides = [["seed=0"], ["seed=1", "regularization.dropout=0.3"], ["network.hidden=[3]"]]
    here = jobs.train([job(*o) for o in overrides], None, processes=1)
    there = jobs.train([job(*o) for o in overrides], None, processes=2)
    assert there == pytest.approx(here, rel=1e-5)
