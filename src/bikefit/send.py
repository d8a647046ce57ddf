"""Send results that a tracking server did not take while it was away.

python -m bikefit.send
"""

import sys

from bikefit import tracking


def main() -> int:
    """Send what lies in the folder of unsent results; return the exit status."""
    waiting = tracking.unsent()
    try:
        left = tracking.send_unsent()
    except (tracking.TrackingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    refused = len(tracking.refused(waiting))
    print(f"{len(waiting) - left - refused} runs sent to {tracking.address()}, {left} left")
    if refused:
        print(f"{refused} runs are not known there: see {tracking.UNSENT}/", file=sys.stderr)
    return int(left > 0 or refused > 0)


if __name__ == "__main__":
    sys.exit(main())
