"""A command that is killed goes on where it was, however its stacks are cut the next time."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bikefit.sweeps import halving, jobs
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.resuming import CHECKPOINTS, Kept, left_behind
from bikefit.tracking import connection
from bikefit.training import callbacks, fit
from bikefit.training.checkpoints import Checkpoint, Place, places
from bikefit.training.epochs import Folders
from conftest import make_settings

SMALL = ["network.hidden=[4]", "training.epochs=5", "training.batch_size=64"]


def found(*overrides: str, seeds: int = 4) -> list[Job]:
    return [
        Job(make_settings(*SMALL, *overrides, f"seed={seed}"), f"seed={seed}")
        for seed in range(seeds)
    ]


def kept(root: Path, names: Sequence[str], epoch: int) -> Place:
    place = Place(root, names)
    place.open()
    if epoch:
        values = {"x": np.arange(len(names))}
        place.save(Checkpoint(epoch, [None] * len(names), values))
    return place


def slices(root: Path, names: Sequence[str]) -> list[int]:
    checkpoint = Place(root, names).load()
    assert checkpoint is not None
    return list(checkpoint.values["x"].tolist())


def test_a_stack_that_is_all_to_be_trained_stays_as_it_was(tmp_path: Path) -> None:
    kept(tmp_path, ["f-c", "f-a"], epoch=2)
    kept(tmp_path, ["f-b", "f-d"], epoch=0)
    assert left_behind(tmp_path, ["f-a", "f-b", "f-c", "f-d", "f-e"]) == [
        ["f-c", "f-a"], ["f-b", "f-d"],
    ]  # fmt: skip


def test_members_that_are_left_go_on_with_their_slices(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    kept(tmp_path, ["f-a", "f-b", "f-c"], epoch=2)
    kept(tmp_path, ["f-d", "f-e"], epoch=0)
    assert left_behind(tmp_path, ["f-c", "f-a", "f-d"]) == [["f-a", "f-c"]]
    assert slices(tmp_path, ["f-a", "f-c"]) == [0, 2]
    assert "2 members go on at a checkpoint, after 2 to 2 epochs" in caplog.text


def test_a_stack_that_shall_be_smaller_is_cut(tmp_path: Path) -> None:
    kept(tmp_path, ["f-a", "f-b", "f-c"], epoch=2)
    stacks = left_behind(tmp_path, ["f-a", "f-b", "f-c"], stack_size=2)
    assert stacks == [["f-a", "f-b"], ["f-c"]]
    assert slices(tmp_path, ["f-c"]) == [2]


def test_the_half_of_a_stack_that_was_further_counts(tmp_path: Path) -> None:
    whole = kept(tmp_path, ["f-a", "f-b", "f-c", "f-d"], epoch=2)
    kept(whole.folder, ["f-c", "f-d"], epoch=4)
    assert left_behind(tmp_path, ["f-a", "f-b", "f-c", "f-d"]) == [["f-c", "f-d"], ["f-a", "f-b"]]
    assert Place(tmp_path, ["f-c", "f-d"]).epoch() == 4
    assert slices(tmp_path, ["f-a", "f-b"]) == [0, 1]


def test_what_other_code_left_is_not_used_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    kept(tmp_path, ["old-a"], epoch=2)
    assert left_behind(tmp_path, ["new-a"]) == []
    assert "holds 1 stacks of other code or data: not used here" in caplog.text


def test_a_stack_goes_once_its_members_are_recorded(tmp_path: Path) -> None:
    source = kept(tmp_path, ["f-a", "f-b", "f-z"], epoch=2)
    of = Kept(tmp_path, [["f-a", "f-b"], ["f-c"]])
    of.recorded(["f-a", "f-c"])
    assert {place.folder.name for place in places(tmp_path)} == {
        source.folder.name, Place(tmp_path, ["f-a", "f-b"]).folder.name,
    }  # fmt: skip
    of.recorded(["f-b"])
    of.clear()
    assert [place.folder for place in places(tmp_path)] == [source.folder]
    of.recorded(["f-z"])
    of.clear()
    assert places(tmp_path) == []


class Killed(BaseException):
    """As if the process were gone."""


def kill_in_epoch(epoch: int) -> pytest.MonkeyPatch:
    """Let training end in the middle of an epoch, until the patch is undone."""
    patch = pytest.MonkeyPatch()
    real = fit.Progress.on_train_batch_end

    def dies(self: Any, trainer: Any, *rest: Any) -> None:
        real(self, trainer, *rest)
        if trainer.current_epoch == epoch:
            raise Killed

    patch.setattr(fit.Progress, "on_train_batch_end", dies)
    return patch


def history(job: Job) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(m.step, m.value) for m in connection.client().get_metric_history(job.run, name)]
        for name in ("train/loss", "val/loss", "best/val/loss")
    }


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_the_same_bits(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv(callbacks.EVERY, "0")
    undisturbed = found()
    jobs.train(undisturbed, None, processes=1, stack_size=2)
    assert not places(CHECKPOINTS.absolute())
    patch = kill_in_epoch(3)
    with pytest.raises(Killed):
        jobs.train(found("rerun=true"), None, processes=1, stack_size=2)
    patch.undo()
    assert sorted(place.epoch() for place in places(CHECKPOINTS.absolute())) == [0, 3]
    # other processes and stacks would be cut otherwise: what was cut stays as it was
    trained = []
    real = fit.fit_stack

    def watched(members: list[Any], *watch: Any) -> object:
        trained.append(len(members))
        return real(members, *watch)

    monkeypatch.setattr(fit, "fit_stack", watched)
    monkeypatch.setattr(jobs, "_slots", lambda *_: 1)
    resumed = found("rerun=true")
    jobs.train(resumed, None, processes=1)
    assert trained == [2, 2]
    assert "2 members go on at a checkpoint, after 3 to 3 epochs" in caplog.text
    for one, other in zip(resumed, undisturbed, strict=True):
        assert history(one) == history(other)
    assert not places(CHECKPOINTS.absolute())


@pytest.mark.slow
def test_ctrl_c_keeps_the_checkpoint_and_a_plain_run_goes_on(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(callbacks.EVERY, "0")
    (undisturbed,) = found("rerun=true", seeds=1)
    jobs.train([undisturbed], None, processes=1)
    real = fit.Progress.on_validation_end

    def interrupted(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        if trainer.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    (stopped,) = found("rerun=true", seeds=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit.Progress, "on_validation_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            jobs.train([stopped], None, processes=1)
    assert len(history(stopped)["val/loss"]) == 3
    (place,) = places(CHECKPOINTS.absolute())
    assert place.epoch() == 3
    (resumed,) = found("rerun=true", seeds=1)
    jobs.train([resumed], None, processes=1)
    assert history(resumed) == history(undisturbed)
    assert places(CHECKPOINTS.absolute()) == []


@pytest.mark.slow
def test_halves_of_a_stack_that_fails_go_on_at_its_checkpoint(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(callbacks.EVERY, "0")
    undisturbed = found()
    jobs.train(undisturbed, None, processes=1, stack_size=2)
    real, begun = fit.Progress.on_train_batch_end, []

    def fails(self: Any, trainer: Any, module: Any, *rest: Any) -> None:
        begun.append((module.stack.size, trainer.current_epoch))
        if module.stack.size == 4 and trainer.current_epoch == 3:
            raise MemoryError("too many")
        real(self, trainer, module, *rest)

    monkeypatch.setattr(fit.Progress, "on_train_batch_end", fails)
    resumed = found("rerun=true")
    jobs.train(resumed, None, processes=1, stack_size=4)
    assert min(epoch for size, epoch in begun if size == 2) == 3
    for one, other in zip(resumed, undisturbed, strict=True):
        assert np.allclose(history(one)["val/loss"], history(other)["val/loss"], rtol=1e-4)
    assert not places(CHECKPOINTS.absolute())


def test_stacks_without_a_folder_train_without_checkpoints(workplace: Path) -> None:
    members = [one.members()[0] for one in found(seeds=2)]
    results = halving.fit(members, folders=Folders(workplace / "nowhere"))
    assert [result.failure for result in results] == [None, None]
    assert not (workplace / "nowhere").exists()
