"""Is the champion better than trees? `python -m benchmarks.champion`, in the project's root.

Draws the split anew and again, fits the recipes of `benchmarks/champion.yaml` and boosted trees
on training and validation rows, and measures the test rows once. Each finished draw is kept in
`benchmarks/draws/`, so that a stopped benchmark goes on where it was; `--write` renews the result
in `docs/champion.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import yaml
from benchmarks.sweep.document import machine, table
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bikefit.config import Settings, flat, parse
from bikefit.data.columns import TARGET
from bikefit.data.features import DAYS_SINCE_START, Features
from bikefit.data.featurize import CLEAN_FILE, Featurize
from bikefit.data.files import renew, write_json
from bikefit.data.params import check, read_section
from bikefit.data.splits import PARTS, split
from bikefit.final.baselines import PLAIN, lightgbm_trees, scikit_trees
from bikefit.final.fits import fit_ensemble
from bikefit.final.scores import day_sums, figures
from bikefit.nn.losses import SMALLEST_RATE
from bikefit.train import CONF

KEPT = Path("benchmarks/draws")
DOCUMENT = Path("docs/champion.md")
RECIPES = Path(__file__).with_suffix(".yaml")
DRAWS = (10, 11, 12, 13, 14)  # seeds of the split; nothing was ever tried on these
DRAWN = ("days", "random")
KINDS = (*DRAWN, "chronological")
HELD_OUT = 0.2  # of the rows (or days), for validation and again for the test
SAME = (*PLAIN, DAYS_SINCE_START, "day_of_year", "commuting", "occasion")
"""All that the network's columns are made of; trees bend and multiply by themselves."""
LEAVES = (15, 31, 63)
SAMPLED = {
    "learning_rate": 0.04, "colsample_bytree": 0.8, "subsample": 0.8, "subsample_freq": 1,
    "reg_lambda": 1.0,
}  # fmt: skip
OURS, ONE = "our champion", "one of its networks"


