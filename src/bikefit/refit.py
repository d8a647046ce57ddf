"""Make a model of a sweep and test it: `python -m bikefit.refit [sweep]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bikefit.errors import BikefitError


def main(arguments: Sequence[str] | None = None) -> int:
    """Refit, or only renew a document's table; return the exit status."""
    options = _parse(arguments)
    try:
        if options.document:
            _document(options.document, options.reports)
        else:
            _refit(options)
    except (BikefitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bikefit.refit",
        description="Test the best of a sweep once, fit it on all rows and register it.",
    )
    parser.add_argument("sweep", nargs="?", help="run id of a sweep; default: the latest")
    parser.add_argument("--record", type=Path, help='JSON file with the sweep: {"sweep": run id}')
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder of test.json")
    parser.add_argument(
        "--seeds", type=int, default=8, help="networks of the winner that are averaged"
    )
    parser.add_argument(
        "--ensemble", type=int, metavar="STEPS", default=0,
        help="average networks of the whole sweep, selected in so many steps (25, say), if that is "
        "better than the winner on days that the selection has not seen",
    )  # fmt: skip
    parser.add_argument(
        "--trees", action="store_true",
        help="average the networks with boosted trees, if that is better on days that were not "
        "used to say how much these count",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, help="fits side by side; default: one a core")
    parser.add_argument("--name", default="bikefit", help="name in the model registry")
    parser.add_argument(
        "--one-standard-error", action="store_true",
        help="choose the least flexible configuration within one standard error of the best",
    )  # fmt: skip
    parser.add_argument(
        "--promote", action="store_true", help="make it the champion even if it is not better"
    )
    parser.add_argument(
        "--document", type=Path,
        help="do nothing but put the table of test.json into this Markdown file",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.record and options.sweep:
        parser.error("give either --record or a sweep")
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds}: at least 1 is needed")
    if options.ensemble < 0:
        parser.error(f"--ensemble {options.ensemble}: a number of steps, or 0 for none")
    if options.ensemble and options.one_standard_error:
        parser.error(
            "--ensemble chooses the best average, --one-standard-error a less flexible one"
        )
    return options


def _refit(options: argparse.Namespace) -> None:
    from bikefit.final.report import table
    from bikefit.final.run import Options, refit
    from bikefit.tracking import reading

    sweep = reading.recorded_sweep(options.record) if options.record else options.sweep
    sweep = sweep or reading.latest_sweep()
    print(f"{reading.sweep_name(sweep)} ({sweep})\n")
    chosen = Options(
        one_standard_error=options.one_standard_error, seeds=options.seeds,
        ensemble=options.ensemble, trees=options.trees, name=options.name,
        promote=options.promote, processes=options.processes,
    )  # fmt: skip
    print(f"\n{table(refit(sweep, options.reports, chosen))}")


def _document(document: Path, reports: Path) -> None:
    from bikefit.data.files import replace_section
    from bikefit.final.report import table

    replace_section(
        document, "test", table(json.loads((reports / "test.json").read_text(encoding="utf-8")))
    )


if __name__ == "__main__":
    sys.exit(main())
