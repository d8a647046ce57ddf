"""The command `python -m bikefit.predict`, which predicts the rentals of hours, or any target."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bikefit.data.bikes.columns import WEATHER
from bikefit.data.bikes.rows import OPTIONAL, REQUIRED
from bikefit.data.cells import read_cells
from bikefit.data.files import atomic_write, check_writable
from bikefit.errors import BikefitError, run_command
from bikefit.tracking.local_models import find_folder

if TYPE_CHECKING:
    from bikefit.final.model import Model

MODEL = "models:/bikefit@champion"


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict one row or a table; return 0 if all rows were valid, otherwise 1."""
    options = _parse(arguments)
    return run_command(lambda: _predict_table(options) if options.input else _predict_row(options))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.predict",
        description="Predict the rentals of an hour: give --input, or --at and the weather. The "
        "model of your own table: give --model, and --input or --row.",
    )
    add = parser.add_argument
    columns = f"CSV with the columns {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}"
    add("--input", type=Path, help=f"{columns}; of your own table: those of its features")
    add("--row", nargs="+", metavar="NAME=VALUE", help="columns of one row of any model")
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
    if sum(map(bool, (options.input, options.at, options.row))) != 1:
        parser.error("give either --input, --row or --at")
    for pair in options.row or ():
        if "=" not in pair:
            parser.error(f"--row {pair}: must be NAME=VALUE")
    if options.output and not options.input:
        parser.error("--output needs --input")
    return options


def _predict_row(options: argparse.Namespace) -> None:
    pairs = (pair.split("=", 1) for pair in options.row or ())
    cells = dict(pairs) or {name: getattr(options, name) for name in (*REQUIRED, *OPTIONAL)}
    model = open_model(options.model)
    _warn_of_ignored(model, cells if options.row else ())
    answer = model.predict(pd.DataFrame([cells])).iloc[0]
    if answer["error"]:
        raise BikefitError(answer["error"])
    if options.at:
        print(
            f"{options.at}: {answer['expected']:.1f} rentals expected, "
            f"from {answer['low']:.0f} to {answer['high']:.0f} in 9 of 10 such hours"
        )
    elif "probability" in answer:
        print(f"{model.target}: 1 with probability {answer['probability']:.3f}")
    else:
        expected, low, high = (f"{answer[name]:.4g}" for name in ("expected", "low", "high"))
        unit = f" {model.unit}" if model.unit else ""
        print(
            f"{model.target}: {expected}{unit} expected, from {low} to {high} in 9 of 10 such rows"
        )


def _warn_of_ignored(model: Model, names: Iterable[object]) -> None:
    known = (*model.inputs.required, *model.inputs.optional)
    ignored = [str(name) for name in names if name not in known]
    if ignored:
        print(f"ignored: column {', '.join(ignored)}", file=sys.stderr)


def _predict_table(options: argparse.Namespace) -> int:
    if options.output:
        check_writable(options.output)
    model, rows = open_model(options.model), read_cells(options.input)
    _warn_of_ignored(model, rows)
    answers = model.predict(rows)
    table = pd.concat([rows.drop(columns=answers.columns, errors="ignore"), answers], axis=1)
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
