"""Send results that a tracking server did not take while it was away.

python -m bikefit.send
"""

import sys

from bikefit import tracking


def main() -> int:
    """Send what lies in the folder of unsent results; return the exit status."""
    waiting = len(tracking.unsent())
    try:
        left = tracking.send_unsent()
    except (tracking.TrackingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{waiting - left} runs sent to {tracking.address()}, {left} left")
    return min(left, 1)


if __name__ == "__main__":
    sys.exit(main())
