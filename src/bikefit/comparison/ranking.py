"""Which configuration has the lowest validation loss, and is its lead more than noise?

A configuration is everything that its runs share: all settings but the seed. Nothing here reads
or writes: tables in, tables and sentences out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bikefit.comparison.labels import (
    FRACTION,
    column,
    configurations,
    methods,
    networks,
    settings,
)
from bikefit.comparison.noise import CONFIDENCE, difference, samples
from bikefit.config import STRENGTHS

METHODS = (*STRENGTHS, "batch_norm", "patience")  # keys of regularization with a column each
NAMED = {"network.name", "network.hidden", "regularization.name", "data.name", "validation.folds"}
METRICS = {
    "train_loss": "best/train/loss",
    "val_loss": "best/val/loss",
    "gap": "gap",
    "train_rmse": "best/train/rmse",
    "val_rmse": "best/val/rmse",
    "train_deviance": "best/train/deviance",
    "val_deviance": "best/val/deviance",
}
UNITS = {"mse": "in units of the target's variance", "poisson": "half Poisson deviance, bikes/hour"}
NOISE = f"{CONFIDENCE:.0%} confidence; of seeds and of validation days"
MODIFIERS = {"on weights", "proximal", "lecture scaling"}  # say how, not which method


def comparison(runs: pd.DataFrame) -> pd.DataFrame:
    """List the runs of a sweep, one row a run, with what was set and what came out.

    Args:
        runs: as :func:`bikefit.tracking.reading.read_runs` gives them.

    Returns:
        In the order of `runs`; losses in the unit of :func:`unit`, RMSE in bikes/hour, deviances
        in bikes/hour, all at the selected epoch and empty for a run that failed. Settings that
        differ within the sweep and have no column of their own follow under their own names;
        with cross-validation, so do standard errors over the folds (``…_se``).
    """
    of = partial(column, runs)
    table = pd.DataFrame({key: of(key) for key in ("run_id", "name", "status")})
    named = "configuration" in runs
    table["configuration"] = runs["configuration"] if named else configurations(runs)
    table["regularization"] = methods(runs)
    table["kind"] = table["regularization"].map(kind)
    for key in METHODS:
        table[key] = of(f"regularization.{key}")
    table["network"] = networks(runs)
    table["table"], table["loss"] = of("data.name"), of("loss")
    table["folds"], table["seed"] = of("validation.folds").fillna(1), of("seed")
    for name, metric in METRICS.items():
        table[name] = of(metric).astype(float)
    table["best_epoch"] = of("best/epoch")
    errors = {f"{name}_se": f"{metric}/standard_error" for name, metric in METRICS.items()}
    more = {key: runs[key] for key in _swept(runs)}
    more |= {name: runs[metric] for name, metric in errors.items() if metric in runs}
    return table.assign(**more, failure=of("tags.failure"))


def kind(regularization: str) -> str:
    """Take strengths off a label: "l2 λ=0.001 + hidden1 dropout p=0.3" is "l2 + dropout"."""
    names: list[str] = []
    for part in regularization.split(" + "):
        name = re.sub(r"^(input|hidden\d+|output) ", "", part)
        name = re.sub(r" (λ=|p=|before$|after$|\d+$).*", "", name)
        if name in MODIFIERS:
            continue
        names.append("lp" if re.fullmatch(r"l[\d.]+", name) and name not in ("l1", "l2") else name)
    return " + ".join(dict.fromkeys(names))


def whole(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs on the largest share of the training rows that the sweep has.

    Runs on fewer rows are there to show what more data brings; they are no candidates. Those that
    are kept have the names of configurations that they have among all, since a name says only what
    is not as in most runs.
    """
    if FRACTION not in runs:
        return runs
    runs = runs.assign(configuration=configurations(runs))
    return runs[runs[FRACTION] == runs[FRACTION].max()].reset_index(drop=True)


def _swept(runs: pd.DataFrame) -> list[str]:
    """Settings that differ and for which :func:`comparison` has no column of its own."""
    own = NAMED | {"loss"} | {f"regularization.{key}" for key in METHODS}
    return [k for k in settings(runs) if k not in own and runs[k].nunique(dropna=False) > 1]


def measure(table: pd.DataFrame) -> str:
    """Return what a table is ranked by: "loss", or "deviance" where it mixes kinds of loss."""
    return "deviance" if table["loss"].nunique() > 1 else "loss"


