"""Epochs that a stack tells are those that the command reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bikefit.training import epochs
from bikefit.training.epochs import Part, Reader, Writer

NAMES = ["train/loss", "val/loss"]
VALUES = np.arange(12.0).reshape(2, 2, 3)  # of two epochs, two metrics and three members


def test_what_is_written_is_read_once(tmp_path: Path) -> None:
    writer = Writer(tmp_path, ["a", "b", "c"])
    writer.write(NAMES, 1, VALUES)
    (file,) = tmp_path.iterdir()
    reader = Reader(file)
    found = list(reader.new())
    assert [epoch.number for epoch in found] == [1, 2]
    assert (found[0].marks, found[0].names) == (["a", "b", "c"], NAMES)
    assert np.array_equal([epoch.values for epoch in found], VALUES)
    assert list(reader.new()) == []
    writer.write(NAMES, 3, VALUES[:1] / 3)  # every bit
    (third,) = reader.new()
    assert third.number == 3
    assert np.array_equal(third.values, VALUES[0] / 3)


@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_head_that_is_on_its_way_is_waited_for(tmp_path: Path, length: int) -> None:
    Writer(tmp_path, ["a", "b", "c"]).write(NAMES, 1, VALUES)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:length])
    reader = Reader(file)
    assert list(reader.new()) == []
    file.write_bytes(content)
    assert [epoch.number for epoch in reader.new()] == [1, 2]


def test_where_the_folder_is_not_there_nothing_is_written(tmp_path: Path) -> None:
    Writer(tmp_path / "nowhere", ["a"]).write(NAMES, 1, VALUES[:, :, :1])
    assert list(tmp_path.iterdir()) == []


def test_parts_through_a_queue_make_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(epochs.time, "monotonic", lambda: now[0])
    parts: list[Part] = []
    writer = Writer(tmp_path / "nowhere", ["a", "b", "c"], parts.append)
    for epoch in range(1, 5):
        writer.write(NAMES, epoch, VALUES[:1])
        now[0] += 0.4
    assert len(parts) == 2  # the second after a second
    assert len({name for name, _ in parts}) == 1
    file = tmp_path / "file"
    file.write_bytes(b"".join(content for _, content in parts))
    assert [epoch.number for epoch in Reader(file).new()] == [1, 2, 3, 4]


def test_a_queue_that_is_gone_stops_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(part: Part) -> None:
        raise RuntimeError("the queue is closed")

    writer = Writer(tmp_path / "nowhere", ["a", "b", "c"], gone)
    writer.write(NAMES, 1, VALUES)
    writer.write(NAMES, 3, VALUES)
    assert caplog.text.count("epochs come to MLflow at the end only: the queue is closed") == 1
