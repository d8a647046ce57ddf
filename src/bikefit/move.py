"""Move a sweep from this store to another, such as a server's.

python -m bikefit.move --to http://host:5000            # the latest sweep
python -m bikefit.move 1a2b… --to http://host:5000      # the sweep with this run id

The runs of this store stay: once the others are looked at, MLflow's page or `mlflow gc` removes
them. A move that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys

from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError
from bikefit.tracking.moving import move


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="bikefit.move", description=__doc__.splitlines()[0])
    parser.add_argument("sweep", nargs="?", help="run id of a sweep; default: the latest")
    parser.add_argument("--to", required=True, help="address of the other store")
    given = parser.parse_args(arguments)
    try:
        sweep = given.sweep or reading.latest_sweep()
        count = move(sweep, given.to)
    except TrackingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{count} runs of sweep {sweep} are in {given.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
