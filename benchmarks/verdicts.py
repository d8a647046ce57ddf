"""Check the verdicts on synthetic sweeps with known truth.

A problem is a known function with known noise. A sweep over it goes from networks far too small to
networks far too large, and from no regularization to far too strong. The right verdict follows from
the known function, which the sweep does not see; `right_verdicts` states the rule.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from benchmarks.common import table
from benchmarks.problems import Problem

from bikefit.comparison import paths as paths_of
from bikefit.comparison.runs import run_table
from bikefit.comparison.verdicts import judge
from bikefit.config import Settings, flat, parse, regularization_label
from bikefit.nn.fitted import FittedNetwork
from bikefit.training.fit import fit_stack
from bikefit.training.folds import Pool
from bikefit.training.members import Member, MemberResult

PAGE = "benchmarks/verdicts.md"
HELD_OUT = 8000  # seed of the first problem; the rule was chosen on other seeds
PROBLEMS = 120
SEEDS = (0, 1, 2)
FRESH = 4000  # rows on which a network is compared with the known function
SMALL = ([], [1], [3], [8], [32])
LARGE = [32, 32]
STRENGTHS: tuple[dict[str, float], ...] = (
    {},
    *({"l2": strength} for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
    *({"dropout": probability} for probability in (0.1, 0.4, 0.8)),
    {"patience": 10},
)
WORSE = 1.05  # ratio of two expected losses from which one configuration counts as worse


def settings(
    problem: Problem, hidden: list[int], seed: int, strength: dict[str, float]
) -> Settings:
    """Return the settings of a run."""
    scale = 1.0 if problem.loss == "mse" else 0.3 / problem.noise  # loss of a constant, about
    lr = 0.1 if not hidden else 0.05 if hidden in SMALL else 0.02
    values = {
        "data": {"name": f"problem {problem.seed}"},
        "network": {"name": "mlp" if hidden else "linear", "hidden": hidden},
        "regularization": {k: v * scale if k == "l2" else v for k, v in strength.items()},
        "optimizer": {"name": "adam", "lr": lr, "schedule": "one_cycle"},
        "training": {"epochs": 120, "batch_size": 50},
        "validation": {"name": "holdout"},
        "trainer": {},
        "tracking": {"experiment": "benchmark"},
        "loss": problem.loss,
        "seed": seed,
    }
    return parse(values)


def fit(problem: Problem, members: Sequence[Settings]) -> list[dict[str, Any]]:
    """Train members of one shape and return their runs, with the truth under ``truth.…``."""
    if not members:
        return []
    pool = problem.pool()
    results = fit_stack([Member(one) for one in members], pool)
    truth = _truth(problem, pool, results)
    return [
        _record(problem, member, result) | {key: values[m] for key, values in truth.items()}
        for m, (member, result) in enumerate(zip(members, results, strict=True))
    ]


def _record(problem: Problem, member: Settings, result: MemberResult) -> dict[str, Any]:
    """Return a run in the columns of `tracking.reading.read_runs`."""
    label = regularization_label(member)
    history = {name: result.metrics[name].tolist() for name in ("train/loss", "val/loss")}
    target, predicted = result.predictions["rentals"], result.predictions["predicted"]
    scale = float(np.var(problem.pool().target[: problem.train_rows].astype(float)))
    by_row = problem.loss_of(target.astype(float), predicted.astype(float), scale)
    row = {
        **flat(member),
        "method": label,
        "status": "FINISHED",
        "name": label,
        "run_id": f"{label} {member.network.hidden} {member.seed}",
        "best/epoch": float(result.selected),
        "lowest/val/loss": min(history["val/loss"]),
        "lowest/epoch": 1.0 + int(np.argmin(history["val/loss"])),
        "tags.val_rows": str(result.val_rows),
        **{f"best/{name}": values[result.selected - 1] for name, values in history.items()},
        **result.final,
        # Rows are independent, as days are in the real data.
        "days/best/val/loss": tuple(by_row / len(by_row)),
    }
    if result.failure:
        row |= {"status": "FAILED", "tags.failure": result.failure}
    return row


def _truth(problem: Problem, pool: Pool, results: Sequence[MemberResult]) -> dict[str, list[float]]:
    """Return the excess loss of each member over the known function.

    ``truth.excess``: expected excess on fresh rows. ``truth.train_excess``: excess on the
    training rows with their targets, negative for a network that fits their noise.
    ``truth.irreducible``: expected loss of the known function.
    """
    target = pool.target[: pool.train_rows].astype(float)
    mean, std = float(target.mean()), float(target.std())
    networks = [FittedNetwork(one.layers, one.state, problem.loss, mean, std) for one in results]
    fresh, rows = problem.features(5, FRESH), problem.features(3, len(pool.target))
    rows = rows[: pool.train_rows]

    def loss_of(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        return problem.loss_of(target, predicted, std**2)

    def predict(x: np.ndarray) -> np.ndarray:
        return np.stack([network.predict(torch.from_numpy(x)) for network in networks])

    known = problem.mean(fresh)
    # The expected excess needs no targets: the noise has expectation 0.
    excess = loss_of(known, predict(fresh)).mean(axis=1)
    train_excess = loss_of(target, predict(rows)) - loss_of(target, problem.mean(rows))
    noise = float(loss_of(problem.target(known, 6), known).mean())
    return {
        "truth.excess": excess.tolist(),
        "truth.train_excess": train_excess.mean(axis=1).tolist(),
        "truth.irreducible": [noise] * len(results),
    }


def sweep(problem: Problem) -> pd.DataFrame:
    """Return all runs of a problem.

    Runs that underfit are trained twice as long as well; ``truth.longer`` is their excess then.
    """
    torch.set_num_threads(1)
    shapes = [(hidden, ({},)) for hidden in SMALL] + [(LARGE, STRENGTHS)]
    stacks = [
        [settings(problem, hidden, seed, strength) for seed in SEEDS for strength in strengths]
        for hidden, strengths in shapes
    ]
    runs = pd.DataFrame([run for members in stacks for run in fit(problem, members)])
    underfits = iter(right_verdicts(runs)["right"] == "underfitting")
    longer: list[float] = []
    for members in stacks:
        chosen = [next(underfits) for _ in members]
        again = [_twice(m) for m, is_chosen in zip(members, chosen, strict=True) if is_chosen]
        results = iter(fit(problem, again))
        longer += [next(results)["truth.excess"] if one else np.nan for one in chosen]
    return runs.assign(problem=problem.seed, **{"truth.longer": longer})


def _twice(one: Settings) -> Settings:
    training = one.training.model_copy(update={"epochs": 2 * one.training.epochs})
    return one.model_copy(update={"training": training})


def right_verdicts(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the right verdict of each run of a problem, from the known function alone.

    With the irreducible loss I, the excess E of a run on fresh rows, the lowest mean excess E* of
    a configuration of the sweep and the excess A on the training rows:

    1. (E - E*) / (I + E*) ≤ 0.1 and E ≤ 2 I: good fit.
    2. Otherwise, A ≥ E / 2, so that the training rows are missed as well: underfitting, or
       undecided if training was not finished, that is if twice as many epochs lower I + E by at
       least 5 %.
    3. Otherwise: overfitting.

    Within a factor of two of a limit (0.05 to 0.2; 1/3 to 2/3; 2.5 % to 10 %) the verdicts of both
    sides are acceptable. Undecided is also acceptable near the first limit, for a run near the best
    of its sweep with E > 2 I, and if no path has a truly better configuration in the direction of
    the verdict. A good fit is never acceptable for E > 2 I.

    Returns:
        ``right``: the verdict by the rule; ``acceptable``: all acceptable verdicts, joined by "|";
        ``clear``: whether that is only one.
    """
    noise, excess = runs["truth.irreducible"], runs["truth.excess"]
    by_name = [runs["method"], runs["network.hidden"].astype(str)]
    lowest = excess.groupby(by_name).mean().min()
    near = (excess - lowest) / (noise + lowest)
    share = runs["truth.train_excess"].clip(lower=0) / excess
    longer = runs.get("truth.longer", excess).fillna(excess)
    left = (excess - longer) / (noise + excess)
    values = zip(near, share, excess > 2 * noise, left, _exhausted_sides(runs), strict=True)
    rows = [right_verdict(*one) for one in values]
    return pd.DataFrame(rows, columns=["right", "clear", "acceptable"], index=runs.index)


