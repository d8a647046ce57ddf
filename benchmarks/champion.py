"""Is the model better than trees? `python -m benchmarks.champion`, in the project's root.

Draws the split anew and again. For the split kind `days` it runs the pipeline's own commands on
each draw (featurize, sweep, refit), for the others the recipes of `benchmarks/champion.yaml`;
boosted trees are fitted on the same rows, and the test rows are measured once. What is measured is
kept in `benchmarks/draws/`, so that a stopped benchmark goes on where it was; `--write` renews the
result in `docs/champion.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import yaml
from benchmarks.sweep.document import machine, table
from benchmarks.trees import every
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bikefit.config import Settings, flat, parse
from bikefit.data.columns import TARGET
from bikefit.data.features import Features
from bikefit.data.featurize import CLEAN_FILE, Featurize
from bikefit.data.files import renew, write_json
from bikefit.data.params import check, read_section
from bikefit.data.splits import PARTS, split
from bikefit.final.champion import PREDICTIONS
from bikefit.final.fits import fit_ensemble
from bikefit.final.report import WINNER
from bikefit.final.scores import MEASURES, day_sums, figures
from bikefit.nn.losses import SMALLEST_RATE
from bikefit.train import CONF

KEPT = Path("benchmarks/draws")
DOCUMENT = Path("docs/champion.md")
RECIPES = Path(__file__).with_suffix(".yaml")
DRAWS = (20, 21, 22, 23, 24)  # seeds of the split; nothing was ever tried on these
WINDOWS = (0, 1, 2, 3, 4)  # of `chronological`; each ends a tenth of the rows earlier
KINDS = ("days", "random", "chronological")
HELD_OUT = 0.2  # of the rows (or days), for validation and again for the test
EXPERIMENT = Path("conf/experiment/comparison.yaml")
STEPS = (
    ("bikefit.data.featurize",),
    ("bikefit.train", "-m", "+experiment=comparison", "tracking.record=data/sweep.json"),
    ("bikefit.refit", "--record", "data/sweep.json", "--ensemble", "25", "--trees"),
)
"""The pipeline from clean rows on, as `dvc.yaml` has it."""
OURS, NETWORKS = "our model", "our networks alone"
SHOWN = ("rmse", "deviance")
HEAD = ("model", "RMSE", "mean deviance", "our RMSE lower by %", "our deviance by %")


@dataclass(frozen=True)
class Recipe:
    """What differs from a table of `params.yaml` and from an experiment of `conf/`."""

    table: str = "rich"
    experiment: str = "champion"
    features: dict[str, Any] = field(default_factory=dict)
    more_splines: Sequence[dict[str, Any]] = ()
    without_splines: Sequence[str] = ()
    overrides: Sequence[str] = ()

    def columns(self) -> Features:
        """The features of the network."""
        table = read_section("featurize", Featurize).tables[self.table]
        kept = table.model_dump(include=set(Features.model_fields))
        splines = [s for s in kept["splines"] if s["of"] not in self.without_splines]
        changed = kept | self.features | {"splines": [*splines, *self.more_splines]}
        return check("features of a recipe", Features, changed)

    def settings(self) -> Settings:
        """The network and its training."""
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", [f"+experiment={self.experiment}", *self.overrides])
        return parse(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


def recipes(kind: str) -> list[Recipe]:
    """Read the recipes of a split kind, whose networks are averaged."""
    return [Recipe(**one) for one in yaml.safe_load(RECIPES.read_text(encoding="utf-8"))[kind]]


def parts_of(kind: str, seed: int) -> list[pd.DataFrame]:
    """Clean rows to train, to validate and to test."""
    hours = pd.read_parquet(CLEAN_FILE)
    if kind == "chronological":
        hours = hours[: round(len(hours) * (1 - seed / 10))]
    labels = split(hours["timestamp"].to_numpy(), kind, seed, HELD_OUT, HELD_OUT)  # type: ignore[arg-type]
    return [hours[labels == part].reset_index(drop=True) for part in PARTS]


def pipeline(seed: int) -> pd.DataFrame:
    """Run the pipeline on a draw of days; return time, rentals and predictions of its test rows."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        cut = {"kind": "days", "seed": seed, "validation": HELD_OUT, "test": HELD_OUT}
        params["featurize"] = {
            "split": cut,
            "tables": {"rich": params["featurize"]["tables"]["rich"]},
        }
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        (folder / "data").mkdir()
        (folder / CLEAN_FILE.parent).symlink_to(CLEAN_FILE.parent.resolve())
        given = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        for step in STEPS:
            subprocess.run([sys.executable, "-m", *step], cwd=folder, env=given, check=True)
        (found,) = folder.glob(f"mlruns/*/*/artifacts/{PREDICTIONS}")
        return pd.read_parquet(found)


