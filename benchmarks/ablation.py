"""Measure the value of each part of our model on validation rows.

Fits the winner of the default comparison, and the variants of it in `benchmarks/ablation.yaml`, on
the training rows of several splits of whole days. The mean prediction of several seeds is measured
on the validation rows; test rows are not read.
"""

from __future__ import annotations

import argparse
from itertools import product
from typing import Any

import joblib
import pandas as pd
import yaml
from benchmarks.champion import PAGE, SHOWN, Recipe, parts_of, score
from benchmarks.common import ROOT, mean_with_error, table

from bikefit.data.bikes.columns import TARGET
from bikefit.data.transformer import Transformer
from bikefit.final.fit import fit_networks

VARIANTS = ROOT / "benchmarks/ablation.yaml"
SPLITS = range(5)  # seeds; choices were made on the first three
WINNER = "the winner"
HEAD = ("", "RMSE", "mean deviance", "RMSE higher by %", "deviance higher by %")

__all__ = ["PAGE", "add_options", "measure"]


def variants() -> dict[str, Recipe]:
    """Return the winner and its variants by name."""
    content = yaml.safe_load(VARIANTS.read_text(encoding="utf-8"))
    base = content["winner"]["overrides"]
    return {
        name: Recipe(
            **changed
            | {"experiment": "comparison", "overrides": [*base, *changed.get("overrides", ())]}
        )
        for name, changed in ({WINNER: {}} | content["variants"]).items()
    }


def measure_variant(name: str, recipe: Recipe, seeds: int, seed: int) -> dict[str, Any]:
    """Return RMSE and mean Poisson deviance of a variant on a split."""
    train, validation, _ = parts_of("days", seed)
    transformer = Transformer.fit(recipe.columns(), train)
    fitted = fit_networks(recipe.members(seeds), transformer, train, TARGET)
    mean = fitted.predict_each(validation).mean(axis=0)
    return {"variant": name, "split": seed} | score(validation, mean)


def report(scores: pd.DataFrame) -> str:
    """Return the scores of the splits as a Markdown table, in the order of the variants."""
    by_split = {
        name: of.set_index("split")[SHOWN] for name, of in scores.groupby("variant", sort=False)
    }
    rows = []
    for name, of in by_split.items():
        differences = 100 * (of / by_split[WINNER] - 1)
        cells = [mean_with_error(differences[key].to_numpy()) for key in SHOWN]
        means = [f"{of['rmse'].mean():.2f}", f"{of['deviance'].mean():.3f}"]
        rows.append([name, *means, *(cells if name != WINNER else ["", ""])])
    return table(HEAD, rows)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--splits", type=int, nargs="+", default=SPLITS, help="seeds")
    parser.add_argument("--seeds", type=int, default=4, help="networks that are averaged")
    parser.add_argument("--processes", type=int, default=joblib.cpu_count(), help="fits at once")


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Measure all variants on all splits and return the table."""
    scores = joblib.Parallel(options.processes)(
        joblib.delayed(measure_variant)(name, recipe, options.seeds, seed)
        for seed, (name, recipe) in product(options.splits, variants().items())
    )
    text = report(pd.DataFrame(scores))
    return {"ablation": f"{text}\n\n{len(options.splits)} splits, {options.seeds} seeds."}