def expected_losses(runs: pd.DataFrame) -> pd.Series:
    """Return the expected loss on fresh rows of each configuration, mean over its seeds."""
    names = run_table(runs)["configuration_id"]
    return (runs["truth.irreducible"] + runs["truth.excess"]).groupby(names).mean()


def _exhausted_sides(runs: pd.DataFrame) -> list[set[int]]:
    """Return for each run the sides on which paths have configurations but none is truly better.

    A side is 1 for more flexible and -1 for less flexible.
    """
    loss = expected_losses(runs)
    better: dict[str, dict[int, bool]] = {name: {} for name in loss.index}
    for path in paths_of.find_paths(run_table(runs)):
        for name in path.configurations:
            for side, others in path.alternatives(name).items():
                helps = bool(loss[others].min() < loss[name])
                better[name][side] = better[name].get(side, False) or helps
    names = run_table(runs)["configuration_id"]
    return [{side for side, helps in better[name].items() if not helps} for name in names]


def right_verdict(
    near: float, share: float, far_off: bool, left: float, exhausted: set[int]
) -> tuple[str, bool, str]:
    """Return right verdict, whether it is the only acceptable one, and all acceptable ones.

    Args:
        near: (E - E*) / (I + E*), see `right_verdicts`.
        share: A / E.
        far_off: Whether E > 2 I.
        left: Fraction of I + E by which twice as many epochs lower it.
        exhausted: Sides without a truly better configuration.
    """
    acceptable = set()
    if near <= 0.2 and not far_off:
        acceptable.add("good fit")
    if near > 0.05 or far_off:
        acceptable |= {"underfitting"} if share > 1 / 3 and left < 0.1 else set()
        acceptable |= {"overfitting"} if share < 2 / 3 else set()
        acceptable |= {"undecided"} if share > 1 / 3 and left >= 0.025 else set()
    if 0.05 < near <= 0.2 or (near <= 0.2 and far_off):
        acceptable.add("undecided")
    bad = "underfitting" if share >= 0.5 else "overfitting"
    if bad in acceptable and (1 if share >= 0.5 else -1) in exhausted:
        acceptable.add("undecided")
    if bad == "underfitting" and left >= 0.05:
        bad = "undecided"
    right = "good fit" if near <= 0.1 and not far_off else bad
    return right, len(acceptable) == 1, "|".join(sorted(acceptable))


