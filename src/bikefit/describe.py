"""Print a section for `params.yaml`: `python -m bikefit.describe file.csv --target y`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bikefit.data.describe import describe
from bikefit.errors import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the section that describes a file; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.describe",
        description="Print a section for params.yaml that makes a table of a file.",
    )
    parser.add_argument("file", type=Path, help="CSV, gzipped CSV or Parquet")
    parser.add_argument("--target", required=True, help="column that networks predict")
    options = parser.parse_args(arguments)
    return run_command(lambda: print(describe(options.file, options.target), end=""))


if __name__ == "__main__":
    sys.exit(main())
