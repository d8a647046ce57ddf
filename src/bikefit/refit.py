"""Refit the best of a sweep, test it and register it: `python -m bikefit.refit [sweep]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bikefit.errors import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Refit, or only write the table of the last test to a document; return the exit status."""
    options = _parse(arguments)
    return run_command(lambda: _write_table(options) if options.document else refit(options))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.refit",
        description="Test the best of a sweep once, fit it on all rows and register it.",
    )
    add = parser.add_argument
    add("sweep", nargs="?", help="run id of a sweep; default: the latest")
    add("--record", type=Path, help='JSON file with the sweep: {"sweep": run id}')
    add("--reports", type=Path, default=Path("reports"), help="folder of test.json")
    add("--seeds", type=int, default=8, help="networks of the winner to average; default: 8")
    ensemble = "steps (25, say) of a greedy selection among all networks of the sweep"
    add("--ensemble", type=int, metavar="STEPS", default=0, help=ensemble)
    add("--trees", action="store_true", help="average with boosted trees if that is better")
    add("--processes", type=int, help="parallel fits; default: one per core")
    add("--name", default="bikefit", help="name in the model registry")
    rule = "take the least flexible configuration within one standard error of the best"
    add("--one-standard-error", action="store_true", help=rule)
    add("--promote", action="store_true", help="make it the champion even if it is not better")
    document = "only write the table of the last test (test.json) to this Markdown file"
    add("--document", type=Path, help=document)
    options = parser.parse_args(arguments)
    if options.record and options.sweep:
        parser.error("give either --record or a sweep, not both")
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds}: must be at least 1")
    if options.ensemble < 0:
        parser.error(f"--ensemble {options.ensemble}: must be at least 0")
    if options.ensemble and options.one_standard_error:
        parser.error("--ensemble and --one-standard-error exclude each other")
    return options


def refit(options: argparse.Namespace) -> None:
    """Choose, fit and test a model, fit it again on all rows and register it.

    Raises:
        BikefitError: The sweep has no winner, its runs lack predictions, the data are missing, or
            a training failed.
    """
    from bikefit.data import calendar
    from bikefit.data.files import write_json
    from bikefit.data.table import read_table
    from bikefit.data.transformer import Transformer
    from bikefit.final import choose, evaluate, fit, trees
    from bikefit.final.interval import calibrate
    from bikefit.final.model import Model
    from bikefit.final.publish import REPORT, publish
    from bikefit.final.rows import input_statistics
    from bikefit.tracking import reading

    sweep = reading.recorded_sweep(options.record) if options.record else options.sweep
    sweep = sweep or reading.latest_sweep()
    print(f"{reading.sweep_name(sweep)} ({sweep})\n")

    winner, unregularized = choose.choose(sweep, options.seeds, options.one_standard_error)
    table = read_table(winner.members[0].data.path)
    parts = fit.read_parts(table)
    features = Transformer.load(table.path / "transformer.json").features
    plan = choose.select_ensemble(winner, options.ensemble) if options.ensemble else winner
    tuned = trees.tune_all(parts)
    if options.trees and tuned:
        plan = choose.add_trees(plan, tuned[trees.SAME_COLUMNS], parts)
    print(plan.reason)
    interval = calibrate(plan.held_out.target, plan.held_out.mean, plan.held_out.spread)

    plans = {evaluate.DELIVERED: plan}
    if winner.members != plan.members:
        plans[evaluate.WINNER] = winner
    if unregularized:
        plans[evaluate.UNREGULARIZED] = unregularized
    hours = fit.merge_parts(*parts.values())
    fitting = fit.merge_parts(parts["train"], parts["validation"])
    tasks = [(plan, hours), *((tested, fitting) for tested in plans.values())]
    final, *fitted = fit.fit_plans(tasks, features, options.processes)

    baselines = evaluate.predict_baselines(parts, features, tuned)
    ensembles = dict(zip(plans, fitted, strict=True))
    result = evaluate.evaluate(plans, ensembles, baselines, interval, parts["test"], table)
    result.report["calendar_disagreements"] = calendar.disagreements(hours)
    write_json(options.reports / REPORT, result.report)
    model = Model(final, interval, input_statistics(hours))
    print(publish(plan, model, result, options.name, options.promote))
    print(f"\n{evaluate.report_table(result.report)}")


def _write_table(options: argparse.Namespace) -> None:
    from bikefit.data.files import replace_section
    from bikefit.final.evaluate import report_table

    report = json.loads((options.reports / "test.json").read_text(encoding="utf-8"))
    replace_section(options.document, "test", report_table(report))


if __name__ == "__main__":
    sys.exit(main())
