"""Tables of results: data frames of strings, rendered for a terminal or as Markdown."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bikefit.comparison.ranking import typical_rows, winner
from bikefit.comparison.runs import loss_unit, ranking_metric, target_unit
from bikefit.comparison.sentences import further_metrics, number, summary, with_spread
from bikefit.tracking import reading

LEFT = {"configuration", "model", "verdict", "table"}  # columns of text, aligned at the left
NEAR = "≈"  # before the rank of a configuration that is not significantly worse than the best


def ranking_strings(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the table of a ranking as text.

    Returns:
        Columns ``#`` (the rank), ``configuration``, ``seeds``, ``train``, ``validation``, ``gap``,
        the metrics of :func:`~bikefit.comparison.sentences.further_metrics`, and ``verdict``, with
        the index of `ranking`.
    """
    like = ranking["val_loss"].min()
    rows = [
        {
            "#": NEAR * (row["within_noise"] is True) + str(rank),
            "configuration": row["configuration"],
            "seeds": str(row["seeds"]),
            "train": number(row["train_loss"], like),
            "validation": with_spread(row, "val_loss", like),
            "gap": number(row["gap"], like),
            **further_metrics(row, ranking),
            "verdict": row["verdict"] or "–",
        }
        for rank, row in enumerate(ranking.to_dict("records"), start=1)
    ]
    return pd.DataFrame(rows, index=ranking.index)


def caption(ranking: pd.DataFrame) -> str:
    """Return the units and signs of :func:`ranking_strings`."""
    over = " or ".join(ranking["repetition"].unique())
    unit = target_unit(ranking)
    rmse = f"RMSE: {unit}; " if unit and ranking["val_rmse"].notna().any() else ""
    return (
        f"train and validation {ranking_metric(ranking)}: {loss_unit(ranking)}; {rmse}"
        f"±: standard deviation over {over}; {NEAR}: not significantly worse than the best"
    )


def print_ranking(ranking: pd.DataFrame, top: int = 25, console: Console | None = None) -> None:
    """Print what a ranking shows in sentences, then its best configurations in a table.

    Args:
        ranking: of :func:`bikefit.comparison.verdicts.with_verdicts`.
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
    words = caption(ranking) + more
    table = Table(box=None, padding=(0, 1, 0, 0), caption=words, caption_justify="left")
    for name in map(str, strings):
        wraps = name == "configuration"
        side = "left" if name in LEFT else "right"
        table.add_column(name, justify=side, no_wrap=not wraps, overflow="fold")  # type: ignore[arg-type]
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
    """Describe a sweep in Markdown: what its ranking shows, a further sentence, typical rows."""
    first, *others = summary(ranking)
    paragraphs = [f"**{first}**", *others, more]
    if winner(ranking) is not None:
        rows = ranking_strings(ranking).loc[typical_rows(ranking).index]
        paragraphs += [markdown(rows), caption(ranking) + "."]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def fold_table(table: pd.DataFrame) -> str:
    """Return the held-out deviances of a cross-validated sweep as a Markdown table.

    The mean is over folds and seeds, ± the standard deviation over seeds; each fold is a mean
    over seeds. Configurations are in the order of the runs. Without a cross-validated run that
    finished, the text is empty.
    """
    table = table[table["val_loss"].notna() & (table["repetition"] == "folds")]
    rows = []
    for _, jobs in table.groupby("configuration_id", sort=False):
        losses = [reading.read_history(run, "folds/best/val/deviance") for run in jobs["run_id"]]
        folds = pd.DataFrame(losses)
        spread = f" ± {folds.mean(axis=1).std():.2f}" if len(jobs) > 1 else ""
        row = {"configuration": jobs["configuration"].iloc[0], "table": jobs["table"].iloc[0]}
        row |= {"seeds": str(len(jobs)), "mean": f"**{folds.mean(axis=1).mean():.2f}**{spread}"}
        row |= {f"fold {fold + 1}": f"{mean:.2f}" for fold, mean in enumerate(folds.mean())}
        rows.append(row | {"on training rows": f"{jobs['train_deviance'].mean():.2f}"})
    return markdown(pd.DataFrame(rows)) if rows else ""
