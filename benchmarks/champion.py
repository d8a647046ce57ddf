"""Compare our model with boosted trees and networks of others on random splits of all rows.

For the split kind `days`, the stages of `dvc.yaml` (featurize, sweep, refit) are run on each
split; the other kinds have recipes in `benchmarks/champion.yaml`. The others are fitted on the same
rows, networks of pytabkit only on request, and the test rows are measured once. The measurements
are kept in `benchmarks/draws.csv`: a model of a split that has a row there is not measured again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import yaml
from benchmarks.common import ROOT, mean_with_error, settings, table
from sklearn.metrics import mean_poisson_deviance, root_mean_squared_error

from benchmarks import others
from bikefit.config import Settings
from bikefit.data.bikes.columns import CLEAN_FILE, TARGET
from bikefit.data.bikes.derived import read_hours
from bikefit.data.features import Features
from bikefit.data.featurize import FeaturizeParams
from bikefit.data.params import read_section, validate
from bikefit.data.splits import PARTS, Kind, split, split_units
from bikefit.data.transformer import Transformer
from bikefit.final.choose import WINNER
from bikefit.final.fit import fit_networks
from bikefit.final.publish import TEST_PREDICTIONS
from bikefit.losses import positive

PAGE = "docs/champion.md"
DRAWS = Path("benchmarks/draws.csv")
RECIPES = ROOT / "benchmarks/champion.yaml"
SEEDS = {"days": (20, 21, 22, 23, 24), "random": (10, 11, 12, 13, 14), "chronological": range(5)}
"""Seeds of the splits; of `chronological`, each window ends a tenth of the rows earlier."""
HELD_OUT = 0.2  # fraction of the rows (or days) for validation, and again for the test
STAGES = ("featurize", "sweep", "refit")
OURS, NETWORKS = "our model", "our networks alone"
SHOWN = ["rmse", "deviance"]
HEAD = ("model", "RMSE", "mean deviance", "our RMSE lower by %", "our deviance by %")


@dataclass(frozen=True)
class Recipe:
    """Differences from a table of `params.yaml` and from an experiment of `conf/`."""

    table: str = "rich"
    experiment: str = "champion"
    features: dict[str, Any] = field(default_factory=dict)
    more_splines: Sequence[dict[str, Any]] = ()
    without_splines: Sequence[str] = ()
    overrides: Sequence[str] = ()

    def columns(self) -> Features:
        """Return the features of the network."""
        table = read_section("featurize", FeaturizeParams).tables[self.table]
        kept = table.model_dump(include=set(Features.model_fields))
        splines = [s for s in kept["splines"] if s["of"] not in self.without_splines]
        changed = kept | self.features | {"splines": [*splines, *self.more_splines]}
        return validate("features of a recipe", Features, changed)

    def members(self, seeds: int) -> list[Settings]:
        """Return the settings of one network per seed."""
        one = settings(f"+experiment={self.experiment}", *self.overrides)
        return [one.model_copy(update={"seed": seed}) for seed in range(seeds)]


def recipe(kind: str) -> Recipe:
    """Read the recipe of a split kind."""
    return Recipe(**yaml.safe_load(RECIPES.read_text(encoding="utf-8"))[kind])


def parts_of(kind: Kind, seed: int) -> list[pd.DataFrame]:
    """Return the rows for training, validation and test."""
    hours = read_hours()
    if kind == "chronological":
        hours = hours[: round(len(hours) * (1 - seed / 10))]
    units = split_units(hours["timestamp"].to_numpy(), kind)
    labels = split(units, kind, seed, HELD_OUT, HELD_OUT)
    return [hours[labels == part].reset_index(drop=True) for part in PARTS]


def commands() -> list[list[str]]:
    """Return the commands of the pipeline, as arguments of Python."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return [stages[name]["cmd"].split()[1:] for name in STAGES]


