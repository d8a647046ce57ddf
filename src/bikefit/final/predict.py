"""The command `python -m bikefit.predict`, which predicts the rentals of hours."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bikefit.data.bikes.columns import WEATHER
from bikefit.data.bikes.rows import OPTIONAL, REQUIRED
from bikefit.data.cells import read_cells
from bikefit.data.files import atomic_write
from bikefit.errors import BikefitError, run_command
from bikefit.tracking.local_models import find_folder

if TYPE_CHECKING:
    from bikefit.final.model import Model

MODEL = "models:/bikefit@champion"


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict one row or a table; return 0 if all rows were valid, otherwise 1."""
    options = _parse(arguments)
    return run_command(lambda: _predict_row(options) if options.at else _predict_table(options))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.predict",
        description="Predict the rentals of an hour: give --input, or --at and the weather.",
    )
    add = parser.add_argument
    columns = f"CSV with the columns {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}"
    add("--input", type=Path, help=columns)
    add("--output", type=Path, help="CSV to write; default: standard output")
    add("--at", help="local time of the hour, like 2012-10-05T17:00")
    add("--temp", help="temperature, °C")
    add("--humidity", help="relative humidity, %%")
    add("--windspeed", help="wind, km/h")
    add("--weather", help=" | ".join(WEATHER.values()))
    add("--feels-like", help="felt temperature, °C; default: from the other three")
    add("--holiday", help="yes | no; default: by the calendar of Washington, D.C.")
    add("--model", default=MODEL, help=f"registered model; default: {MODEL}")
    options = parser.parse_args(arguments)
    if bool(options.input) == bool(options.at):
        parser.error("give either --input or --at")
    if options.output and not options.input:
        parser.error("--output needs --input")
    return options


def _predict_row(options: argparse.Namespace) -> None:
    row = pd.DataFrame([{name: getattr(options, name) for name in (*REQUIRED, *OPTIONAL)}])
    answer = open_model(options.model).predict(row).iloc[0]
    if answer["error"]:
        raise BikefitError(answer["error"])
    print(
        f"{options.at}: {answer['expected']:.1f} rentals expected, "
        f"from {answer['low']:.0f} to {answer['high']:.0f} in 9 of 10 such hours"
    )


def _predict_table(options: argparse.Namespace) -> int:
    model, rows = open_model(options.model), read_cells(options.input)
    ignored = [str(name) for name in rows if name not in (*REQUIRED, *OPTIONAL)]
    if ignored:
        print(f"ignored: column {', '.join(ignored)}", file=sys.stderr)
    answers = model.predict(rows)
    table = pd.concat([rows, answers], axis=1)
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    if options.output is None:
        sys.stdout.write(text)
    else:
        with atomic_write(options.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    errors = answers["error"][answers["error"] != ""]
    for line, error in errors.items():
        print(f"error: line {line}: {error}", file=sys.stderr)
    return int(len(errors) > 0)


def open_model(name: str) -> Model:
    """Load a model from a folder, or from the registry (``models:/bikefit@champion``).

    Raises:
        BikefitError: The model does not exist, or the store is unavailable.
    """
    from bikefit.final.model import load

    folder = Path(name) if Path(name).is_dir() else find_folder(name)
    if folder is None:
        from bikefit.tracking.registry import model_folder  # slow to import

        folder = model_folder(name)
    return load(folder)
