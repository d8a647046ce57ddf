"""Runs grow in MLflow while their members train, and each epoch is there once."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from bikefit.sweeps import jobs, live
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.live import Live
from bikefit.tracking import connection, outbox, reading, writing
from bikefit.tracking.connection import StoreUnavailableError
from bikefit.training import callbacks, fit
from bikefit.training.epochs import Writer
from conftest import make_settings

SMALL = ["network.hidden=[4]", "training.epochs=6", "training.batch_size=64"]


def found(*overrides: str) -> Job:
    return Job(make_settings(*SMALL, *overrides), " ".join(overrides))


def steps(run: str, metric: str = "val/loss") -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in connection.client().get_metric_history(run, metric)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look and send many times a second."""
    monkeypatch.setattr(live, "LOOK", 0.01)
    monkeypatch.setattr(live, "SEND", 0.01)
    monkeypatch.setattr(live, "SHARE", 1.0)
    monkeypatch.setattr(outbox, "_pause_until", 0.0)


def wait(ready: Any) -> None:
    end = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < end, "nothing comes"
        time.sleep(0.01)


def running() -> list[str]:
    store = MlflowClient()
    experiments = [e.experiment_id for e in store.search_experiments()]
    return [r.info.run_id for r in store.search_runs(experiments, "attributes.status = 'RUNNING'")]