def pipeline(seed: int) -> pd.DataFrame:
    """Run the pipeline on a split of whole days; return the predictions of its test rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        params["featurize"] = {
            "split": {"kind": "days", "seed": seed, "validation": HELD_OUT, "test": HELD_OUT},
            "tables": {"rich": params["featurize"]["tables"]["rich"]},
        }
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        (folder / "data").mkdir()
        (folder / CLEAN_FILE.parent).symlink_to(CLEAN_FILE.parent.resolve())
        inherited = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        for command in commands():
            subprocess.run([sys.executable, *command], cwd=folder, env=inherited, check=True)
        (file,) = folder.glob(f"mlruns/*/*/artifacts/{TEST_PREDICTIONS}")
        return pd.read_parquet(file)


def ours(kind: Kind, seed: int, networks: int) -> dict[str, dict[str, float]]:
    """Return the scores of our models on a split."""
    train, validation, test = parts_of(kind, seed)
    if kind != "days":
        known = pd.concat([train, validation]).sort_values("timestamp", ignore_index=True)
        way = recipe(kind)
        transformer = Transformer.fit(way.columns(), known)
        fitted = fit_networks(way.members(networks), transformer, known, TARGET)
        return {OURS: score(test, fitted.predict(test)[0])}
    rows = pipeline(seed).set_index("timestamp")
    test = test.set_index("timestamp").loc[rows.index].reset_index()
    scores = {OURS: score(test, rows[OURS].to_numpy())}
    # The pipeline leaves out a model that equals the next larger one.
    for name, equal in ((NETWORKS, OURS), (WINNER, NETWORKS)):
        scores[name] = score(test, rows[name].to_numpy()) if name in rows else scores[equal]
    return scores


def measure_split(kind: Kind, seed: int, models: Sequence[str], networks: int) -> pd.DataFrame:
    """Return the rows of `draws.csv` for models of a split; with `OURS`, for all of our models."""
    parts, scores = parts_of(kind, seed), {}
    for model in models:
        if model == OURS:
            scores |= ours(kind, seed, networks)
            continue
        start = time.process_time()
        rates = others.predict(model, *parts)
        seconds = time.process_time() - start
        scores[model] = score(parts[-1], rates) | {"seconds": seconds}
    split_of = {"kind": kind, "seed": seed, "test_rows": len(parts[-1])}
    return pd.DataFrame([split_of | {"model": name} | one for name, one in scores.items()])


def score(rows: pd.DataFrame, predicted: np.ndarray) -> dict[str, float]:
    """Return RMSE and mean Poisson deviance, bikes/hour.

    If a model predicts 0 or less (trees with squared loss), rates below 1 bike/hour count as 1.
    """
    measures = {"rmse": root_mean_squared_error, "deviance": mean_poisson_deviance}
    return {name: of(rows[TARGET], positive(predicted)) for name, of in measures.items()}


def lead(ours: pd.DataFrame, theirs: pd.DataFrame, measure: str) -> str:
    """Return by how many percent ours is lower, mean over splits ± its standard error."""
    gains = 100 * (1 - ours[measure] / theirs[measure])
    return mean_with_error(gains.to_numpy(), HELD_OUT / (1 - HELD_OUT))


def section(kind: str, draws: pd.DataFrame) -> str:
    """Return the result of a split kind as Markdown."""
    draws = draws.sort_values("seed", kind="stable")
    seeds = draws["seed"].unique()
    models = {name: rows.set_index("seed") for name, rows in draws.groupby("model")}
    head = [*HEAD, "CPU s"] if draws["seconds"].notna().any() else HEAD
    rows = []
    for name, of in sorted(models.items(), key=lambda item: item[1]["deviance"].mean()):
        some = f" (of seed {', '.join(map(str, of.index))})" if len(of) < len(seeds) else ""
        leads = ["" if name == OURS else lead(models[OURS].loc[of.index], of, k) for k in SHOWN]
        seconds = "" if of["seconds"].isna().any() else f"{of['seconds'].mean():.0f}"
        means = f"{of['rmse'].mean():.2f}", f"{of['deviance'].mean():.3f}"
        rows.append([name + some, *means, *leads, seconds][: len(head)])
    return (
        f"**{kind}**: {len(seeds)} split{'s' if len(seeds) > 1 else ''} (seeds "
        f"{', '.join(map(str, seeds))}), {draws['test_rows'].iloc[0]:,} test rows in the first."
        f"\n\n{table(head, rows)}"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--kinds", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--networks", type=int, default=4, help="seeds of a recipe")
    parser.add_argument("--processes", type=int, default=1, help="splits at once")
    words = "seeds of splits of days on which RealMLP (2 CPU minutes) and TabM (11) are fitted"
    parser.add_argument("--tabular", type=int, nargs="*", default=[], help=words)
    parser.add_argument("--kept", action="store_true", help="measure nothing, read draws.csv")


def measure(options: argparse.Namespace) -> Mapping[str, str]:
    """Measure the splits that `draws.csv` lacks, and return the tables."""
    draws = pd.read_csv(DRAWS)
    if not options.kept:
        tasks = [
            joblib.delayed(measure_split)(kind, seed, models, options.networks)
            for kind in options.kinds
            for seed in SEEDS[kind]
            if (models := missing(draws, kind, seed, options.tabular))
        ]
        for rows in joblib.Parallel(options.processes, return_as="generator_unordered")(tasks):
            draws = pd.concat([draws, rows], ignore_index=True)
            kept = rows.reindex(columns=draws.columns)
            kept.to_csv(DRAWS, mode="a", header=False, index=False)
    sections = [section(kind, draws[draws["kind"] == kind]) for kind in options.kinds]
    return {"champion": "\n\n".join(sections)}


def missing(draws: pd.DataFrame, kind: str, seed: int, tabular: Sequence[int]) -> list[str]:
    """Return the models of a split without a row in `draws.csv`; slow ones on some splits."""
    measured = draws.loc[(draws["kind"] == kind) & (draws["seed"] == seed), "model"].tolist()
    slow = () if kind == "days" and seed in tabular else others.SLOW
    libraries = [name for name in others.MODELS if name not in slow]
    peers = [f"{name}, {columns}" for columns in others.COLUMNS for name in libraries]
    return [model for model in [OURS, *peers] if model not in measured]
