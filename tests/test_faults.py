"""Every fault of the table is survived, and nothing is lost; `make faults` injects more."""

import pytest

from faults import Fault, registered, tally


@pytest.mark.slow(seconds=12)
@pytest.mark.parametrize("one", registered(), ids=lambda one: one.name)
def test_a_fault_is_survived(one: Fault) -> None:
    found = tally(one, times=1, seed=1)
    if found.impossible:
        pytest.skip(found.impossible)
    assert not found.troubles, "\n".join(found.troubles)
    assert found.lost == 0


def test_what_is_not_survived_is_counted() -> None:
    def lose(folder: object, draw: object) -> int:
        return 2

    def die(folder: object, draw: object) -> int:
        raise AssertionError("dead")

    assert tally(Fault("lose", 1, lose), 3).lost == 6
    found = tally(Fault("die", 1, die), 2)
    assert (found.injected, found.survived, found.lost) == (2, 0, 0)
    assert "AssertionError: dead" in found.troubles[0]
