"""The last word: verdicts on a sweep or a plain run, which the runs get as tags."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bikefit.comparison.parts import with_parts
from bikefit.comparison.ranking import rank, whole
from bikefit.comparison.verdicts import counts, read_thresholds, verdicts, with_verdicts
from bikefit.tracking import connection, reading, writing
from bikefit.tracking.names import PARENT, VERDICT


def conclude(sweep: str, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank a sweep, give verdicts, and write those to its runs and their counts to the sweep.

    Args:
        sweep: id of the sweep's run.
        runs: as :func:`bikefit.tracking.reading.read_runs` gives them.

    Returns:
        The ranking with the columns ``verdict``, ``reason`` and ``next``, and the verdicts on
        single runs, as :func:`bikefit.comparison.verdicts.verdicts` gives them.

    Raises:
        ThresholdError: the file of thresholds is wrong.
    """
    thresholds = read_thresholds()
    runs = with_parts(runs)
    ranking = with_verdicts(rank(whole(runs), thresholds.confidence), runs, thresholds)
    table = verdicts(runs, thresholds)
    if len(runs):
        writing.tag_verdicts(table[_is_news(table, runs)])
        writing.log_counts(sweep, counts(table))
    return ranking, table


def _is_news(table: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    """Say which runs lack what comes with a verdict as tags: writing takes 5 ms a run."""
    tags = [f"tags.{tag}" for tag in VERDICT.values()]
    old = runs.reindex(columns=tags).reset_index(drop=True).astype(object)
    new = table[list(VERDICT)].set_axis(tags, axis=1)
    return (old.where(old.notna(), "") != new.where(new.notna(), "")).any(axis=1)


def conclude_run(run: str) -> str:
    """Give a run that stands alone its verdict, as far as it allows one, and say it.

    One that a sweep has trained keeps the verdict that it has there.
    """
    tags = connection.client().get_run(run).data.tags
    if PARENT in tags and VERDICT["verdict"] in tags:
        said: dict[Any, Any] = {name: tags.get(tag) for name, tag in VERDICT.items()}
    else:
        table = verdicts(reading.read_run(run), read_thresholds())
        writing.tag_verdicts(table)
        said = table.iloc[0].to_dict()
    return f"{said['verdict']}: {said['reason']}. Next: {said['next']}"