def told(kind: str, networks: int) -> dict[str, Any]:
    """What our side of a draw was made with: of other settings, it is measured again."""
    if kind == "days":
        sweep = yaml.safe_load(EXPERIMENT.read_text(encoding="utf-8"))
        return {"sweep": sweep, "steps": [list(step) for step in STEPS]}
    ways = recipes(kind)
    made = [flat(one.settings()) | one.columns().model_dump(mode="json") for one in ways]
    return {"recipes": made, "seeds": max(1, networks // len(ways))}


def ours(kind: str, seed: int, seeds: int) -> dict[str, dict[str, float]]:
    """Measure our models on a draw."""
    train, validation, test = parts_of(kind, seed)
    if kind == "days":
        rows = pipeline(seed).set_index("timestamp")
        test = test.set_index("timestamp").loc[rows.index].reset_index()
        found = {OURS: score(test, rows[OURS].to_numpy())}
        # Where no trees are mixed in, ours are the networks; where no others, these the winner's.
        for name, same in ((NETWORKS, OURS), (WINNER, NETWORKS)):
            found[name] = score(test, rows[name].to_numpy()) if name in rows else found[same]
        return found
    known = pd.concat([train, validation]).sort_values("timestamp", ignore_index=True)
    means = []
    for one in recipes(kind):
        members = [one.settings().model_copy(update={"seed": s}) for s in range(seeds)]
        fitted = fit_ensemble(members, [1.0] * seeds, one.columns(), known)
        means.append(fitted.predict(test)[0])
    return {OURS: score(test, np.mean(means, axis=0))}


def measure(kind: str, seed: int, networks: int) -> dict[str, Any]:
    """Measure what is not yet known of a draw."""
    start, made, file = time.perf_counter(), told(kind, networks), KEPT / f"{kind}-{seed}.json"
    ways = every()
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if found.get("told") != made:
        trees = {name: m for name, m in found.get("models", {}).items() if name in ways}
        models = ours(kind, seed, made.get("seeds", 1)) | trees
        seconds = {"trees": 0.0} | found.get("seconds", {})
        seconds["ours"] = time.perf_counter() - start
        found = {"told": made, "kind": kind, "seed": seed, "models": models, "seconds": seconds}
    parts = parts_of(kind, seed)
    for name, way in ways.items():
        if name not in found["models"]:
            begun = time.perf_counter()
            found["models"][name] = score(parts[2], way(*parts))
            found["seconds"]["trees"] += time.perf_counter() - begun
    write_json(file, found | {"rows": len(parts[2])})
    return found | {"rows": len(parts[2])}


def kept(tasks: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Read what is there of split kinds and seeds; nothing is measured."""
    files = [KEPT / f"{kind}-{seed}.json" for kind, seed in tasks]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]


def score(rows: pd.DataFrame, predicted: np.ndarray) -> dict[str, float]:
    """RMSE and mean Poisson deviance, bikes/hour.

    Where a model predicts 0 or less (trees with squared loss), rates below 1 bike/hour count as 1.
    """
    rates = np.maximum(predicted, SMALLEST_RATE if predicted.min() <= 0 else 0)
    sums = day_sums(rows["timestamp"].to_numpy(), rows[TARGET].to_numpy(), rates)
    values = dict(zip(MEASURES, figures(sums.sum(axis=0)).tolist(), strict=True))
    return {key: values[key] for key in SHOWN}


def mean_lead(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """By how many percent ours is lower, mean over draws ± its standard error.

    Draws share rows: the variance is larger by what they share (Nadeau and Bengio 2003).
    """
    return with_error(100 * (1 - np.array(ours) / np.array(theirs)), HELD_OUT / (1 - HELD_OUT))


def with_error(values: np.ndarray, shared: float = 0.0) -> str:
    """Write the mean of values, one of a draw, ± its standard error if there are several.

    Args:
        values: to average.
        shared: test rows over training rows, where training rows are shared.
    """
    if len(values) == 1:
        return f"{values[0]:.1f}"
    error = values.std(ddof=1) * np.sqrt(1 / len(values) + shared)
    return f"{values.mean():.1f} ± {error:.1f}"


def section(results: Sequence[dict[str, Any]]) -> str:
    """Write the result of one split kind as Markdown."""
    first = results[0]
    seconds = {k: np.mean([one["seconds"][k] for one in results]) for k in first["seconds"]}
    text = (
        f"**{first['kind']}**: {len(results)} draw{'s' if len(results) > 1 else ''} (seeds "
        f"{', '.join(str(one['seed']) for one in results)}), {first['rows']:,} test rows in the "
        f"first. A draw took {seconds['ours']:.0f} s for ours, {seconds['trees']:.0f} s for trees."
    )
    common = [n for n in first["models"] if all(n in one["models"] for one in results)]
    values = {
        name: {key: [one["models"][name][key] for one in results] for key in SHOWN}
        for name in common
    }
    rows = [
        [
            name, f"{np.mean(of['rmse']):.2f}", f"{np.mean(of['deviance']):.3f}",
            *("" if name == OURS else mean_lead(values[OURS][key], of[key]) for key in SHOWN),
        ]
        for name, of in sorted(values.items(), key=lambda item: np.mean(item[1]["deviance"]))
    ]  # fmt: skip
    return f"{text}\n\n{table(HEAD, rows)}"


def report(results: Sequence[dict[str, Any]]) -> str:
    """Write all split kinds as Markdown."""
    kinds = dict.fromkeys(one["kind"] for one in results)
    return "\n\n".join(section([one for one in results if one["kind"] == kind]) for kind in kinds)


def main() -> None:
    """Measure the draws, print and perhaps write the result."""
    parser = argparse.ArgumentParser(description="Is the model better than trees?")
    parser.add_argument("--draws", type=int, nargs="+", default=DRAWS, help="seeds of the split")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of the split")
    parser.add_argument("--networks", type=int, default=4, help="of a recipe")
    parser.add_argument("--processes", type=int, default=1, help="draws at once")
    parser.add_argument("--kept", action="store_true", help="measure nothing that is not there")
    parser.add_argument("--write", action="store_true", help=f"renew {DOCUMENT}")
    options = parser.parse_args()
    tasks = [
        (kind, seed)
        for kind in options.kinds
        for seed in (WINDOWS if kind == "chronological" else options.draws)
    ]
    on = machine()
    if options.kept:
        results = kept(tasks)
    else:
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