def fixed_gap(runs: pd.DataFrame) -> pd.Series:
    """Return "overfitting" where the train loss is below 90 % of the validation loss."""
    losses = _means(runs)
    gap = losses["best/train/loss"] < 0.9 * losses["best/val/loss"]
    return gap.map({True: "overfitting", False: "good fit"})


def skore(runs: pd.DataFrame) -> pd.Series:
    """Return what the checks SKD001 and SKD002 of skore 0.28 decide from the loss.

    Overfitting: the train loss is lower than the validation loss by 10 % of it, at least 0.03.
    Underfitting: neither loss is lower than that of a constant by 5 % of it, at least 0.01.
    """
    losses = _means(runs)
    train, val = losses["best/train/loss"], losses["best/val/loss"]
    verdict = pd.Series("good fit", index=losses.index)
    verdict[val - train >= (0.1 * val).clip(lower=0.03)] = "overfitting"
    for part in ("train", "val"):
        constant = losses[f"constant/{part}/loss"]
        losses[part] = constant - losses[f"best/{part}/loss"] < (0.05 * constant).clip(lower=0.01)
    verdict[losses["train"] & losses["val"]] = "underfitting"
    return verdict


def _means(runs: pd.DataFrame) -> pd.DataFrame:
    keys = [f"{kind}/{part}/loss" for kind in ("best", "constant") for part in ("train", "val")]
    return runs[keys].groupby(run_table(runs)["configuration_id"]).mean().dropna()


def product(runs: pd.DataFrame, parts: Sequence[str] = ()) -> pd.Series:
    """Return the verdicts of the product with some of its parts."""
    losses = run_table(runs).dropna(subset=["val_loss"])
    if "noise" not in parts:
        losses = losses.assign(seed=0).drop(columns="days")
    if "unfinished" not in parts:
        losses = losses.drop(columns="unfinished")
    return judge(losses, paths_of.find_paths(losses) if "paths" in parts else ())["verdict"]


RULES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "fixed gap of 10 %": fixed_gap,
    "skore 0.28": skore,
    "three sentences": product,
    "… and noise": partial(product, parts=("noise",)),
    "… and unfinished training": partial(product, parts=("noise", "unfinished")),
    "… and paths: the verdicts of bikefit": partial(
        product, parts=("noise", "unfinished", "paths")
    ),
}