@dataclass(frozen=True)
class Recipe:
    """What differs from the table `rich` and from the experiment `champion`."""

    features: dict[str, Any] = field(default_factory=dict)
    more_splines: Sequence[dict[str, Any]] = ()
    without_splines: Sequence[str] = ()
    overrides: Sequence[str] = ()

    def columns(self) -> Features:
        """The features of the network."""
        rich = read_section("featurize", Featurize).tables["rich"]
        kept = rich.model_dump(include=set(Features.model_fields))
        splines = [s for s in kept["splines"] if s["of"] not in self.without_splines]
        changed = kept | self.features | {"splines": [*splines, *self.more_splines]}
        return check("benchmarks/champion.yaml", Features, changed)

    def settings(self) -> Settings:
        """The network and its training."""
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", ["+experiment=champion", *self.overrides])
        return parse(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


def recipe(kind: str) -> Recipe:
    """Read the recipe of a split kind."""
    return Recipe(**yaml.safe_load(RECIPES.read_text(encoding="utf-8"))[kind])


def trees() -> dict[str, Callable[..., np.ndarray]]:
    """Every model of trees by its name: it takes rows to train, to validate and to predict."""
    lightgbm = partial(lightgbm_trees, leaves=LEAVES, **SAMPLED)
    ways = {
        "LightGBM, poisson": lightgbm,
        "LightGBM, l2": partial(lightgbm, objective="l2"),
        "HistGradientBoosting, poisson": scikit_trees,
    }
    columns = {"plain columns": PLAIN, "same columns": SAME}
    return {
        f"{name}, {told}": partial(way, names=names)
        for told, names in columns.items()
        for name, way in ways.items()
    }


def measure(kind: str, seed: int, seeds: int) -> dict[str, Any]:
    """Measure one draw, or read what was measured with the same recipe."""
    features, settings = recipe(kind).columns(), recipe(kind).settings()
    told = {"features": features.model_dump(mode="json"), "settings": flat(settings)}
    told |= {"seeds": seeds}
    file = KEPT / f"{kind}-{seed}.json"
    if file.exists() and (kept := json.loads(file.read_text(encoding="utf-8")))["recipe"] == told:
        return kept
    start = time.perf_counter()
    hours = pd.read_parquet(CLEAN_FILE)
    labels = split(hours["timestamp"].to_numpy(), kind, seed, HELD_OUT, HELD_OUT)  # type: ignore[arg-type]
    parts = [hours[labels == part].reset_index(drop=True) for part in PARTS]
    ensemble = fit_ensemble(settings, features, hours[labels != "test"], seeds)
    members = ensemble.predict(parts[2])
    seconds = time.perf_counter() - start
    found = {name: score(parts[2], way(*parts)) for name, way in trees().items()}
    alone = [score(parts[2], member) for member in members]
    found[ONE] = {key: float(np.mean([one[key] for one in alone])) for key in alone[0]}
    found[OURS] = score(parts[2], members.mean(axis=0))
    result = {
        "recipe": told, "kind": kind, "seed": seed, "rows": len(parts[2]),
        "columns": len(features.names), "models": found, "seconds": {
            "network": seconds, "trees": time.perf_counter() - start - seconds
        },
    }  # fmt: skip
    write_json(file, result)
    return result


def score(rows: pd.DataFrame, predicted: np.ndarray) -> dict[str, float]:
    """RMSE and mean Poisson deviance; a rate below 1 bike/hour counts as 1 (trees with l2)."""
    target = rows[TARGET].to_numpy()
    least = predicted if (predicted > 0).all() else np.maximum(predicted, SMALLEST_RATE)
    sums = day_sums(rows["timestamp"].to_numpy(), target, least)
    rmse, deviance, _ = figures(sums.sum(axis=0))
    return {"rmse": float(rmse), "deviance": float(deviance)}


def lead(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """By how many percent ours is lower, the mean over draws ± its standard error."""
    gain = 100 * (1 - np.array(ours) / np.array(theirs))
    error = f" ± {gain.std(ddof=1) / np.sqrt(len(gain)):.1f}" if len(gain) > 1 else ""
    return f"{gain.mean():.1f}{error}"


def section(results: Sequence[dict[str, Any]]) -> str:
    """Write the result of one split kind as Markdown."""
    first = results[0]
    draws = ", ".join(str(one["seed"]) for one in results)
    network, others = (
        np.mean([one["seconds"][key] for one in results]) for key in ("network", "trees")
    )
    text = (
        f"**{first['kind']}**: {len(results)} draw{'s' if len(results) > 1 else ''} (seeds "
        f"{draws}), {first['rows']:,} test rows in the first, {first['columns']} columns, "
        f"{first['recipe']['seeds']} networks; {network:.0f} s for the networks and {others:.0f} s "
        "for all trees, each draw in one of two processes."
    )
    models = {
        name: {key: [one["models"][name][key] for one in results] for key in of}
        for name, of in first["models"].items()
    }
    rows = [
        [
            name, f"{np.mean(of['rmse']):.2f}", f"{np.mean(of['deviance']):.3f}",
            *("" if name == OURS else lead(models[OURS][key], of[key]) for key in of),
        ]
        for name, of in sorted(models.items(), key=lambda item: -np.mean(item[1]["deviance"]))
    ]  # fmt: skip
    head = ("model", "RMSE", "mean deviance", "champion lower by, RMSE %", "deviance %")
    return f"{text}\n\n{table(head, rows)}"


def report(results: Sequence[dict[str, Any]]) -> str:
    """Write all split kinds as Markdown."""
    kinds = dict.fromkeys(one["kind"] for one in results)
    return "\n\n".join(section([one for one in results if one["kind"] == kind]) for kind in kinds)


def main() -> None:
    """Measure the draws, print and perhaps write the result."""
    parser = argparse.ArgumentParser(description="Is the champion better than trees?")
    parser.add_argument("--draws", type=int, nargs="+", default=DRAWS, help="seeds of the split")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of the split")
    parser.add_argument("--seeds", type=int, default=4, help="networks whose mean predicts")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kept", action="store_true", help="measure nothing that is not there")
    parser.add_argument("--write", action="store_true", help=f"renew {DOCUMENT}")
    options = parser.parse_args()
    tasks = [(kind, seed) for seed in options.draws for kind in options.kinds if kind in DRAWN]
    if "chronological" in options.kinds:  # it has one draw
        tasks.insert(0, ("chronological", 0))
    if options.kept:
        tasks = [(kind, seed) for kind, seed in tasks if (KEPT / f"{kind}-{seed}.json").exists()]
    on = machine()
    results = joblib.Parallel(n_jobs=options.processes)(
        joblib.delayed(measure)(kind, seed, options.seeds) for kind, seed in tasks
    )
    results.sort(key=lambda one: (KINDS.index(one["kind"]), one["seed"]))
    text = f"{report(results)}\n\n{on}"
    print(text)
    if options.write:
        renew(DOCUMENT, "champion", text)


if __name__ == "__main__":
    from benchmarks import champion  # under its own name, for the processes that it is sent to

    champion.main()
