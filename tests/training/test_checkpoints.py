"""What is kept in the middle of a training, and that going on gives the same bits."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import pretended
from bikefit.training import callbacks
from bikefit.training.checkpoints import STACK, STATE, Checkpoint, Place, places
from bikefit.training.members import Member, MemberResult
from conftest import make_settings, train_stack

SMALL = ["network.hidden=[8,6]", "training.epochs=6", "training.batch_size=32", "data=lecture"]
STACKS = {
    "adam": [["regularization.l2=0.1"], ["optimizer.lr=0.01"], ["seed=1"]],
    "adamw": [["optimizer=adamw", f"regularization.weight_decay={v}"] for v in (0.0, 0.5)],
    "momentum": [
        ["optimizer=sgd", "optimizer.momentum=0.9", "optimizer.lr=1e-5", f"seed={s}"]
        for s in (0, 1)
    ],
    "one_cycle": [["optimizer.schedule=one_cycle", f"seed={s}"] for s in (0, 1)],
    "proximal": [
        ["regularization.proximal=true", f"regularization.l1={v}", "optimizer.schedule=one_cycle"]
        for v in (0.0, 0.3)
    ],
    "dropout": [
        [f"regularization.dropout={p}", "regularization.averaged=2", f"seed={s}"]
        for p in (0.2, 0.5) for s in (0, 1)
    ],
    "batch_norm": [["regularization.batch_norm=before", f"seed={s}"] for s in (0, 1)],
    "early_stopping": [
        ["optimizer.lr=0.05", "training.epochs=12", f"regularization.patience={p}", f"seed={s}"]
        for p in (1, 4) for s in (0, 1)
    ],
    "diverging": [["optimizer=sgd", f"optimizer.lr={v}"] for v in ("1e10", "1e-5")],
    "folds": [["validation=kfold", "validation.folds=3", f"seed={s}"] for s in (0, 1)],
    "drawing for itself": [
        ["network=custom", "network.layers=[{name: a, _target_: torch.nn.Dropout},"
         "{name: b, _target_: torch.nn.Linear, out_features: 1}]"]
    ],
}  # fmt: skip


def stack(name: str) -> list[Member]:
    small = SMALL[1:] if name == "drawing for itself" else SMALL
    found = [make_settings(*small, *overrides) for overrides in STACKS[name]]
    if name == "folds":
        return [Member(one, fold) for one in found for fold in range(3)]
    return [Member(one) for one in found]


def marks(members: Sequence[Member]) -> list[str]:
    return [f"mark {m}" for m in range(len(members))]


@pytest.fixture
def place(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root for checkpoints, of which there is one after every epoch."""
    monkeypatch.setenv(callbacks.EVERY, "0")
    return workplace / "checkpoints"


class Killed(BaseException):
    """What ends training in the middle of an epoch."""


def killed_after(epochs: int) -> Any:
    """Report to this, and the training ends in the epoch after so many."""
    calls = []

    def stopping() -> bool:
        if len(calls) == epochs:
            raise Killed
        return False

    return calls.append, stopping


def interrupt(members: Sequence[Member], at: Place, epochs: int) -> None:
    at.open()
    report, stopping = killed_after(epochs)
    with pytest.raises(Killed):
        train_stack(members, report, stopping, at)