def judged(runs: pd.DataFrame, rule: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
    """Return the runs with a rule's verdict and the right one, without runs that failed."""
    judgements = []
    for _, group in runs.groupby("problem"):
        own = group.reset_index(drop=True).dropna(axis=1, how="all")
        given = run_table(own)["configuration_id"].map(rule(own))
        far_off = own["truth.excess"] > 2 * own["truth.irreducible"]
        judgements.append(right_verdicts(own).assign(verdict=given, far_off=far_off))
    every = pd.concat(judgements, ignore_index=True)
    return every.dropna(subset=["verdict"])


def directions(runs: pd.DataFrame, rule: Callable[[pd.DataFrame], pd.Series]) -> list[bool]:
    """Return whether the rule points in a wrong direction, for each direction that is known.

    A case is a configuration of a path whose expected loss is at least 5 % above the lowest of
    the path. Its verdict is wrong if it asks for more flexibility and the lowest has less, or the
    reverse, unless another path has a configuration in the direction of the verdict that is truly
    5 % better.
    """
    wrong = []
    for _, group in runs.groupby("problem"):
        own = group.reset_index(drop=True).dropna(axis=1, how="all")
        loss, given = expected_losses(own), rule(own)
        paths = [path for path in paths_of.find_paths(run_table(own)) if path.direction]
        better = [_better_sides(path, loss) for path in paths]
        for path in paths:
            lowest = loss[list(path.configurations)].idxmin()
            for name in path.configurations:
                if loss[name] < WORSE * loss[lowest]:
                    continue
                side = next(s for s, others in path.alternatives(name).items() if lowest in others)
                points = {"underfitting": 1, "overfitting": -1}.get(given[name], 0)
                elsewhere = any(points in sides.get(name, set()) for sides in better)
                wrong.append(points == -side and not elsewhere)
    return wrong


def _better_sides(path: paths_of.SettingPath, loss: pd.Series) -> dict[str, set[int]]:
    """Return the sides on which a path has a truly 5 % better configuration, by configuration."""
    better: dict[str, set[int]] = {}
    for name in path.configurations:
        sides = path.alternatives(name).items()
        better[name] = {side for side, others in sides if loss[name] >= WORSE * loss[others].min()}
    return better


def summary(judgements: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of the table for one rule."""
    pairs = zip(judgements["verdict"], judgements["acceptable"], strict=True)
    right = pd.Series([v in a.split("|") for v, a in pairs], index=judgements.index)
    clear, far_off = judgements["clear"], judgements["far_off"]
    undecided = clear & (judgements["verdict"] == "undecided") & ~right
    good = far_off & (judgements["verdict"] == "good fit")
    return {
        "clear runs right": f"{right[clear].mean():.1%}",
        "all runs right": f"{right.mean():.1%}",
        "clear, wrongly undecided": f"{undecided.sum() / clear.sum():.1%}",
        "far off, called good": f"{good.sum()} of {far_off.sum()}",
    }


def report(runs: pd.DataFrame) -> str:
    """Return the table of `benchmarks/verdicts.md`."""
    rows = []
    for name, rule in RULES.items():
        wrong = directions(runs, rule)
        of_rule = summary(judged(runs, rule))
        rows.append(
            {"rule": name} | of_rule | {"wrong directions": f"{sum(wrong)} of {len(wrong)}"}
        )
    clear = int(judged(runs, fixed_gap)["clear"].sum())
    counts = f"{runs['problem'].nunique()} problems, {len(runs)} runs, {clear} of them clear."
    return f"{counts}\n\n{table(list(rows[0]), [list(row.values()) for row in rows])}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    parser.add_argument("--first", type=int, default=HELD_OUT, help="seed of the first problem")
    parser.add_argument("--processes", type=int, default=joblib.cpu_count())
    parser.add_argument("--keep", type=Path, help="file to pickle the runs to")


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Train the sweeps, judge them and return the tables."""
    runs = train(options.first, options.problems, options.processes)
    if options.keep:
        runs.to_pickle(options.keep)
    return {"verdicts": report(runs)}


def train(first: int, problems: int, processes: int) -> pd.DataFrame:
    """Return the runs of all problems from a seed on."""
    drawn = [Problem.draw(seed) for seed in range(first, first + problems)]
    work = joblib.Parallel(processes)(joblib.delayed(sweep)(problem) for problem in drawn)
    return pd.concat(work, ignore_index=True)