def unit(table: pd.DataFrame) -> str:
    """Return the unit of what :func:`measure` names."""
    losses = table["loss"].dropna()
    if losses.empty:
        return ""
    return UNITS[losses.iloc[0]] if measure(table) == "loss" else "Poisson deviance, bikes/hour"


def rank(runs: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Rank the configurations of a sweep by their mean validation loss.

    Args:
        runs: as :func:`bikefit.tracking.reading.read_runs` gives them, better still with what
            :func:`bikefit.comparison.parts.with_parts` adds.
        confidence: with which a lead must be told from noise.

    Returns:
        One row a configuration, best first, those without a result last. ``runs``, ``seeds`` and
        ``failed`` count; each measure is a mean over seeds, with ``…_std``, its standard
        deviation over seeds, and ``…_se``, its standard error; with cross-validation both are
        over folds. ``difference`` is the lead of the winner, ``difference_se`` its standard error
        with all the noise of :mod:`bikefit.comparison.noise`, and ``within_noise`` whether noise
        alone may make such a lead: NA for the winner itself and where nothing shows the noise.
    """
    table = comparison(runs)
    by = f"val_{measure(table)}"
    table["gap"] = table[by] - table[f"train_{measure(table)}"]
    shared = ["configuration", "regularization", "kind", "network", "table", "loss", "folds"]
    ranking = table.groupby("configuration", sort=False)[shared[1:]].first()
    groups = table.groupby("configuration", sort=False)
    ranking["runs"], ranking["failed"] = groups.size(), groups.size() - groups[by].count()
    by_seed = table.groupby(["configuration", "seed"], dropna=False)[list(METRICS)].mean()
    ranking["seeds"] = by_seed[by].groupby("configuration").count()
    ranking = ranking.join(_moments(table, by_seed, ranking))
    ranking = ranking.sort_values([by, "configuration"]).reset_index()
    if ranking.empty:
        undefined = ("difference", "difference_se", "within_noise")
        return ranking.assign(**{key: pd.Series(dtype=float) for key in undefined})
    return ranking.join(_leads(runs, table, ranking, by, confidence))


def _moments(table: pd.DataFrame, by_seed: pd.DataFrame, ranking: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and standard error of each measure, by configuration."""
    groups = by_seed.groupby("configuration")
    moments, stds = groups.mean(), groups.std()
    for name in METRICS:
        # Seeds share their folds, so more seeds do not shrink what comes from the folds.
        folds = table.get(f"{name}_se", pd.Series(np.nan, index=table.index))
        of_folds = folds.groupby(table["configuration"]).mean()
        std = stds[name]
        moments[f"{name}_std"] = (of_folds * np.sqrt(ranking["folds"])).fillna(std)
        moments[f"{name}_se"] = of_folds.fillna(std / np.sqrt(ranking["seeds"]))
    return moments


def details(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What tells the noise of each run's loss, as :func:`bikefit.comparison.noise.samples` asks.

    Args:
        runs: as they were read.
        table: :func:`comparison` of them.

    Returns:
        ``days``, ``folds``, ``fold_error`` and ``rows``, in the order of `runs`.
    """
    metric = METRICS[f"val_{measure(table)}"]
    none = pd.Series([()] * len(runs), index=table.index, dtype=object)
    found = pd.DataFrame(index=table.index)
    for part in ("days", "folds"):
        key = f"{part}/{metric}"
        values = runs[key].set_axis(table.index) if key in runs else none
        found[part] = [value if isinstance(value, tuple) else () for value in values]
    error = table.get(f"val_{measure(table)}_se", pd.Series(np.nan, index=table.index))
    found["fold_error"] = error.astype(float)
    rows = runs["tags.val_rows"].set_axis(table.index) if "tags.val_rows" in runs else np.nan
    # Of a cross-validated run the folds say how noisy its rows are.
    found["rows"] = pd.Series(rows, index=table.index).astype(float).where(error.isna())
    return found


def _leads(
    runs: pd.DataFrame, table: pd.DataFrame, ranking: pd.DataFrame, by: str, confidence: float
) -> pd.DataFrame:
    """How far each configuration is behind the first, and whether that is more than noise."""
    seen = table[["configuration", "seed"]].join(details(runs, table)).assign(loss=table[by])
    known, _ = samples(seen.dropna(subset=["loss"]))
    names = list(ranking["configuration"])
    leads = pd.DataFrame(np.nan, index=ranking.index, columns=["difference", "difference_se"])
    within = pd.Series(pd.NA, index=ranking.index, dtype="boolean")
    if names[0] in known:
        first = known[names[0]]
        level = float(ranking[[by, by.replace("val_", "train_")]].iloc[0].mean())
        for place, name in enumerate(names):
            if name not in known:
                continue
            behind = difference(known[name], first, level)
            leads.loc[place, "difference"] = behind.value
            if place and not math.isnan(behind.error):
                leads.loc[place, "difference_se"] = behind.error
                within[place] = not behind.beyond(confidence)
    return leads.assign(within_noise=within)


def winner(ranking: pd.DataFrame) -> pd.Series | None:
    """Return the first row of a ranking, or None where no run has a result."""
    if ranking.empty or math.isnan(ranking.iloc[0][f"val_{measure(ranking)}"]):
        return None
    return ranking.iloc[0]


def least_flexible(ranking: pd.DataFrame) -> pd.Series | None:
    """Choose by the one-standard-error rule (Breiman et al. 1984), or None where nobody won.

    Of the configurations whose validation loss is at most one standard error of the best above
    the best, the least flexible is chosen: the one that fits its training rows worst.
    """
    best = winner(ranking)
    if best is None or math.isnan(best[f"val_{measure(ranking)}_se"]):
        return best
    name = measure(ranking)
    limit = best[f"val_{name}"] + best[f"val_{name}_se"]
    near = ranking[ranking[f"val_{name}"] <= limit]
    return near.loc[near[f"train_{name}"].idxmax()]


def choice_sentence(ranking: pd.DataFrame) -> str:
    """Say what the one-standard-error rule chooses."""
    chosen, best = least_flexible(ranking), winner(ranking)
    if chosen is None or best is None:
        return "Nothing can be chosen: no run finished."
    by = f"val_{measure(ranking)}"
    if math.isnan(best[f"{by}_se"]):
        return (
            f"One seed has no standard error: the rule chooses {chosen['configuration']}, the best."
        )
    error = number(best[f"{by}_se"], best[by])
    return (
        f"The one-standard-error rule chooses {chosen['configuration']}, with "
        f"{number(chosen[by], best[by])}: the least flexible within {error} of the best."
    )


def number(value: float, like: float) -> str:
    """Write a number with the decimals that give `like` four significant digits; NaN as "–"."""
    if math.isnan(value):
        return "–"
    size = math.floor(math.log10(abs(like))) if like and math.isfinite(like) else 0
    return f"{value:.{max(0, 3 - size)}f}"


def with_spread(row: pd.Series | dict[Hashable, Any], name: str, like: float) -> str:
    """Write a measure as "17.93 ± 0.21", or alone where one seed has no spread."""
    spread = row[f"{name}_std"]
    text = number(row[name], like)
    return text if math.isnan(spread) else f"{text} ± {number(spread, like)}"


def winner_sentence(ranking: pd.DataFrame) -> str:
    """Say who won, or why nobody did."""
    best = winner(ranking)
    if best is None:
        count = int(ranking["runs"].sum())
        return f"No run finished (of {count})." if count else "The sweep has no runs."
    by = f"val_{measure(ranking)}"
    text = with_spread(best, by, best[by])
    over = f"{best['folds']:.0f} folds" if best["folds"] > 1 else f"{best['seeds']} seeds"
    detail = f"; ± standard deviation over {over}" if "±" in text else "; one seed"
    return (
        f"{best['configuration']} has the lowest validation {measure(ranking)}: "
        f"{text} ({unit(ranking)}{detail}), RMSE {best['val_rmse']:.1f} bikes/hour."
    )


def noise_sentence(ranking: pd.DataFrame) -> str:
    """Say whether the winner's lead is more than noise; empty where there is nobody else."""
    best = winner(ranking)
    others = ranking.iloc[1:].dropna(subset=[f"val_{measure(ranking)}"])
    if best is None or others.empty:
        return ""
    if others["within_noise"].isna().all():
        return "With one seed each, nothing tells its lead from noise: run more (seed=0,1,2)."
    close = others[others["within_noise"].fillna(False).astype(bool)]
    if len(close):
        names = ", ".join(close["configuration"].head(3)) + (", …" if len(close) > 3 else "")
        return f"Within the noise of it ({NOISE}): {len(close)}, namely {names}."
    second = others.iloc[0]
    behind = number(second["difference"], best[f"val_{measure(ranking)}"])
    return (
        f"All others are behind by more than the noise ({NOISE}); the next, "
        f"{second['configuration']}, by {behind}."
    )


def failure_sentence(ranking: pd.DataFrame) -> str:
    """Say which configurations have runs without a result; empty where all finished."""
    failed = ranking[ranking["failed"] > 0]
    if failed.empty:
        return ""
    names = ", ".join(f"{r.configuration} ({r.failed} of {r.runs})" for r in failed.itertuples())
    count = f"{failed['failed'].sum()} of {ranking['runs'].sum()}"
    return f"{count} runs failed or did not finish: {names}."


def verdict_sentence(ranking: pd.DataFrame) -> str:
    """Count the verdicts and say what comes next; empty for a ranking without verdicts."""
    if winner(ranking) is None or "verdict" not in ranking:
        return ""
    counts = ranking["verdict"].value_counts()
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    best = ranking.iloc[0]
    return (
        f"Verdicts on configurations: {said}. On the best: {best['verdict']}, "
        f"because {best['reason']}. Next: {best['next']}."
    )


def story(ranking: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of a ranking with verdicts that tell the story, places in ``place``.

    Of each method the best configuration, the worst that overfits and the worst that underfits,
    and the winner's network without regularization.
    """
    placed = ranking.assign(place=range(1, len(ranking) + 1))
    told = placed.dropna(subset=[f"val_{measure(ranking)}"])
    failing = told[told["verdict"].isin(["underfitting", "overfitting"])]
    network = told["network"].iloc[0]
    plain = told[(told["kind"] == "none") & (told["network"] == network)]
    # one that differs in nothing else, where there is one
    plain = plain.sort_values("configuration", key=lambda names: names != f"none · {network}",
                              kind="stable")  # fmt: skip
    kept = pd.concat([
        told.drop_duplicates("kind"),
        failing.drop_duplicates(["kind", "verdict"], keep="last"),
        plain.head(1),
    ])  # fmt: skip
    return kept.drop_duplicates("place").sort_values("place").reset_index(drop=True)


def winner_note(
    ranking: pd.DataFrame, top: int = 10, shown: pd.DataFrame | None = None, more: str = ""
) -> str:
    """Write the description of a sweep (Markdown): who won, the noise, verdicts, what failed.

    Args:
        ranking: of all configurations.
        top: rows of the table, from the first.
        shown: rows of the table, with their places in ``place``, instead of the first.
        more: a further sentence.
    """
    sentences = [f"**{winner_sentence(ranking)}**", noise_sentence(ranking)]
    lines = [" ".join(sentences).strip(), verdict_sentence(ranking), more]
    lines.append(failure_sentence(ranking))
    best, name = winner(ranking), measure(ranking)
    if best is not None:
        like = best[f"val_{name}"]
        told = "verdict" in ranking
        rows_of = ranking.assign(place=range(1, len(ranking) + 1)).head(top)
        rows_of = rows_of if shown is None else shown
        head = f"| | configuration | seeds | train {name} | validation {name} | gap |"
        rows = [
            f"| {row['place']} | {row['configuration']} | {row['seeds']} "
            f"| {number(row[f'train_{name}'], like)} | {with_spread(row, f'val_{name}', like)} "
            f"| {number(row['gap'], like)} |" + (f" {row['verdict'] or '–'} |" if told else "")
            for row in rows_of.to_dict("records")
        ]
        head, rule = head + " verdict |" * told, "|--:|:--|--:|--:|--:|--:|" + ":--|" * told
        lines.append("\n".join([head, rule, *rows]))
    return "\n\n".join(line for line in lines if line)


def between(first: pd.DataFrame, second: pd.DataFrame) -> str:
    """Compare the winners of two sweeps in a sentence.

    Different losses are compared by the Poisson deviance; seeds are not paired.
    """
    one, two = winner(first), winner(second)
    if one is None or two is None:
        return "The two sweeps cannot be compared: one of them has no result."
    if one["table"] != two["table"]:
        tables = f"{one['table']} and {two['table']}"
        return f"The two sweeps cannot be compared: {tables} are different tables."
    name = measure(pd.DataFrame([one, two])) if measure(first) == measure(second) else "deviance"
    by = f"val_{name}"
    texts = [f"{row['configuration']} ({with_spread(row, by, one[by])})" for row in (one, two)]
    lead = one[by] - two[by]
    if lead > 0:
        texts.reverse()
    noise = 2 * math.hypot(one[f"{by}_se"], two[f"{by}_se"])
    told = "how far that is noise is unknown" if math.isnan(noise) else (
        "more than the noise" if abs(lead) > noise else "within the noise"
    )  # fmt: skip
    place = "second" if lead > 0 else "first"
    return (
        f"Between the winners, that of the {place} sweep has the lower validation {name}: "
        f"{texts[0]} against {texts[1]}, {told}."
    )
