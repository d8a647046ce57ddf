"""What is each part of our model worth? `python -m benchmarks.ablation`, in the project's root.

Fits the winner of the default comparison, and variants of it in `benchmarks/ablation.yaml` that
differ in one part, on the training rows of several draws of whole days, and measures the mean of
several seeds on the validation rows. Test rows are not looked at. `--write` renews the table in
`docs/champion.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import joblib
import numpy as np
import yaml
from benchmarks.champion import DOCUMENT, SHOWN, Recipe, parts_of, score, with_error
from benchmarks.sweep.document import machine, table

from bikefit.data.columns import TARGET
from bikefit.data.files import renew
from bikefit.final import selection
from bikefit.final.choice import SHARES
from bikefit.final.fits import fit_ensemble
from bikefit.final.trees import SAME, tune

VARIANTS = Path(__file__).with_suffix(".yaml")
DRAWS = (0, 1, 2, 3, 4)  # seeds of the split; those of which choices were made, and two more
SEEDS = 4
EVERYTHING, ALONE, MIXED = "the winner", "one network instead of the average", "with trees mixed in"
HEAD = ("", "RMSE", "mean deviance", "RMSE higher by %", "deviance higher by %")

Scores = dict[str, dict[str, float]]
"""RMSE and mean Poisson deviance by what was measured."""


def variants() -> dict[str, Recipe]:
    """Read the winner and what is left out of it, by name."""
    read = yaml.safe_load(VARIANTS.read_text(encoding="utf-8"))
    return {EVERYTHING: _recipe(read["winner"], {})} | {
        name: _recipe(read["winner"], changed) for name, changed in read["variants"].items()
    }


def _recipe(winner: Mapping[str, Sequence[str]], changed: Mapping[str, object]) -> Recipe:
    own = Recipe(**changed)  # type: ignore[arg-type]
    overrides = [*winner["overrides"], *own.overrides]
    return Recipe(**{**vars(own), "experiment": "comparison", "overrides": overrides})


def predictions(recipe: Recipe, seeds: int, draw: int) -> np.ndarray:
    """Fit on training rows; return what each seed predicts for validation rows, ``(M, N)``."""
    train, validation, _ = parts_of("days", draw)
    members = [recipe.settings().model_copy(update={"seed": seed}) for seed in range(seeds)]
    return fit_ensemble(members, [1.0] * seeds, recipe.columns(), train).members(validation)


def measure(name: str, recipe: Recipe, seeds: int, draw: int) -> Scores:
    """Measure a variant on a draw; of the winner also what averaging and trees are worth."""
    validation = parts_of("days", draw)[1]
    found = predictions(recipe, seeds, draw)
    scores = {name: score(validation, found.mean(axis=0))}
    if name != EVERYTHING:
        return scores
    single = [score(validation, one) for one in found]
    scores[ALONE] = {key: float(np.mean([one[key] for one in single])) for key in SHOWN}
    return scores | {MIXED: score(validation, mixed(found.mean(axis=0), draw))}


def mixed(networks: np.ndarray, draw: int) -> np.ndarray:
    """Average networks with LightGBM as the pipeline does, ``(N,)`` bikes/hour.

    Each half of the days is predicted with the share of trees that the other half prefers.

    Args:
        networks: what they predict for validation rows, ``(N,)``, bikes/hour.
        draw: seed of the split.
    """
    train, validation, _ = parts_of("days", draw)
    trees = tune(SAME, train, validation).fit(train)
    both = np.stack([networks, trees.predict(validation)])
    days = validation["timestamp"].dt.normalize().to_numpy()
    target = validation[TARGET].to_numpy(np.float64)
    return selection.judge(both, target, days, np.array([1.0, 0.0]), SHARES).mean


def report(scores: Sequence[Scores]) -> str:
    """Write what was measured on each draw as Markdown, the order as it was measured."""
    rows = []
    for name in scores[0]:
        means = {key: np.mean([one[name][key] for one in scores]) for key in SHOWN}
        worse = [
            "" if name == EVERYTHING else _higher([one[name][key] for one in scores],
                                                  [one[EVERYTHING][key] for one in scores])
            for key in SHOWN
        ]  # fmt: skip
        rows.append([name, f"{means['rmse']:.2f}", f"{means['deviance']:.3f}", *worse])
    return table(HEAD, rows)


def _higher(values: Sequence[float], reference: Sequence[float]) -> str:
    """By how many percent, mean over draws ± its standard error."""
    return with_error(100 * (np.array(values) / np.array(reference) - 1))


def main() -> None:
    """Measure all variants on all draws, print and perhaps write the table."""
    parser = argparse.ArgumentParser(description="What is each part of our model worth?")
    parser.add_argument("--draws", type=int, nargs="+", default=DRAWS, help="seeds of the split")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="networks that are averaged")
    parser.add_argument("--processes", type=int, default=joblib.cpu_count(), help="fits at once")
    parser.add_argument("--write", action="store_true", help=f"renew {DOCUMENT}")
    options = parser.parse_args()
    on = machine()
    tasks = [(name, one, draw) for draw in options.draws for name, one in variants().items()]
    found = joblib.Parallel(n_jobs=options.processes)(
        joblib.delayed(measure)(name, one, options.seeds, draw) for name, one, draw in tasks
    )
    scores: dict[int, Scores] = {draw: {} for draw in options.draws}
    for (_, _, draw), one in zip(tasks, found, strict=True):
        scores[draw] |= one
    text = f"{report(list(scores.values()))}\n\n{len(scores)} draws, {options.seeds} seeds. {on}"
    print(text)
    if options.write:
        renew(DOCUMENT, "ablation", text)


if __name__ == "__main__":
    from benchmarks import ablation  # under its own name, for the processes that it is sent to

    ablation.main()
