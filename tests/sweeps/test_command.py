"""A sweep's end in words and numbers, however it ends."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stores
from bikefit.sweeps import command
from bikefit.sweeps.jobs import Job, MemberError
from bikefit.tracking import connection, outbox


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No sweep is left open for the next test."""
    monkeypatch.setattr(command, "_open", None)
    yield


def begin(monkeypatch: pytest.MonkeyPatch, train: Any) -> str:
    """Begin a sweep of three jobs that are "trained" so; return its id."""
    monkeypatch.setattr(command, "train", train)
    kept = {"experiment": "full", "weights": False, "predictions": False, "record": "sweep.json"}
    settings = [stores.settings(seed=seed, tracking=kept) for seed in (0, 1, 2)]
    with contextlib.suppress(KeyboardInterrupt):
        command.run_sweep(settings, ["seed=0", "seed=1", "seed=2"], ["seed=0,1,2"])
    return command.open_sweep()


def recorded(jobs: list[Job], sweep: str, *_: Any) -> list[float | Exception]:
    for job in jobs:
        stores.add(sweep, job.settings, stores.result(1.0, 2.0))
    return [2.0, MemberError("disk on fire"), 2.0]


@pytest.mark.slow
def test_what_failed_is_counted_and_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    sweep = begin(monkeypatch, recorded)
    assert command.close_sweep() == 1
    assert "failed: seed=1: disk on fire" in caplog.text
    run = connection.client().get_run(sweep)
    assert run.info.status == "FAILED"
    assert run.data.metrics["runs"] == 3 and run.data.metrics["runs.failed"] == 1
    assert json.loads(Path("sweep.json").read_text()) == {"runs": 3, "sweep": sweep}


@pytest.mark.slow
def test_a_stopped_sweep_counts_its_jobs_and_is_not_recorded(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stopped(*given: Any) -> None:
        recorded(*given)
        raise KeyboardInterrupt

    caplog.set_level("INFO")
    sweep = begin(monkeypatch, stopped)
    command.close_sweep()
    assert re.search(f"3 runs in .* s under sweep {sweep}", caplog.text)
    run = connection.client().get_run(sweep)
    assert run.info.status == "KILLED"
    assert run.data.metrics["runs"] == 3
    assert not Path("sweep.json").exists()


@pytest.mark.slow
def test_a_sweep_that_breaks_counts_what_was_trained_and_is_not_recorded(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("the table is gone")

    sweep = begin(monkeypatch, recorded)
    with pytest.raises(ValueError, match="the table is gone"):
        begin(monkeypatch, broken)
    assert command.close_sweep() == 1
    run = connection.client().get_run(sweep)
    assert run.info.status == "FAILED"
    assert run.data.metrics["runs"] == 3
    assert not Path("sweep.json").exists()


def test_results_that_are_left_are_said_and_the_sweep_is_kept_with_them(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = begin(monkeypatch, recorded)
    with monkeypatch.context() as away:
        away.setattr(outbox, "send_unsent", lambda: 1)
        assert command.close_sweep() == 1
    assert "1 runs are kept in unsent/: `python -m bikefit.send` sends them" in caplog.text
    assert outbox.unsent() == [sweep]
    assert outbox.send_unsent() == 0
    assert connection.client().get_run(sweep).info.status == "FAILED"


def test_without_a_sweep_there_is_nothing_to_close(workplace: Path) -> None:
    assert command.close_sweep() == 0
