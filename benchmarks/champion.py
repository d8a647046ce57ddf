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
from bikefit.final.scores import MEASURES, day_sums, figures, lead
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
OURS = "our champion"
SHOWN = ("rmse", "deviance")
HEAD = ("model", "RMSE", "mean deviance", "champion's RMSE lower by %", "its deviance by %")


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


def recipes(kind: str) -> list[Recipe]:
    """Read the recipes of a split kind, whose networks are averaged."""
    return [Recipe(**one) for one in yaml.safe_load(RECIPES.read_text(encoding="utf-8"))[kind]]


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


def measure(kind: str, seed: int, networks: int) -> dict[str, Any]:
    """Measure one draw, or read what was measured with the same recipes."""
    ways = [(one.settings(), one.columns()) for one in recipes(kind)]
    seeds = max(1, networks // len(ways))
    told = {
        "recipes": [flat(settings) | columns.model_dump(mode="json") for settings, columns in ways],
        "seeds": seeds,  # of each
    }
    file = KEPT / f"{kind}-{seed}.json"
    if file.exists() and (kept := json.loads(file.read_text(encoding="utf-8")))["told"] == told:
        return kept
    start = time.perf_counter()
    hours = pd.read_parquet(CLEAN_FILE)
    labels = split(hours["timestamp"].to_numpy(), kind, seed, HELD_OUT, HELD_OUT)  # type: ignore[arg-type]
    parts = [hours[labels == part].reset_index(drop=True) for part in PARTS]
    known, test = hours[labels != "test"], parts[2]
    members = np.concatenate([fit_ensemble(*way, known, seeds).predict(test) for way in ways])
    seconds = time.perf_counter() - start
    predicted = {name: way(*parts) for name, way in trees().items()}
    predicted |= {f"network {m + 1}": one for m, one in enumerate(members)}
    result = {
        "told": told, "kind": kind, "seed": seed, "rows": len(test),
        "columns": [len(columns.names) for _, columns in ways],
        "models": scores(test, predicted | {OURS: members.mean(axis=0)}),
        "seconds": {"networks": seconds, "trees": time.perf_counter() - start - seconds},
    }  # fmt: skip
    write_json(file, result)
    return result


def scores(rows: pd.DataFrame, predicted: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """RMSE and mean Poisson deviance of each model, and its distance to ours.

    ``lead_…`` is by how many percent ours is lower, ``lead_…_se`` its standard error by a
    bootstrap over days. Where a model predicts 0 or less (trees with l2), all its rates below 1
    bike/hour count as 1.
    """
    target, time_of = rows[TARGET].to_numpy(), rows["timestamp"].to_numpy()
    sums = {
        name: day_sums(time_of, target, np.maximum(rate, SMALLEST_RATE if rate.min() <= 0 else 0))
        for name, rate in predicted.items()
    }
    found = {}
    for name, days in sums.items():
        values = dict(zip(MEASURES, figures(days.sum(axis=0)).tolist(), strict=True))
        found[name] = {key: values[key] for key in SHOWN}
        for key, (gain, error) in lead(sums[OURS], days).items():
            if key in SHOWN:
                found[name] |= {
                    f"lead_{key}": 100 * gain / values[key],
                    f"lead_{key}_se": 100 * error / values[key],
                }
    return found


def mean_lead(of: Sequence[dict[str, float]], key: str) -> str:
    """The mean over draws ± its standard error; of a single draw, that over its days."""
    gains = np.array([one[f"lead_{key}"] for one in of])
    error = gains.std(ddof=1) / np.sqrt(len(of)) if len(of) > 1 else of[0][f"lead_{key}_se"]
    return f"{gains.mean():.1f} ± {error:.1f}"


def section(results: Sequence[dict[str, Any]]) -> str:
    """Write the result of one split kind as Markdown."""
    first = results[0]
    seconds = {k: np.mean([one["seconds"][k] for one in results]) for k in first["seconds"]}
    text = (
        f"**{first['kind']}**: {len(results)} draw{'s' if len(results) > 1 else ''} (seeds "
        f"{', '.join(str(one['seed']) for one in results)}), {first['rows']:,} test rows in the "
        f"first; {first['told']['seeds']} networks on each of "
        f"{' and '.join(map(str, first['columns']))} columns. A draw took {seconds['networks']:.0f}"
        f" s for the networks, {seconds['trees']:.0f} s for the trees."
    )
    models = {name: [one["models"][name] for one in results] for name in first["models"]}
    means = {
        name: {key: float(np.mean([one[key] for one in of])) for key in SHOWN}
        for name, of in models.items()
    }
    rows = [
        [
            name, f"{means[name]['rmse']:.2f}", f"{means[name]['deviance']:.3f}",
            *("" if name == OURS else mean_lead(models[name], key) for key in SHOWN),
        ]
        for name in sorted(means, key=lambda name: -means[name]["deviance"])
    ]  # fmt: skip
    return f"{text}\n\n{table(HEAD, rows)}"


def report(results: Sequence[dict[str, Any]]) -> str:
    """Write all split kinds as Markdown."""
    kinds = dict.fromkeys(one["kind"] for one in results)
    return "\n\n".join(section([one for one in results if one["kind"] == kind]) for kind in kinds)


def main() -> None:
    """Measure the draws, print and perhaps write the result."""
    parser = argparse.ArgumentParser(description="Is the champion better than trees?")
    parser.add_argument("--draws", type=int, nargs="+", default=DRAWS, help="seeds of the split")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of the split")
    parser.add_argument("--networks", type=int, default=4, help="whose mean predicts")
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
        joblib.delayed(measure)(kind, seed, options.networks) for kind, seed in tasks
    )
    results.sort(key=lambda one: (KINDS.index(one["kind"]), one["seed"]))
    text = f"{report(results)}\n\n{on}"
    print(text)
    if options.write:
        renew(DOCUMENT, "champion", text)


if __name__ == "__main__":
    from benchmarks import champion  # under its own name, for the processes that it is sent to

    champion.main()
