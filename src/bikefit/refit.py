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

    from bikefit.data.bikes.rows import input_statistics
    from bikefit.data.files import check_writable, write_json
    from bikefit.data.inputs import table_inputs
    from bikefit.data.table import read_table
    from bikefit.data.transformer import Transformer
    from bikefit.final import choose, evaluate, fit
    from bikefit.final.interval import calibrate
    from bikefit.final.model import Model, mean_and_spread
    from bikefit.final.publish import publish
    from bikefit.final.trees import tree_columns, tune
    from bikefit.tracking import reading

    check_writable(REPORT)
    sweep = reading.recorded_sweep(options.record) if options.record else options.sweep
    sweep = sweep or reading.latest_sweep()
    print(f"{reading.sweep_name(sweep)} ({sweep})\n{reading.remark_on_deleted(sweep)}")

    plan = choose.plan_refit(sweep, options.average, options.one_standard_error)
    networks, ours = plan.networks["settings"].tolist(), plan.settings(choose.OUR_MODEL)
    table = read_table(ours[0].data.path)
    parts = fit.read_parts(table)
    transformer = Transformer.load(table.path / "transformer.json")
    hours, test = fit.merge_parts(*parts.values()), parts["test"]
    fitting = fit.merge_parts(parts["train"], parts["validation"])
    loss, target, share, by_trees = plan.loss, table.target, 0.0, None
    columns = tree_columns(table, transformer, hours)
    tuned = tune(parts["train"], parts["validation"], target, loss, columns)
    if options.average and tuned:
        share, by_trees = choose.weigh_trees(plan, tuned, parts)
    print(f"{plan.reason} Boosted trees have a weight of {share:.0%}.")
    by_networks = plan.predicted[plan.networks[choose.OUR_MODEL]]
    interval = calibrate(loss, plan.target, *mean_and_spread(by_networks, by_trees, share))

    print(f"Fitting {len(networks)} networks for the test and {len(ours)} on all rows …")
    tasks = [(networks, transformer, fitting, target), (ours, transformer, hours, target)]
    tested, final = joblib.Parallel(n_jobs=min(2, joblib.cpu_count()))(
        joblib.delayed(fit.fit_networks)(*task) for task in tasks
    )
    if tuned and share:
        final = replace(final, trees=tuned.fit(hours), share=share)
    baselines = evaluate.predict_baselines(loss, fitting, test, transformer, tuned, table)
    report, predicted = evaluate.evaluate_models(
        plan, tested, baselines, share, interval, test, table
    )
    write_json(REPORT, report)
    bikes = table.source == "bikes"
    inputs = (
        input_statistics(hours) if bikes else table_inputs(transformer, hours, table.time_column)
    )
    model = Model(final, interval, inputs, target, table.unit)
    example = inputs.example(hours)
    print(publish(plan, model, table, example, report, predicted, options.promote))
    print(f"\n{evaluate.report_table(report)}")


def _write_table(options: argparse.Namespace) -> None:
    from bikefit.data.files import replace_section
    from bikefit.final.evaluate import report_table

    report = json.loads(REPORT.read_text(encoding="utf-8"))
    replace_section(options.document, "test", report_table(report))


if __name__ == "__main__":
    sys.exit(main())