def assert_same(one: MemberResult, other: MemberResult) -> None:
    """The same bits, and nothing missing or twice."""
    assert one.metrics.keys() == other.metrics.keys()
    for name, values in one.metrics.items():
        assert np.array_equal(values, other.metrics[name], equal_nan=True), name
    for name, value in one.state.items():
        assert np.array_equal(value, other.state[name], equal_nan=True), name
    assert (one.selected, one.failure) == (other.selected, other.failure)
    assert list(one.final) == list(other.final)
    values = [list(result.final.values()) for result in (one, other)]
    assert np.array_equal(*values, equal_nan=True)
    assert np.array_equal(one.predictions[2], other.predictions[2], equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_going_on_gives_the_same_bits(place: Path, name: str) -> None:
    members = stack(name)
    undisturbed = train_stack(members)
    at = Place(place, marks(members))
    interrupt(members, at, epochs=1)
    assert at.epoch() == 1
    interrupt(members, at, epochs=3)  # the first call tells of the epoch that is known
    assert at.epoch() == 3
    told: list[int] = []
    resumed = train_stack(members, told.append, place=at)
    assert told[0] == 3 * len(members)
    for one, other in zip(resumed, undisturbed, strict=True):
        assert_same(one, other)


def test_a_member_that_is_done_stays_as_it_was(place: Path) -> None:
    members = stack("early_stopping")
    undisturbed = train_stack(members)
    epochs = [len(result.metrics["val/loss"]) for result in undisturbed]
    assert min(epochs) < max(epochs)
    at = Place(place, marks(members))
    interrupt(members, at, epochs=min(epochs))
    kept = at.load()
    assert kept is not None
    assert 0 < kept.values["selection/done"].sum() < len(members)
    for one, other in zip(train_stack(members, place=at), undisturbed, strict=True):
        assert_same(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "dropout", "early_stopping", "folds", "proximal"])
def test_some_members_go_on_with_their_slices(place: Path, name: str) -> None:
    members = stack(name)
    undisturbed = train_stack(members)
    whole = Place(place, marks(members))
    interrupt(members, whole, epochs=2)
    for chosen in ([len(members) - 1], list(range(1, len(members)))):
        part = whole.part(chosen)
        assert part.epoch() == 2
        told: list[int] = []
        resumed = train_stack([members[m] for m in chosen], told.append, place=part)
        assert told[0] == 2 * len(chosen)
        for m, one in zip(chosen, resumed, strict=True):
            other = undisturbed[m]
            assert one.selected == other.selected
            # A stack of another size multiplies matrices in another order: last bits differ.
            assert one.metrics.keys() == other.metrics.keys()
            for metric, values in one.metrics.items():
                np.testing.assert_allclose(values, other.metrics[metric], rtol=2e-4, atol=1e-7)


def test_a_stack_that_ends_before_its_first_checkpoint_writes_none(workplace: Path) -> None:
    members = stack("adam")
    at = Place(workplace / "checkpoints", marks(members))
    at.open()
    train_stack(members, place=at)
    assert [file.name for file in at.folder.iterdir()] == [STACK]


@pytest.mark.slow
def test_checkpoints_cost_no_more_than_their_share(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(callbacks.EVERY, "0.001")
    seconds = iter(range(1000))
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)))
    monkeypatch.setattr(callbacks, "time", clock)
    written = []
    monkeypatch.setattr(Place, "save", lambda self, checkpoint: written.append(checkpoint.epoch))
    (member, *_) = stack("adam")
    settings = member.settings.model_copy(
        update={"training": member.settings.training.model_copy(update={"epochs": 60})}
    )
    train_stack([Member(settings)], place=Place(place, ["mark"]))
    # a write takes a second of this clock, so 50 pass, one an epoch, before the next
    assert written == [1, 51]


def test_a_full_disk_stops_no_training(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    members = stack("adam")
    undisturbed = train_stack(members)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Place, "save", full)
    for one, other in zip(
        train_stack(members, place=Place(place, ["a"])), undisturbed, strict=True
    ):
        assert_same(one, other)
    assert "no checkpoint could be written, training goes on" in caplog.text


# ---- the files ----


def some(epoch: int = 3) -> Checkpoint:
    values = {"stack/w": np.arange(6.0).reshape(3, 2), "order": np.eye(3, dtype=np.uint8)}
    return Checkpoint(epoch, [None, "loss became nan", None], values)


