"""Record results that are kept in checkpoint folders because MLflow was unavailable.

python -m bikefit.send
"""

import sys

from bikefit.errors import run_command
from bikefit.sweeps.recording import CHECKPOINTS, pending_stacks, record_pending_results
from bikefit.tracking import connection
from bikefit.tracking.writing import close_abandoned_runs
from bikefit.training.checkpoints import checkpoint_dirs


def main() -> int:
    """Record the results, print their number, and return 1 if some are left."""
    return run_command(_send)


def _send() -> int:
    connection.client()  # a wrong address is an error, also if there are no results
    count = sum(len(stack.directory.members) for stack in pending_stacks())
    left = record_pending_results()
    close_abandoned_runs()
    print(f"{count - left} runs recorded in {connection.address()}, {left} left")
    folders = [folder for folder in checkpoint_dirs(CHECKPOINTS.absolute()) if folder.has_result]
    for store in {folder.runs.store for folder in folders} - {"", connection.address()}:
        print(f"{CHECKPOINTS}/ has results of another store: set MLFLOW_TRACKING_URI={store}")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
