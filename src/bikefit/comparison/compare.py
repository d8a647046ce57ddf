"""The command `python -m bikefit.compare [sweep]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bikefit.errors import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ranking of a sweep, write reports if asked, return the exit status."""
    options = _parse(arguments)
    return run_command(lambda: _compare(options))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.compare", description="Rank the configurations of a sweep."
    )
    sweep = parser.add_mutually_exclusive_group()
    sweep.add_argument("sweep", nargs="?", help="run id of a sweep; default: the latest")
    sweep.add_argument("--record", type=Path, help='JSON file with the sweep: {"sweep": run id}')
    sweep.add_argument("--experiment", help="name of an MLflow experiment of any program")
    add = parser.add_argument_group("with --experiment").add_argument
    add("--train", metavar="METRIC", help="metric on the training rows")
    add("--validation", metavar="METRIC", help="metric on the validation rows")
    add("--maximize", action="store_true", help="higher is better, as for accuracy or R²")
    text = "parameter whose values are repetitions; default: seed, random_state, random_seed"
    add("--seed", metavar="PARAMETER", help=text)
    add("--write-tags", action="store_true", help="write the verdicts to the runs as tags")
    add = parser.add_argument
    add("--reports", type=Path, help="folder for report, table, metrics and pictures")
    add("--explorer", action="store_true", help="also write explorer.html, by default to reports/")
    address = "address of MLflow in the report's links; default: the tracking server, or `make ui`"
    add("--mlflow", metavar="ADDRESS", help=address)
    add("--document", type=Path, help="Markdown file in which to replace the table")
    add("--section", default="comparison", help="section of the document, between markers")
    options = parser.parse_args(arguments)
    given = ("train", "validation", "maximize", "seed", "write_tags")
    if not options.experiment and (names := [name for name in given if getattr(options, name)]):
        option = names[0].replace("_", "-")
        parser.error(f"--{option} needs --experiment NAME; sweeps of bikefit know their metrics")
    if options.experiment and not (options.train and options.validation):
        parser.error("--experiment needs --train METRIC and --validation METRIC")
    return options


def _compare(options: argparse.Namespace) -> None:
    # Importing MLflow takes a second, and --help does not need it.
    from bikefit.comparison.experiments import Metrics
    from bikefit.comparison.result import compare, compare_experiment
    from bikefit.comparison.runs import SETS
    from bikefit.comparison.tables import fold_table, print_ranking
    from bikefit.data.files import atomic_write, replace_section
    from bikefit.tracking import reading

    if options.experiment:
        metrics = Metrics(options.train, options.validation, options.seed, options.maximize)
        comparison = compare_experiment(options.experiment, metrics, options.write_tags)
    else:
        sweep = reading.recorded_sweep(options.record) if options.record else options.sweep
        comparison = compare(sweep)
    print(f"{comparison.name} ({comparison.sweep or 'experiment'})", *comparison.remarks, sep="\n")
    print()
    print_ranking(comparison.ranking)
    if options.reports:
        from bikefit.comparison.report import write_reports

        write_reports(comparison, options.reports, options.mlflow)
        attached = " and attached to the sweep's run in MLflow" if comparison.sweep else ""
        print(f"\nWritten to {options.reports}/{attached}.")
    if options.explorer:
        from bikefit.comparison.explorer import explorer_page

        page = (options.reports or Path("reports")) / "explorer.html"
        with atomic_write(page) as temporary:
            temporary.write_text(explorer_page(comparison), encoding="utf-8")
        print(f"Written to {page}.")
    if options.document:
        text = fold_table(comparison.runs) or comparison.note()
        if SETS in set(comparison.runs["repetition"]):
            from bikefit.comparison.bias_variance import bias_variance_markdown

            text = bias_variance_markdown(comparison.bias_variance())
        replace_section(options.document, options.section, text)
