"""Tables of results: data frames of strings, rendered for a terminal or as Markdown."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bikefit.comparison.losses import FOLDS
from bikefit.comparison.ranking import typical_rows, winner
from bikefit.comparison.runs import loss_unit, ranking_metric, run_table
from bikefit.comparison.sentences import number, summary, with_spread
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError

LEFT = {"configuration", "verdict", "table"}  # columns of text, aligned at the left
NEAR = "≈"  # before the rank of a configuration that is not significantly worse than the best


def ranking_strings(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the table of a ranking as text; RMSE in bikes/hour.

    Args:
        ranking: of :func:`bikefit.comparison.ranking.rank`.

    Returns:
        Columns ``#`` (the rank), ``configuration``, ``seeds``, ``train``, ``validation``, ``gap``,
        ``RMSE`` and, if there are verdicts, ``verdict``, with the index of `ranking`.
    """
    metric = ranking_metric(ranking)
    like = ranking[f"val_{metric}"].min()
    rows = [
        {
            "#": NEAR * (row["within_noise"] is True) + str(rank),
            "configuration": row["configuration"],
            "seeds": str(row["seeds"]),
            "train": number(row[f"train_{metric}"], like),
            "validation": with_spread(row, f"val_{metric}", like),
            "gap": number(row["gap"], like),
            "RMSE": number(row["val_rmse"], 100),
            **({"verdict": row["verdict"] or "–"} if "verdict" in ranking else {}),
        }
        for rank, row in enumerate(ranking.to_dict("records"), start=1)
    ]
    return pd.DataFrame(rows, index=ranking.index)


def caption(ranking: pd.DataFrame) -> str:
    """Return the units and signs of :func:`ranking_strings`."""
    metric = ranking_metric(ranking)
    parts = [f"train and validation {metric}: {loss_unit(ranking)}", "RMSE: bikes/hour"]
    if ranking[f"val_{metric}_std"].notna().any():
        over = "folds" if (ranking["folds"] > 1).any() else "seeds"
        parts.append(f"±: standard deviation over {over}")
    if ranking["within_noise"].fillna(False).any():
        parts.append(f"{NEAR}: not significantly worse than the best")
    return "; ".join(parts)


def print_ranking(ranking: pd.DataFrame, top: int = 25, console: Console | None = None) -> None:
    """Print what a ranking shows in sentences, then its best configurations in a table.

    Args:
        ranking: of :func:`bikefit.comparison.ranking.rank`.
        top: Number of configurations in the table.
        console: Where to print; standard output if None.
    """
    console = console or Console(highlight=False)
    for i, sentence in enumerate(summary(ranking)):
        console.print(Text(sentence, style="" if i else "bold"))
    if winner(ranking) is None:
        return
    more = f"; the best {top} of {len(ranking)} configurations" * (len(ranking) > top)
    strings = ranking_strings(ranking).head(top)
    table = Table(
        box=None, padding=(0, 1, 0, 0), caption=caption(ranking) + more, caption_justify="left"
    )
    for name in strings:
        wrap = name == "configuration"
        table.add_column(
            str(name),
            justify="left" if name in LEFT else "right",
            no_wrap=not wrap,
            overflow="fold",
        )
    for i, row in enumerate(strings.itertuples(index=False)):
        near = "green" if row[0].startswith(NEAR) else None
        table.add_row(*map(Text, row), style=near if i else "bold green")
    console.print()
    console.print(table)


def markdown(strings: pd.DataFrame) -> str:
    """Return a data frame of strings as a Markdown table."""
    rule = "|".join(":--" if name in LEFT else "--:" for name in strings)
    head, *body = (
        f"| {' | '.join(map(str, line))} |" for line in [list(strings), *strings.to_numpy()]
    )
    return "\n".join([head, f"|{rule}|", *body])


def ranking_note(ranking: pd.DataFrame, more: str = "") -> str:
    """Describe a sweep in Markdown: what its ranking shows, and typical or the best 10 rows.

    Args:
        ranking: of all configurations. With verdicts, the rows of
            :func:`bikefit.comparison.ranking.typical_rows` are shown.
        more: A further sentence.
    """
    first, *others = summary(ranking)
    paragraphs = [f"**{first}**", *others, more]
    if winner(ranking) is not None:
        rows = typical_rows(ranking) if "verdict" in ranking else ranking.head(10)
        paragraphs += [markdown(ranking_strings(ranking).loc[rows.index]), caption(ranking) + "."]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def fold_deviances(runs: pd.DataFrame) -> pd.DataFrame:
    """Read the held-out deviance of every fold of every job of a cross-validated sweep.

    Args:
        runs: as returned by :func:`bikefit.tracking.reading.read_runs`.

    Returns:
        One row per job with ``configuration_id``, ``configuration``, ``table``, ``seed``, ``train``
        (mean deviance on the training rows) and one column per fold (0, 1, …), all in bikes/hour,
        in the order of `runs`.

    Raises:
        TrackingError: The sweep was not cross-validated, or no job finished.
    """
    table = run_table(runs)
    table = table[(table["status"] == "FINISHED") & (table["folds"] > 1)]
    if table.empty:
        raise TrackingError("no finished run with validation=kfold in this sweep")
    folds = pd.DataFrame(
        [reading.read_steps(run, FOLDS.format("deviance")) for run in table["run_id"]],
        index=table.index,
    )
    shown = table[["configuration_id", "configuration", "table", "seed"]]
    return pd.concat([shown, table["train_deviance"].rename("train"), folds], axis=1)


def fold_table(runs: pd.DataFrame) -> str:
    """Return a cross-validated sweep as a Markdown table, configurations in their order.

    The mean is over folds and seeds, ± the standard deviation over seeds; each fold is a mean
    over seeds.
    """
    jobs = fold_deviances(runs)
    names = [column for column in jobs if isinstance(column, int)]
    rows = []
    for _, group in jobs.groupby("configuration_id", sort=False):
        means = group[names].mean(axis=1)
        spread = f" ± {means.std():.2f}" if len(group) > 1 else ""
        rows.append({
            "configuration": group["configuration"].iloc[0],
            "table": group["table"].iloc[0],
            "seeds": str(len(group)),
            "mean": f"**{means.mean():.2f}**{spread}",
            **{f"fold {name + 1}": f"{group[name].mean():.2f}" for name in names},
            "on training rows": f"{group['train'].mean():.2f}",
        })  # fmt: skip
    return markdown(pd.DataFrame(rows))
