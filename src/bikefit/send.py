"""Record results that are kept in checkpoint folders because MLflow was unavailable.

python -m bikefit.send
"""

import sys

from bikefit.errors import run_command
from bikefit.sweeps.recording import pending_stacks, record_pending_results
from bikefit.tracking import connection


def main() -> int:
    """Record the results, print their number, and return 1 if some are left."""
    count = sum(len(stack.directory.members) for stack in pending_stacks())
    left = record_pending_results()
    print(f"{count - left} runs recorded in {connection.address()}, {left} left")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(run_command(main))
