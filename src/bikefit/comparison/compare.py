"""Rank the configurations of a sweep: `python -m bikefit.compare [sweep] [other sweep]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bikefit.errors import BikefitError

if TYPE_CHECKING:
    from bikefit.comparison.compared import Comparison


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ranking of one or two sweeps, write reports if asked, return the exit status."""
    options = _parse(arguments)
    # Loading the store takes a second, which --help need not wait for.
    from bikefit.tracking import reading

    try:
        sweeps = [reading.recorded_sweep(options.record)] if options.record else options.sweep
        compared = _compare(sweeps or [reading.latest_sweep()], options)
        if options.document:
            _renew(options.document, options.section, compared[0])
    except (BikefitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.compare", description="Rank the configurations of a sweep."
    )
    parser.add_argument(
        "sweep", nargs="*", help="run id of a sweep, or of two; default: the latest"
    )
    parser.add_argument("--record", type=Path, help='JSON file with the sweep: {"sweep": run id}')
    parser.add_argument("--reports", type=Path, help="folder for report, table, metrics and plots")
    parser.add_argument(
        "--mlflow",
        metavar="ADDRESS",
        help="that the report's links lead to; default: the tracking server, or `make ui`",
    )
    parser.add_argument("--document", type=Path, help="Markdown file that receives the table")
    parser.add_argument("--section", default="comparison", help="section of it, between markers")
    parser.add_argument(
        "--one-standard-error", action="store_true",
        help="also choose the least flexible configuration within one standard error of the best",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if len(options.sweep) > 2:
        parser.error(f"at most two sweeps can be compared, got {len(options.sweep)}")
    if options.record and options.sweep:
        parser.error("give either --record or sweeps")
    if options.reports and len(options.sweep) == 2:
        parser.error("--reports takes one sweep")
    return options


def _compare(sweeps: Sequence[str], options: argparse.Namespace) -> list[Comparison]:
    from bikefit.comparison.compared import compare
    from bikefit.comparison.ranking import between, choice_sentence
    from bikefit.comparison.terminal import print_ranking

    compared = []
    for sweep in sweeps:
        found = compare(sweep)
        compared.append(found)
        print(f"{found.name} ({sweep})\n")
        print_ranking(found.ranking)
        if options.one_standard_error:
            print(choice_sentence(found.ranking))
        print()
        if reports := options.reports:
            from bikefit.comparison.files import write_reports
            from bikefit.comparison.report import write_report

            write_reports(found, reports)
            write_report(found, reports / "report.html", options.mlflow)
            print(f"Written to {reports}/ and attached to the sweep's run in MLflow.")
    if len(compared) == 2:
        print(between(*(found.ranking for found in compared)))
    return compared


def _renew(file: Path, section: str, found: Comparison) -> None:
    """Put the table of a sweep into a section of a document."""
    from bikefit.comparison.folds import fold_table
    from bikefit.data.files import replace_section

    folded = (found.runs["folds"] > 1).any()
    replace_section(file, section, fold_table(found.tracked) if folded else found.note())
