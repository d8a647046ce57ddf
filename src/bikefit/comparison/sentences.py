"""Sentences about a ranking."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import pandas as pd

from bikefit.comparison.noise import CONFIDENCE
from bikefit.comparison.ranking import comparable, least_flexible, winner
from bikefit.comparison.runs import loss_unit, ranking_metric


def number(value: float, like: float) -> str:
    """Format a number with the decimals that give `like` four significant digits; NaN as "–"."""
    if math.isnan(value):
        return "–"
    size = math.floor(math.log10(abs(like))) if like and math.isfinite(like) else 0
    return f"{value:.{max(0, 3 - size)}f}"


def with_spread(row: pd.Series | dict[Hashable, Any], name: str, like: float) -> str:
    """Format a metric as "17.93 ± 0.21", without "±" if its standard deviation is unknown."""
    spread = row[f"{name}_std"]
    text = number(row[name], like)
    return text if math.isnan(spread) else f"{text} ± {number(spread, like)}"


def summary(ranking: pd.DataFrame) -> list[str]:
    """Return what a ranking with verdicts shows: winner, noise, tables, verdicts, failures."""
    sentences = (
        *(winner_sentence, noise_sentence, rows_sentence),
        *(verdict_sentence, next_sentence, failure_sentence),
    )
    return [text for sentence in sentences if (text := sentence(ranking))]


def winner_sentence(ranking: pd.DataFrame) -> str:
    """Name the configuration with the lowest validation loss, or say that no run finished."""
    best = winner(ranking)
    if best is None:
        count = int(ranking["runs"].sum())
        return f"No run finished (of {count})." if count else "The sweep has no runs."
    text = with_spread(best, "val_loss", best["val_loss"])
    detail = f"; ± standard deviation over {repetitions(best)}" if "±" in text else "; one seed"
    units = {"RMSE": best["target_unit"]}
    metrics = [
        f", {name} {value} {units.get(name, '')}".rstrip()
        for name, value in further_metrics(best, ranking).items()
    ]
    return (
        f"{best['configuration']} has the lowest validation {ranking_metric(ranking)}: "
        f"{text} ({loss_unit(ranking)}{detail}){''.join(metrics)}."
    )


def further_metrics(row: pd.Series | dict[Hashable, Any], ranking: pd.DataFrame) -> dict[str, str]:
    """Return the metrics beside the loss that a ranking has, of the validation rows, as text."""
    # With the decimals that give the lowest RMSE three significant digits, at least one.
    likes = {"rmse": min(10 * ranking["val_rmse"].min(), 100), "accuracy": 1, "auc": 1}
    names = {"rmse": "RMSE", "accuracy": "accuracy", "auc": "AUC"}
    return {
        names[key]: number(row[f"val_{key}"], like)
        for key, like in likes.items()
        if ranking[f"val_{key}"].notna().any()
    }


def repetitions(row: pd.Series) -> str:
    """Return the repetitions that a standard deviation is over: "5 folds" or "3 seeds"."""
    count = row["folds"] if row["folds"] > 1 else row["seeds"]
    return f"{count:.0f} {row['repetition']}"


def noise_sentence(ranking: pd.DataFrame) -> str:
    """Say whether the lead of the winner is significant; empty if it has no competitor."""
    best, others = winner(ranking), comparable(ranking).iloc[1:]
    if best is None or others.empty:
        return ""
    if others["within_noise"].isna().all():
        return "With one seed each, the noise is unknown: run more seeds (seed=0,1,2)."
    noise = f"{100 * CONFIDENCE:g} % confidence"
    close = others[others["within_noise"].fillna(False).astype(bool)]
    if len(close):
        names = ", ".join(close["configuration"].head(3)) + (", …" if len(close) > 3 else "")
        return f"Not significantly worse ({noise}): {len(close)}, namely {names}."
    second = others.iloc[0]
    behind = number(second["difference"], best["val_loss"])
    return (
        f"All others are significantly worse ({noise}); the next, "
        f"{second['configuration']}, by {behind}."
    )


def rows_sentence(ranking: pd.DataFrame) -> str:
    """Say that parts of the ranking are not comparable; empty if all rows are."""
    finished = ranking.dropna(subset=["val_loss"])
    if finished["validation_rows"].nunique() < 2:
        return ""
    groups = finished.groupby("validation_rows", sort=False)["table"].unique()
    names = "; ".join(", ".join(tables) for tables in groups)
    return (
        "Losses on different validation rows cannot be compared, so the ranking has one part for "
        f"each set of validation rows, in this order of tables: {names}."
    )


def failure_sentence(ranking: pd.DataFrame) -> str:
    """Name the configurations with runs without a result; empty if all runs finished."""
    failed = ranking[ranking["failed"] > 0]
    if failed.empty:
        return ""
    names = ", ".join(f"{r.configuration} ({r.failed} of {r.runs})" for r in failed.itertuples())
    count = f"{failed['failed'].sum()} of {ranking['runs'].sum()}"
    return f"{count} runs failed or did not finish: {names}."


def verdict_sentence(ranking: pd.DataFrame) -> str:
    """Count the verdicts and give that of the winner; empty if no run finished."""
    best = winner(ranking)
    if best is None:
        return ""
    counts = ranking["verdict"].value_counts()
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return (
        f"Verdicts on configurations: {listed}. On the best: {best['verdict']}, "
        f"because {best['reason']}. Next: {best['next']}."
    )


def next_sentence(ranking: pd.DataFrame) -> str:
    """Say what to do about underfitting and overfitting configurations; empty if there are none."""
    steps = ranking.drop_duplicates("verdict").set_index("verdict")["next"]
    steps = steps.reindex(["underfitting", "overfitting"]).dropna()
    return " ".join(f"{str(verdict).capitalize()}: {step}." for verdict, step in steps.items())


def choice_sentence(ranking: pd.DataFrame) -> str:
    """Name the configuration that the one-standard-error rule chooses."""
    chosen, best = least_flexible(ranking), winner(ranking)
    if chosen is None or best is None:
        return "Nothing can be chosen: no run finished."
    if math.isnan(best["val_loss_se"]):
        return (
            f"One seed has no standard error: the rule chooses {chosen['configuration']}, the best."
        )
    error, loss = (number(x, best["val_loss"]) for x in (best["val_loss_se"], chosen["val_loss"]))
    return (
        f"The one-standard-error rule chooses {chosen['configuration']}, with {loss}: the least "
        f"flexible within {error} of the best."
    )
