"""Measure the value of each part of our model on validation rows.

Fits the winner of the default comparison, and the variants of it in `benchmarks/ablation.yaml`, on
the training rows of several splits of whole days. The mean prediction of several seeds is measured
on the validation rows; test rows are not read.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import product

import joblib
import numpy as np
import yaml
from benchmarks.champion import PAGE, SHOWN, Recipe, parts_of, score
from benchmarks.common import ROOT, mean_with_error, table

from bikefit.data.columns import TARGET
from bikefit.final.choose import trees_share
from bikefit.final.fit import fit_networks
from bikefit.final.trees import tune

VARIANTS = ROOT / "benchmarks/ablation.yaml"
SPLITS = range(5)  # seeds; choices were made on the first three
WINNER, SINGLE, MIXED = "the winner", "one network instead of the average", "with trees mixed in"
HEAD = ("", "RMSE", "mean deviance", "RMSE higher by %", "deviance higher by %")

Scores = dict[str, dict[str, float]]
"""RMSE and mean Poisson deviance by the name of the variant."""

__all__ = ["PAGE", "add_options", "measure"]


def variants() -> dict[str, Recipe]:
    """Return the winner and its variants by name."""
    content = yaml.safe_load(VARIANTS.read_text(encoding="utf-8"))
    base = content["winner"]["overrides"]
    return {
        name: Recipe(
            **{
                **changed,
                "experiment": "comparison",
                "overrides": [*base, *changed.get("overrides", ())],
            }
        )
        for name, changed in ({WINNER: {}} | content["variants"]).items()
    }


def predictions(recipe: Recipe, seeds: int, seed: int) -> np.ndarray:
    """Fit on training rows; return each network's predictions of validation rows, ``(M, N)``."""
    train, validation, _ = parts_of("days", seed)
    fitted = fit_networks(recipe.members(seeds), recipe.columns(), train)
    return fitted.members(validation)


def measure_variant(name: str, recipe: Recipe, seeds: int, seed: int) -> Scores:
    """Return the scores of a variant on a split; of the winner, also of `SINGLE` and `MIXED`."""
    validation = parts_of("days", seed)[1]
    members = predictions(recipe, seeds, seed)
    scores = {name: score(validation, members.mean(axis=0))}
    if name != WINNER:
        return scores
    single = [score(validation, one) for one in members]
    scores[SINGLE] = {key: float(np.mean([one[key] for one in single])) for key in SHOWN}
    return scores | {MIXED: score(validation, mixed(members.mean(axis=0), seed))}


def mixed(networks: np.ndarray, seed: int) -> np.ndarray:
    """Average networks with LightGBM as the pipeline does, ``(N,)`` bikes/hour.

    The weight of the trees is chosen on the same validation rows.

    Args:
        networks: Predictions of the validation rows, ``(N,)``, bikes/hour.
        seed: Seed of the split.
    """
    train, validation, _ = parts_of("days", seed)
    tuned = tune(train, validation)
    assert tuned is not None  # LightGBM is installed
    trees = tuned.fit(train).predict(validation)
    share = trees_share(networks, trees, validation[TARGET].to_numpy(np.float64))
    return (1 - share) * networks + share * trees


def report(scores: Sequence[Scores]) -> str:
    """Return the scores of the splits as a Markdown table, in the order of the variants."""
    rows = []
    for name in scores[0]:
        means = {key: np.mean([one[name][key] for one in scores]) for key in SHOWN}
        differences = [
            100 * (np.array([one[name][key] / one[WINNER][key] for one in scores]) - 1)
            for key in SHOWN
        ]
        cells = [mean_with_error(values) if name != WINNER else "" for values in differences]
        rows.append([name, f"{means['rmse']:.2f}", f"{means['deviance']:.3f}", *cells])
    return table(HEAD, rows)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--splits", type=int, nargs="+", default=SPLITS, help="seeds")
    parser.add_argument("--seeds", type=int, default=4, help="networks that are averaged")
    parser.add_argument("--processes", type=int, default=joblib.cpu_count(), help="fits at once")


def measure(options: argparse.Namespace) -> Mapping[str, str]:
    """Measure all variants on all splits and return the table."""
    scores: list[Scores] = [{} for _ in options.splits]
    tasks = list(product(enumerate(options.splits), variants().items()))
    results = joblib.Parallel(options.processes)(
        joblib.delayed(measure_variant)(name, recipe, options.seeds, seed)
        for (_, seed), (name, recipe) in tasks
    )
    for ((position, _), _), result in zip(tasks, results, strict=True):
        scores[position] |= result
    return {"ablation": f"{report(scores)}\n\n{len(scores)} splits, {options.seeds} seeds."}