def after_epoch(number: int, do: Callable[[], object]) -> pytest.MonkeyPatch:
    """Do something after an epoch of every stack, until the patch is undone."""
    patch, real = pytest.MonkeyPatch(), fit.Progress.on_validation_end

    def then(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        if trainer.current_epoch + 1 == number:
            do()

    patch.setattr(fit.Progress, "on_validation_end", then)
    return patch


def assert_whole(run: str, epochs: int) -> None:
    """Every epoch once, in every metric."""
    store = MlflowClient()
    assert store.get_run(run).info.status == "FINISHED"
    metrics = [key for key in store.get_run(run).data.metrics if key.startswith(("train/", "val/"))]
    assert len(metrics) >= 7
    for metric in metrics:
        assert [step for step, _ in steps(run, metric)] == list(range(1, epochs + 1)), metric


@pytest.mark.slow
def test_runs_grow_while_their_members_train(workplace: Path) -> None:
    many = [found("seed=0"), found("seed=1", "regularization.l2=0.1")]
    seen: dict[str, list[tuple[int, float]]] = {}

    def look() -> None:
        wait(lambda: all(len(steps(run)) == 4 for run in running()))
        seen.update({run: steps(run) for run in running()})

    patch = after_epoch(4, look)
    jobs.train(many, None, processes=1)
    patch.undo()
    assert seen.keys() == {one.run for one in many}
    for one in many:
        assert_whole(one.run, 6)
        assert steps(one.run)[:4] == seen[one.run]
    (again,) = jobs.train([found("seed=0", "rerun=true")], None, processes=1)
    assert again == pytest.approx(steps(many[0].run)[-1][1], rel=1e-4)
    # a penalty of a neighbour is no metric of a member
    assert "train/penalty/hidden1" not in MlflowClient().get_run(many[0].run).data.metrics
    assert not list((workplace / "checkpoints/epochs").iterdir())


@pytest.mark.slow
def test_early_stopping_and_folds_grow_as_far_as_they_go(workplace: Path) -> None:
    hasty = ["optimizer.lr=0.05", "training.epochs=12", "validation=kfold", "validation.folds=2"]
    one = found(*hasty, "regularization.patience=1")
    patch = after_epoch(2, lambda: time.sleep(0.3))
    jobs.train([one], None, processes=1)
    patch.undo()
    for fold in reading.read_runs(one.run).to_dict("records"):
        assert_whole(fold["run_id"], min(12, int(fold["best/epoch"]) + 1))


def test_a_store_that_is_away_holds_nothing_up_and_loses_nothing(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PAUSE", 0.05)
    calls, real = [], outbox.log_batch

    def away(run: str, metrics: Any, tags: Any) -> None:
        calls.append(len(metrics))
        if len(calls) % 2:
            real(run, metrics, tags)  # taken, but the answer is lost on the way
            raise StoreUnavailableError("does not answer")
        real(run, metrics, tags)

    monkeypatch.setattr(outbox, "log_batch", away)
    monkeypatch.setattr(writing, "log_batch", away)
    one = found("seed=0")
    patch = after_epoch(3, lambda: wait(lambda: len(calls) > 1))
    jobs.train([one], None, processes=1)
    patch.undo()
    assert outbox.send_unsent() == 0
    assert_whole(one.run, 6)


@pytest.mark.slow
def test_a_run_that_goes_on_has_its_whole_history(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(callbacks.EVERY, "0")
    killed, resumed = found("seed=0"), found("seed=0")

    class Killed(BaseException):
        pass

    def die() -> None:
        wait(lambda: len(steps(killed.run)) == 4)
        raise Killed

    patch = after_epoch(4, die)
    with pytest.raises(Killed):
        jobs.train([killed], None, processes=1)
    patch.undo()
    assert [step for step, _ in steps(killed.run)] == [1, 2, 3, 4]
    patch = after_epoch(5, lambda: wait(lambda: len(steps(resumed.run)) == 5))
    jobs.train([resumed], None, processes=1)
    patch.undo()
    assert_whole(resumed.run, 6)
    assert steps(resumed.run)[:4] == steps(killed.run)


def test_a_run_alone_shows_epochs_and_losses(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    real = jobs.tqdm.set_description_str

    def show(self: Any, text: str, refresh: bool = True) -> None:
        shown.append(text)
        real(self, text, refresh)

    monkeypatch.setattr(jobs.tqdm, "set_description_str", show)
    one = found("seed=0")
    patch = after_epoch(4, lambda: wait(lambda: any("epoch 4/6" in text for text in shown)))
    jobs.train([one], None, processes=1)
    patch.undo()
    history = [reading.read_history(one.run, name)[3] for name in ("train/loss", "val/loss")]
    train, val = (f"{value:.4g}" for value in history)
    assert f"epoch 4/6 · train loss {train} · validation loss {val}" in shown


# ---- the thread ----


def write(folder: Path, first: int, *values: float, marks: Sequence[str] = ("a", "b")) -> None:
    numbers = np.array(values)[:, None, None] + np.arange(len(marks))
    names = ["val/loss", "train/loss"]
    Writer(folder, marks).write(names, first, np.repeat(numbers, len(names), axis=1))


def test_epochs_are_known_once_whoever_tells_them(workplace: Path) -> None:
    with Live(workplace / "checkpoints") as reading:
        write(reading.folder, 1, 5.0, 4.0)
        wait(lambda: reading.epochs() == 4)
        write(reading.folder, 1, 5.5, 4.5, 3.5, marks=("b",))  # half of a stack, begun anew
        wait(lambda: reading.epochs() == 5)
        assert reading.counts == {"a": 2, "b": 3}
    assert not reading.folder.exists()


def test_half_a_row_is_waited_for(workplace: Path) -> None:
    with Live(workplace / "checkpoints") as reading:
        write(reading.folder, 1, 5.0)
        (file,) = reading.folder.iterdir()
        wait(lambda: reading.epochs() == 2)
        row = np.array([2.0, 4.0, 4.0, 4.0, 4.0]).tobytes()
        for part in (row[:13], row[13:]):
            assert reading.epochs() == 2
            with file.open("ab") as opened:
                opened.write(part)
            time.sleep(0.1)
        wait(lambda: reading.epochs() == 4)


def test_what_commands_that_are_gone_left_is_removed(workplace: Path) -> None:
    folder = workplace / "checkpoints/epochs"
    left = [folder / f"{socket.gethostname()}.999999999.1", folder / "another-host.1.1"]
    for one in left:
        one.mkdir(parents=True)
    with Live(workplace / "checkpoints") as reading:
        assert set(folder.iterdir()) == {left[1], reading.folder}


def test_a_full_disk_leaves_the_epochs_to_the_end(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        reading = Live(workplace / "checkpoints")
    with reading:
        write(reading.folder, 1, 5.0)
        assert reading.epochs() == 0
    assert "epochs come to MLflow at the end only" in caplog.text
