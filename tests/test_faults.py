"""Commands survive every fault and no result is lost; `make faults` injects each many times."""

import pytest

from faults import Fault, registered, tally


@pytest.mark.slow(seconds=12)
@pytest.mark.parametrize("fault", registered(), ids=lambda fault: fault.name)
def test_a_fault_is_survived(fault: Fault) -> None:
    outcome = tally(fault, times=1, seed=1)
    if outcome.impossible:
        pytest.skip(outcome.impossible)
    assert not outcome.errors, "\n".join(outcome.errors)
    assert outcome.lost == 0


def test_lost_results_and_errors_are_counted() -> None:
    def fail(folder: object, draw: object) -> int:
        raise AssertionError("dead")

    assert tally(Fault("lose", 1, lambda *_: 2), 3).lost == 6
    outcome = tally(Fault("fail", 1, fail), 2)
    assert (outcome.injected, outcome.lost, len(outcome.errors)) == (2, 0, 2)
    assert "AssertionError: dead" in outcome.errors[0]
