"""The stage `python -m bikefit.data.look`: plots of the data.

Reads `data/clean/hours.parquet`; writes `reports/raw_data.png`.
"""

import sys
from pathlib import Path

from bikefit.data.bikes.columns import read_clean
from bikefit.data.bikes.look import draw
from bikefit.data.files import atomic_write
from bikefit.errors import run_command

FIGURE_FILE = Path("reports/raw_data.png")


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    figure = draw(read_clean())
    with atomic_write(FIGURE_FILE) as temporary:
        # By default the file contains the version of matplotlib.
        figure.savefig(temporary, format="png", metadata={"Software": None})
    print(f"look: {FIGURE_FILE}")


if __name__ == "__main__":
    sys.exit(run_command(main))
