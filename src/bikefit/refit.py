"""Refit the best of a sweep, test it and register it: `python -m bikefit.refit [sweep]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bikefit.errors import run_command

REPORT = Path("reports/test.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Refit a sweep, or write the table of the last test to a document; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.refit",
        description="Test the best of a sweep once, fit it on all rows and register it.",
    )
    add = parser.add_mutually_exclusive_group().add_argument
    add("sweep", nargs="?", help="run id of a sweep; default: the latest")
    add("--record", type=Path, help='JSON file with the sweep: {"sweep": run id}')
    document = "only write the table of the last test (reports/test.json) to this Markdown file"
    add("--document", type=Path, help=document)
    add = parser.add_argument
    average = "average with the best network of each other regularization and with boosted trees"
    add("--average", action="store_true", help=f"{average}, if that is better")
    rule = "take the least flexible configuration within one standard error of the best"
    add("--one-standard-error", action="store_true", help=rule)
    add("--promote", action="store_true", help="make it the champion even if it is not better")
    options = parser.parse_args(arguments)
    return run_command(lambda: _write_table(options) if options.document else _refit(options))


def _refit(options: argparse.Namespace) -> None:
    import joblib

    from bikefit.data.files import check_writable, write_json
    from bikefit.final import choose, evaluate
    from bikefit.final.data import read_data
    from bikefit.final.fit import fit_networks
    from bikefit.final.model import Model
    from bikefit.final.publish import publish
    from bikefit.tracking import reading

    check_writable(REPORT)
    sweep = reading.recorded_sweep(options.record) if options.record else options.sweep
    sweep = sweep or reading.latest_sweep()
    print(f"{reading.sweep_name(sweep)} ({sweep})\n{reading.remark_on_deleted(sweep)}")

    plan = choose.plan_refit(sweep, options.average, options.one_standard_error)
    networks, ours = plan.networks["settings"].tolist(), plan.settings(choose.OUR_MODEL)
    data = read_data(ours[0].data.path)
    plan = choose.complete_plan(plan, data, options.average)
    print(f"{plan.reason} Boosted trees have a weight of {plan.share:.0%}.")

    print(f"Fitting {len(networks)} networks for the test and {len(ours)} on all rows …")
    table, rows, fitting = data.table, data.rows(), data.rows("train", "validation")
    tasks = [(networks, data.transformer, fitting), (ours, data.transformer, rows)]
    tested, final = joblib.Parallel(n_jobs=min(2, joblib.cpu_count()))(
        joblib.delayed(fit_networks)(*task, table.target) for task in tasks
    )
    report, predicted = evaluate.evaluate_models(plan, data, tested)
    write_json(REPORT, report)
    if plan.trees and plan.share:
        final = replace(final, trees=plan.trees.fit(rows), share=plan.share)
    model = Model(final, plan.interval, data.inputs(), table.target, table.unit)
    print(publish(plan, data, model, report, predicted, options.promote))
    print(f"\n{evaluate.report_table(report)}")


def _write_table(options: argparse.Namespace) -> None:
    from bikefit.data.files import replace_section
    from bikefit.final.evaluate import report_table

    report = json.loads(REPORT.read_text(encoding="utf-8"))
    replace_section(options.document, "test", report_table(report))


if __name__ == "__main__":
    sys.exit(main())
