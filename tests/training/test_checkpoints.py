"""Checkpoints and results of a stack; resumed training gives the same bits."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pretended
from bikefit.training import callbacks, checkpoints
from bikefit.training.checkpoints import (
    CHECKPOINT,
    STACK,
    TIMESTAMPS,
    CheckpointDir,
    MemberRuns,
    checkpoint_dirs,
)
from bikefit.training.members import Member, MemberResult
from conftest import make_settings, train_stack

SMALL = ["network.hidden=[8,6]", "training.epochs=6", "training.batch_size=32", "data=lecture"]
STACKS = {
    "adam": [["regularization.l2=0.1"], ["optimizer.lr=0.01"], ["seed=1"]],
    "momentum": [
        ["optimizer=sgd", "optimizer.momentum=0.9", "optimizer.lr=1e-5", f"seed={s}"]
        for s in (0, 1)
    ],
    "proximal": [
        ["regularization.proximal=true", f"regularization.l1={v}", "optimizer.schedule=one_cycle"]
        for v in (0.0, 0.3)
    ],
    "dropout": [
        [f"regularization.dropout={p}", "regularization.averaged=2", f"seed={s}"]
        for p in (0.2, 0.5)
        for s in (0, 1)
    ],
    "batch_norm": [["regularization.batch_norm=before", f"seed={s}"] for s in (0, 1)],
    "early_stopping": [
        ["optimizer.lr=0.05", "training.epochs=12", f"regularization.patience={p}", f"seed={s}"]
        for p in (1, 4)
        for s in (0, 1)
    ],
    "diverging": [["optimizer=sgd", f"optimizer.lr={v}"] for v in ("1e10", "1e-5")],
    "folds": [["validation=kfold", "validation.folds=3", f"seed={s}"] for s in (0, 1)],
    "training sets": [["validation=resample", "validation.sets=3"]],
    "torch dropout": [
        [
            "network=custom",
            "network.layers=[{name: a, _target_: torch.nn.Dropout},"
            "{name: b, _target_: torch.nn.Linear, out_features: 1}]",
        ]
    ],
}


def stack(name: str) -> list[Member]:
    small = SMALL[1:] if name == "torch dropout" else SMALL
    settings = [make_settings(*small, *overrides) for overrides in STACKS[name]]
    folds = range(3) if name in ("folds", "training sets") else [None]
    members = [Member(chosen, fold) for chosen in settings for fold in folds]
    return [replace(member, fingerprint=f"f-{m}") for m, member in enumerate(members)]


@pytest.fixture
def root(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root for checkpoints, which are written after every epoch."""
    monkeypatch.setenv(callbacks.INTERVAL, "0")
    return workplace / "checkpoints"


class KilledError(BaseException):
    """Simulates a kill in the middle of an epoch."""


def interrupt(members: Sequence[Member], directory: CheckpointDir, epoch: int) -> None:
    """Train until after the first step that follows the given epoch."""
    directory.create()

    def stopping() -> bool:
        if directory.epoch() == epoch:
            raise KilledError
        return False

    with pytest.raises(KilledError):
        train_stack(members, directory, stopping)


