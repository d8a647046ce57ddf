"""Workers that are killed while stacks are still being given out to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from joblib.externals.loky.process_executor import BrokenProcessPool

from bikefit.sweeps.processes import ATTEMPTS, NEVER_BEGAN, Board, _collect


class Broken:
    """Workers of which one is killed, the first few times, before all stacks are given out."""

    def __init__(self, board: Board, times: int) -> None:
        self.board = board
        self.times = times
        self.asked: list[list[int]] = []

    def submit(self, stacks: Mapping[int, Any], folders: None) -> Iterator[tuple[int, Any]]:
        self.asked.append(list(stacks))
        if len(self.asked) <= self.times:
            raise BrokenProcessPool("killed")
        return iter([(i, f"results of {stack}") for i, stack in stacks.items()])


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board(2)
    yield board
    board.close()


def collected(workers: Any) -> dict[int, Any]:
    return dict(_collect({0: "one", 1: "two"}, workers, None))  # type: ignore[dict-item]


def test_all_is_given_out_again(board: Board) -> None:
    workers = Broken(board, times=ATTEMPTS - 1)
    assert collected(workers) == {0: "results of one", 1: "results of two"}
    assert workers.asked == [[0, 1]] * ATTEMPTS


def test_what_never_begins_fails_in_words(board: Board) -> None:
    workers = Broken(board, times=ATTEMPTS)
    assert collected(workers) == {0: [NEVER_BEGAN] * 3, 1: [NEVER_BEGAN] * 3}
    assert len(workers.asked) == ATTEMPTS


def test_what_had_begun_goes_on_alone(board: Board) -> None:
    board.cells[2, 0] = 1
    workers = Broken(board, times=1)
    assert collected(workers) == {0: "results of one", 1: "results of two"}
    assert workers.asked == [[0, 1], [1], [0]]
