"""The ranking of a sweep as a user reads it in a terminal."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bikefit.comparison.ranking import (
    failure_sentence,
    measure,
    noise_sentence,
    number,
    unit,
    verdict_sentence,
    winner,
    winner_sentence,
    with_spread,
)

NOISE_MARK = "≈"


def print_ranking(ranking: pd.DataFrame, top: int = 25, console: Console | None = None) -> None:
    """Print who won in a sentence, then the best configurations in a table.

    Args:
        ranking: of :func:`bikefit.comparison.ranking.rank`.
        top: number of configurations to show.
        console: where to print; standard output if None.
    """
    console = console or Console(highlight=False)
    console.print(Text(winner_sentence(ranking), style="bold"))
    for sentence in (
        noise_sentence(ranking), verdict_sentence(ranking), failure_sentence(ranking),
    ):  # fmt: skip
        if sentence:
            console.print(Text(sentence))
    if winner(ranking) is not None:
        console.print()
        console.print(_table(ranking, top))


def _table(ranking: pd.DataFrame, top: int) -> Table:
    name = measure(ranking)
    like = ranking[f"val_{name}"].iloc[0]
    table = Table(
        box=None, padding=(0, 1, 0, 0), caption=_caption(ranking, top), caption_justify="left"
    )
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("configuration", overflow="fold")
    for head in ("seeds", "train", "validation", "gap", "RMSE"):
        table.add_column(head, justify="right", no_wrap=True)
    told = "verdict" in ranking
    if told:
        table.add_column("verdict", no_wrap=True)
    for place, row in enumerate(ranking.head(top).to_dict("records"), start=1):
        near = NOISE_MARK if row["within_noise"] is True else " "
        table.add_row(
            f"{near}{place}",
            Text(row["configuration"]),
            str(row["seeds"]),
            number(row[f"train_{name}"], like),
            with_spread(row, f"val_{name}", like),
            number(row["gap"], like),
            number(row["val_rmse"], 100),
            *([row["verdict"] or "–"] if told else []),
            style="bold green" if place == 1 else "green" if near.strip() else None,
        )
    return table


def _caption(ranking: pd.DataFrame, top: int) -> str:
    over = "folds" if (ranking["folds"] > 1).any() else "seeds"
    parts = [f"train and validation {measure(ranking)}: {unit(ranking)}", "RMSE: bikes/hour"]
    if ranking[f"val_{measure(ranking)}_std"].notna().any():
        parts.append(f"±: standard deviation over {over}")
    if ranking["within_noise"].fillna(False).any():
        parts.append(f"{NOISE_MARK}: within the noise of the winner")
    if len(ranking) > top:
        parts.append(f"the best {top} of {len(ranking)} configurations")
    return "; ".join(parts)