def assert_same(results: Sequence[MemberResult], others: Sequence[MemberResult]) -> None:
    """Assert that results have the same bits."""
    same = [[replace(result, timestamps=[]) for result in stack] for stack in (results, others)]
    np.testing.assert_equal(*([vars(result) for result in stack] for stack in same))


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_resuming_gives_the_same_bits(root: Path, name: str) -> None:
    members = stack(name)
    uninterrupted = train_stack(members)
    directory = CheckpointDir(root, members)
    interrupt(members, directory, 1)
    epochs = [len(result.metrics["val/loss"]) for result in uninterrupted]
    # With early stopping, interrupt when some members have stopped.
    interrupt(members, directory, min(epochs) if min(epochs) < max(epochs) else 3)
    first, _ = directory.histories()
    for _ in range(2):  # the second time, from the checkpoint of the last epoch
        assert_same(train_stack(members, directory), uninterrupted)
        last, _ = directory.histories()
        assert last[: len(first)] == first
        assert len(last) == max(epochs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dropout", "folds"])
def test_training_on_another_device_resumes(root: Path, name: str) -> None:
    members = stack(name)
    directory = CheckpointDir(root, members)
    with pretended.training():
        uninterrupted = train_stack(members)
        interrupt(members, directory, 2)
        resumed = train_stack(members, directory)
    assert_same(resumed, uninterrupted)


def test_histories_are_those_of_the_result(root: Path) -> None:
    members = stack("adam")
    directory = CheckpointDir(root, members)
    assert directory.histories() == ([], [{}, {}, {}])
    directory.create()
    results = train_stack(members, directory)
    stamps, histories = directory.histories()
    assert len(stamps) == 6 and stamps == sorted(stamps)
    for history, result in zip(histories, results, strict=True):
        finite = {name for name, values in history.items() if not np.isnan(values).all()}
        assert finite == set(result.metrics)
        for name, values in result.metrics.items():
            # Train metrics of the selected epoch are those of all training rows.
            sampled = name.startswith("train/") and "penalty" not in name
            epochs = slice(0, -1 if sampled else None)
            assert np.array_equal(values[epochs], history[name][epochs])


def test_a_short_stack_writes_no_checkpoint(workplace: Path) -> None:
    members = stack("adam")
    directory = CheckpointDir(workplace / "checkpoints", members)
    directory.create()
    result = train_stack(members, directory)[0]
    assert [file.name for file in directory.folder.iterdir()] == [STACK]
    assert len(result.timestamps) == 6


@pytest.mark.slow
def test_checkpoints_take_at_most_two_percent_of_the_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(callbacks.INTERVAL, "0.001")
    seconds = iter(range(1000))
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)), time=lambda: 0.0)
    monkeypatch.setattr(callbacks, "time", clock)
    written = []
    monkeypatch.setattr(
        CheckpointDir, "save", lambda self, values: written.append(len(values[TIMESTAMPS]))
    )
    member = Member(make_settings(*SMALL, "training.epochs=60"))
    directory = CheckpointDir(root, [member])
    directory.create()
    train_stack([member], directory)
    # a write takes a second of this clock, so 50 epochs of a second pass until the next one
    assert written == [1, 51, 60]


def test_a_full_disk_does_not_stop_training(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    members = stack("adam")
    uninterrupted = train_stack(members)
    directory = CheckpointDir(root, members)
    directory.create()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "atomic_write", full)
    assert_same(train_stack(members, directory), uninterrupted)
    assert "could not be written, training continues: [Errno 28] No space left" in caplog.text


CHECKPOINTED = {
    "stack/w": np.arange(6.0).reshape(2, 3).T,
    "order": np.eye(3, dtype=np.uint8),
    "steps": np.array(7),
}


def directory_of(root: Path, names: str = "abc") -> CheckpointDir:
    settings = make_settings(*SMALL)
    directory = CheckpointDir(root, [Member(settings, fingerprint=name) for name in names])
    directory.create()
    return directory


def test_a_checkpoint_is_read_as_it_was_written(workplace: Path) -> None:
    directory = directory_of(workplace)
    assert directory.load() is None
    directory.save(CHECKPOINTED)
    loaded = directory.load()
    assert loaded is not None
    for name, value in CHECKPOINTED.items():
        assert np.array_equal(loaded[name], value)
    assert {file.name for file in directory.folder.iterdir()} == {STACK, CHECKPOINT}
    directory.remove()
    directory.remove()
    assert not directory.folder.exists()


def test_results_are_read_as_they_were_written(workplace: Path) -> None:
    members = stack("batch_norm")
    directory = CheckpointDir(workplace / "checkpoints", members)
    results = train_stack(members)
    failed = MemberResult(failure="no memory")
    directory.save_result(results)
    assert not directory.has_result  # the folder is not on this machine
    directory.create()
    directory.save_result([results[0], failed])
    loaded = directory.load_result()
    assert loaded is not None
    np.testing.assert_equal([vars(result) for result in loaded], [vars(results[0]), vars(failed)])


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_damaged_checkpoint_is_ignored(
    workplace: Path, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    directory = directory_of(workplace)
    directory.save(CHECKPOINTED)
    file = directory.folder / CHECKPOINT
    file.write_bytes(file.read_bytes()[:length])
    assert directory.load() is None
    assert f"{file} is ignored: " in caplog.text


def test_stacks_are_listed_with_their_members(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = workplace / "checkpoints"
    intact = directory_of(root)
    runs = MemberRuns("sqlite:///x", "sweep", ["1", None, "3"], [None, None, "job"])
    intact.assign_runs(runs)
    damaged, foreign = root / "damaged", root / "foreign"
    for folder, content in ((damaged, b"[1"), (foreign, (intact.folder / STACK).read_bytes())):
        folder.mkdir()
        (folder / STACK).write_bytes(content)
    (listed,) = checkpoint_dirs(root)
    assert listed.folder == intact.folder
    assert (listed.members, listed.runs) == (intact.members, runs)
    assert caplog.text.count("is ignored: ") == 2
    (intact.folder / STACK).write_text("[")
    intact.create()
    assert [directory.folder for directory in checkpoint_dirs(root)] == [intact.folder]
