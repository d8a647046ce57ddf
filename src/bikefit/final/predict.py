r"""Ask the model: expected rentals and an interval for hours and their weather.

python -m bikefit.predict --input rows.csv --output answers.csv
python -m bikefit.predict --at 2012-10-05T17:00 --temp 21 --humidity 60 --windspeed 12 \
    --weather clear
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bikefit.data.columns import WEATHER
from bikefit.data.files import atomic_write
from bikefit.errors import DataError
from bikefit.final.rows import OPTIONAL, REQUIRED
from bikefit.tracking.names import MODEL as MODEL_FOLDER
from bikefit.tracking.store import model_files

if TYPE_CHECKING:
    from bikefit.final.model import Model

MODEL = "models:/bikefit@champion"


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer one row or a table; return 0 if all rows were right, else 1."""
    options = _parse(arguments)
    try:
        rows = _rows(options)
        answers = find(options.model).predict(rows)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wrong = {row: text for row, text in enumerate(answers["error"]) if text}
    if options.input:
        _write(pd.concat([rows, answers], axis=1), options.output)
        if wrong:
            lines = _lines(options.input, len(rows))
            for row, text in wrong.items():
                print(f"error: line {lines[row]}: {text}", file=sys.stderr)
            print(f"{len(rows) - len(wrong)} of {len(rows)} rows answered", file=sys.stderr)
    elif wrong:
        print(f"error: {wrong[0]}", file=sys.stderr)
    else:
        print(_sentence(rows.iloc[0], answers.iloc[0]))
    return 1 if wrong else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.predict",
        description="Predict the rentals of an hour: give --input, or --at and the weather.",
    )
    parser.add_argument(
        "--input", type=Path,
        help=f"CSV with the columns {', '.join(REQUIRED)} and, if known, {', '.join(OPTIONAL)}",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="CSV to write; default: standard output")
    parser.add_argument("--at", help="local time of the hour, like 2012-10-05T17:00")
    parser.add_argument("--temp", help="temperature, °C")
    parser.add_argument("--humidity", help="relative humidity, %%")
    parser.add_argument("--windspeed", help="wind, km/h")
    parser.add_argument("--weather", help=" | ".join(WEATHER.values()))
    parser.add_argument("--feels-like", help="felt temperature, °C; default: from the other three")
    parser.add_argument("--holiday", help="yes | no; default: by the calendar of Washington, D.C.")
    parser.add_argument("--model", default=MODEL, help=f"registered model; default: {MODEL}")
    options = parser.parse_args(arguments)
    if bool(options.input) == bool(options.at):
        parser.error("give either --input or --at")
    if options.output and not options.input:
        parser.error("--output goes with --input")
    return options


def _rows(options: argparse.Namespace) -> pd.DataFrame:
    """What the user asks about, as text."""
    if options.at:
        return pd.DataFrame([{name: getattr(options, name) for name in (*REQUIRED, *OPTIONAL)}])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a line longer than the header
            rows = pd.read_csv(options.input, dtype=str, skipinitialspace=True, index_col=False)
    except (ValueError, pd.errors.ParserWarning) as error:
        raise DataError(f"{options.input} cannot be read as a CSV table: {error}") from None
    unknown = [name for name in rows if name not in (*REQUIRED, *OPTIONAL)]
    if unknown:
        print(f"not used: column {', '.join(map(str, unknown))}", file=sys.stderr)
    return rows


def _lines(file: Path, rows: int) -> Sequence[int]:
    """The line of a file on which each row ends; blank lines are no rows."""
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened)
        ends = [reader.line_num for record in reader if record][1:]  # without the header
    return ends if len(ends) == rows else range(2, rows + 2)


def find(name: str) -> Model:
    """Load a model from a folder of it, or a registered one by its address."""
    from bikefit.final.model import load

    return load(Path(name) if Path(name).is_dir() else _kept(name) or _fetched(name))


def _kept(name: str) -> Path | None:
    """The model's files in a database on this machine: MLflow takes a second to load."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    database = Path(address.removeprefix("sqlite:///"))
    if "mlflow" in sys.modules or not address.startswith("sqlite:///") or not database.is_file():
        return None
    found = model_files(name, database)
    return found / "artifacts" / MODEL_FOLDER if found else None


def _fetched(name: str) -> Path:
    from bikefit.tracking.connection import TrackingError
    from bikefit.tracking.registry import model_folder

    try:
        return model_folder(name)
    except TrackingError as error:
        raise DataError(str(error)) from None


def _write(table: pd.DataFrame, output: Path | None) -> None:
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    if output is None:
        sys.stdout.write(text)
        return
    with atomic_write(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sentence(row: pd.Series, answer: pd.Series) -> str:
    return (
        f"{row['at']}: {answer['expected']:.1f} rentals expected, "
        f"from {answer['low']:.0f} to {answer['high']:.0f} in 9 of 10 such hours"
    )
