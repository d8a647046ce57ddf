"""The command `python -m bikefit.compare [sweep] [other sweep]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bikefit.errors import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ranking of one or two sweeps, write reports if asked, return the exit status."""
    options = _parse(arguments)
    return run_command(lambda: _compare(options))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.compare", description="Rank the configurations of a sweep."
    )
    add = parser.add_argument
    add("sweep", nargs="*", help="run id of a sweep, or of two; default: the latest")
    add("--record", type=Path, help='JSON file with the sweep: {"sweep": run id}')
    add("--reports", type=Path, help="folder for report, table, metrics and plots")
    address = "address of MLflow in the report's links; default: the tracking server, or `make ui`"
    add("--mlflow", metavar="ADDRESS", help=address)
    add("--document", type=Path, help="Markdown file in which to replace the table")
    add("--section", default="comparison", help="section of the document, between markers")
    rule = "also choose the least flexible configuration within one standard error of the best"
    add("--one-standard-error", action="store_true", help=rule)
    options = parser.parse_args(arguments)
    if len(options.sweep) > 2:
        parser.error(f"at most two sweeps can be compared, got {len(options.sweep)}")
    if options.record and options.sweep:
        parser.error("give either --record or sweeps")
    if options.reports and len(options.sweep) == 2:
        parser.error("--reports takes one sweep")
    return options


def _compare(options: argparse.Namespace) -> None:
    from bikefit.comparison.result import compare
    from bikefit.comparison.sentences import choice_sentence, winners_sentence
    from bikefit.comparison.tables import fold_table, print_ranking
    from bikefit.data.files import replace_section
    from bikefit.tracking import reading

    sweeps = [reading.recorded_sweep(options.record)] if options.record else options.sweep
    sweeps = sweeps or [reading.latest_sweep()]
    comparisons = [compare(sweep) for sweep in sweeps]
    for comparison in comparisons:
        print(f"{comparison.name} ({comparison.sweep})\n")
        print_ranking(comparison.ranking)
        if options.one_standard_error:
            print(choice_sentence(comparison.ranking))
        print()
    if len(comparisons) == 2:
        print(winners_sentence(*(comparison.ranking for comparison in comparisons)))
    if options.reports:
        from bikefit.comparison.report import write_reports

        write_reports(comparisons[0], options.reports, options.mlflow)
        print(f"Written to {options.reports}/ and attached to the sweep's run in MLflow.")
    if options.document:
        runs = comparisons[0].runs
        has_folds = (runs["folds"] > 1).any() and runs["val_loss"].notna().any()
        text = fold_table(comparisons[0].tracked) if has_folds else comparisons[0].note()
        replace_section(options.document, options.section, text)