def opened(root: Path, names: Sequence[str] = ("a", "b", "c")) -> Place:
    place = Place(root, names)
    place.open()
    return place


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    place = opened(tmp_path)
    assert place.load() is None
    place.save(some())
    found = place.load()
    assert found is not None
    assert (found.epoch, found.failures) == (3, some().failures)
    for name, value in some().values.items():
        assert np.array_equal(found.values[name], value)
    assert sorted(file.name for file in place.folder.iterdir()) == [STACK, STATE]
    place.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_part_has_the_slices_of_its_members(tmp_path: Path) -> None:
    place = opened(tmp_path)
    place.save(some())
    part = place.part([2, 1])
    found = part.load()
    assert found is not None
    assert part.marks == ["c", "b"]
    assert found.failures == [None, "loss became nan"]
    assert found.values["stack/w"].tolist() == [[4.0, 5.0], [2.0, 3.0]]
    place.remove()
    assert not part.folder.exists()  # it goes with the stack that it is a part of


def test_a_torn_list_of_members_is_written_anew(tmp_path: Path) -> None:
    place = Place(tmp_path, ["a", "b"])
    place.open()
    file = place.folder / STACK
    whole = file.read_bytes()
    for torn in (b"", whole[:4], b"\xff"):
        file.write_bytes(torn)
        place.open()
        assert file.read_bytes() == whole
        assert [found.marks for found in places(tmp_path)] == [["a", "b"]]
    assert [one.name for one in place.folder.iterdir()] == [STACK]


@pytest.mark.parametrize("length", [0, 5, 100, 300, -1])
def test_a_torn_checkpoint_is_ignored_with_a_word(
    tmp_path: Path, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    place = opened(tmp_path)
    place.save(some())
    file = place.folder / STATE
    file.write_bytes(file.read_bytes()[:length])
    assert place.load() is None
    assert f"{file} is not used: " in caplog.text


def test_a_checkpoint_with_another_content_is_ignored_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = opened(tmp_path)
    place.save(some())
    file = place.folder / STATE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert place.load() is None
    assert "its values are not those that were written" in caplog.text


def test_a_checkpoint_of_other_members_is_ignored_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place, other = opened(tmp_path), opened(tmp_path, ("d", "e", "f"))
    place.save(some())
    (place.folder / STATE).rename(other.folder / STATE)
    assert other.load() is None
    assert "it belongs to other members" in caplog.text


def test_places_are_those_with_most_epochs_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    early, late, unbegun = (opened(tmp_path, names) for names in ("abc", "def", "g"))
    early.save(some(2))
    late.save(some(5))
    half = late.part([0])
    torn, foreign = tmp_path / "torn", tmp_path / "foreign"
    for folder, text in ((torn, "[1"), (foreign, '["a"]')):
        folder.mkdir()
        (folder / STACK).write_text(text)
    found = [place.folder for place in places(tmp_path)]
    assert set(found[:2]) == {late.folder, half.folder}
    assert found[2:] == [early.folder, unbegun.folder]
    assert caplog.text.count("is not used: ") == 2


def test_nothing_of_a_checkpoint_can_run_code(place: Path) -> None:
    members = stack("dropout")
    at = Place(place, marks(members))
    interrupt(members, at, epochs=1)
    kept = at.load()
    assert kept is not None
    assert {value.shape[0] for value in kept.values.values()} == {len(members)}
    assert all(isinstance(value, np.ndarray) for value in kept.values.values())
    assert torch.from_numpy(kept.values["stack/hidden1.linear.weight"]).dtype == torch.float32


def elsewhere(trainer: Any, **given: Any) -> pl.Trainer:
    """Make a trainer for the pretended device instead of the CPU."""
    others = {key: value for key, value in given.items() if key not in ("accelerator", "devices")}
    return trainer(strategy=pretended.strategy(), **others)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dropout", "early_stopping", "folds", "one_cycle", "proximal"])
def test_another_device_goes_on_too(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = stack(name)
    at = Place(place, marks(members))
    monkeypatch.setattr(pl, "Trainer", partial(elsewhere, pl.Trainer))
    with pretended.Pretended():
        undisturbed = train_stack(members)
        interrupt(members, at, epochs=2)
        resumed = train_stack(members, place=at)
    for one, other in zip(resumed, undisturbed, strict=True):
        assert_same(one, other)
