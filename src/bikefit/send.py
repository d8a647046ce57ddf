"""Send results that a tracking server did not take while it was away.

python -m bikefit.send
"""

import sys

from bikefit.tracking import connection, outbox
from bikefit.tracking.connection import TrackingError
from bikefit.tracking.outbox import UNSENT


def main() -> int:
    """Send what lies in the folder of unsent results; return the exit status."""
    waiting = outbox.unsent()
    try:
        left = outbox.send_unsent()
    except (TrackingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    refused = len(outbox.refused(waiting))
    print(f"{len(waiting) - left - refused} runs sent to {connection.address()}, {left} left")
    if refused:
        print(f"{refused} runs are not known there: see {UNSENT}/", file=sys.stderr)
    return int(left > 0 or refused > 0)


if __name__ == "__main__":
    sys.exit(main())
