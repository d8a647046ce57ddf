"""Record results in MLflow that it did not take while it was unavailable.

python -m bikefit.send
"""

import sys

from bikefit.errors import run_command
from bikefit.sweeps.recording import pending_results, record_pending_results
from bikefit.tracking import connection


def main() -> int:
    """Record all results that are left in checkpoint folders; return the exit status."""
    count = sum(len(stack.directory.members) for stack in pending_results())
    left = record_pending_results()
    print(f"{count - left} runs recorded in {connection.address()}, {left} left")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(run_command(main))
