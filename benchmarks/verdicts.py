"""Check the verdicts on synthetic sweeps with known truth.

A problem is a known function with known noise. A sweep over it goes from networks far too small to
networks far too large, and from no regularization to far too strong. The right verdict follows from
the known function, which the sweep does not see; `right_verdicts` states the rule.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
from bikefit.comparison.verdicts import (
    Thresholds,
    along,
    configuration_verdicts,
    read_thresholds,
    verdicts,
)
from bikefit.config import Settings, flat, parse, regularization_label
from bikefit.final.model import Network
from bikefit.training.fit import fit_stack
from bikefit.training.folds import Pool
from bikefit.training.members import Member, MemberResult

PAGE = "benchmarks/verdicts.md"
HELD_OUT = 7000  # seed of the first problem; thresholds were chosen on other seeds
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
CLASSES = ("underfitting", "overfitting", "good fit", "undecided")
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
    networks = [Network(one.layers, one.state, problem.loss, mean, std) for one in results]
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


def judged(runs: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Return runs with the product's verdict and the right one, without runs that failed."""
    judgements = []
    for _, group in runs.groupby("problem"):
        own = group.reset_index(drop=True).dropna(axis=1, how="all")
        given = verdicts(run_table(own), thresholds)[["verdict", "reason"]]
        truths = [key for key in own if key.startswith("truth.")]
        columns = own[["problem", "loss", "method", "network.hidden", *truths]]
        judgements.append(pd.concat([columns, given, right_verdicts(own)], axis=1))
    every = pd.concat(judgements, ignore_index=True)
    return every[every["verdict"].notna()].reset_index(drop=True)


def directions(runs: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Check whether verdicts point to where the truth is better.

    A case is a configuration of a path whose expected loss is at least 5 % above the lowest of
    the path. Its verdict is wrong if it asks for more flexibility and the lowest has less, or the
    reverse, unless another path has a configuration in the direction of the verdict that is truly
    5 % better.

    Returns:
        A row per case: ``problem``, ``configuration``, ``key``, ``verdict``, ``wrong``, and
        ``significant``, whether the product finds the difference significant.
    """
    cases = []
    for problem, group in runs.groupby("problem"):
        own = group.reset_index(drop=True).dropna(axis=1, how="all")
        loss = expected_losses(own)
        run_rows = run_table(own)
        given = configuration_verdicts(run_rows, thresholds).set_index("configuration_id")[
            "verdict"
        ]
        paths = [path for path in paths_of.find_paths(run_rows) if path.direction]
        better = [_better_sides(path, loss) for path in paths]
        for path, evidence in zip(paths, along(run_rows, paths, thresholds), strict=True):
            lowest = loss[list(path.configurations)].idxmin()
            for name in path.configurations:
                if loss[name] < WORSE * loss[lowest]:
                    continue
                side = next(s for s, others in path.alternatives(name).items() if lowest in others)
                points = {"underfitting": 1, "overfitting": -1}.get(given[name], 0)
                elsewhere = any(points in sides.get(name, set()) for sides in better)
                within_noise = evidence["within_noise"].get(name)
                case = {
                    "problem": problem,
                    "configuration": name,
                    "key": path.key,
                    "verdict": given[name],
                    "wrong": points == -side and not elsewhere,
                    "significant": within_noise is not pd.NA and not within_noise,
                }
                cases.append(case)
    return pd.DataFrame(cases)


def _better_sides(path: paths_of.SettingPath, loss: pd.Series) -> dict[str, set[int]]:
    """Return the sides on which a path has a truly 5 % better configuration, by configuration."""
    better: dict[str, set[int]] = {}
    for name in path.configurations:
        sides = path.alternatives(name).items()
        better[name] = {side for side, others in sides if loss[name] >= WORSE * loss[others].min()}
    return better


def confusion(judgements: pd.DataFrame) -> str:
    """Count runs by the right verdict (rows) and the given one (columns), as Markdown."""
    counts = pd.crosstab(judgements["right"], judgements["verdict"])
    counts = counts.reindex(index=CLASSES, columns=CLASSES, fill_value=0)
    return table(("", *CLASSES), [[f"**{name}**", *row] for name, row in counts.iterrows()])


def summary(judgements: pd.DataFrame) -> dict[str, float]:
    """Return counts of runs, and accuracies: fractions of runs with an acceptable verdict."""
    pairs = zip(judgements["verdict"], judgements["acceptable"], strict=True)
    right = pd.Series([v in a.split("|") for v, a in pairs], index=judgements.index)
    clear = judgements["clear"]
    decided = clear & (judgements["verdict"] != "undecided")
    far_off = judgements["truth.excess"] > 2 * judgements["truth.irreducible"]
    return {
        "runs": len(judgements),
        "accuracy": float(right.mean()),
        "clear": int(clear.sum()),
        "accuracy.clear": float(right[clear].mean()),
        "undecided.clear": int((clear & ~decided & ~right).sum()),
        "accuracy.decided": float(right[decided].mean()),
        "far_off": int(far_off.sum()),
        "far_off.good_fit": int((far_off & (judgements["verdict"] == "good fit")).sum()),
    }


def report(judgements: pd.DataFrame, cases: pd.DataFrame) -> str:
    """Return the tables of `benchmarks/verdicts.md`."""
    numbers = summary(judgements)
    significant = cases[cases["significant"]]
    rows = [
        ["runs", numbers["runs"], ""],
        ["runs with an acceptable verdict", "", f"{numbers['accuracy']:.1%}"],
        ["clear runs", numbers["clear"], ""],
        ["clear runs with the right verdict", "", f"{numbers['accuracy.clear']:.1%}"],
        ["clear runs that are undecided wrongly", numbers["undecided.clear"], ""],
        ["right verdicts of the clear, decided runs", "", f"{numbers['accuracy.decided']:.1%}"],
        ["runs far off", numbers["far_off"], ""],
        ["runs far off, called a good fit", numbers["far_off.good_fit"], ""],
        ["directions", len(cases), ""],
        ["wrong directions", int(cases["wrong"].sum()), ""],
        ["significant directions", len(significant), ""],
        ["of these, called a good fit", int((significant["verdict"] == "good fit").sum()), ""],
    ]
    parts = [
        table(("", "number", "fraction"), rows),
        "Clear runs, right verdict (row) and given verdict (column):",
        confusion(judgements[judgements["clear"]]),
        "All runs:",
        confusion(judgements),
        "By loss:",
        _by_loss(judgements),
    ]
    return "\n\n".join(parts)


def _by_loss(judgements: pd.DataFrame) -> str:
    head = ("loss", "runs", "acceptable", "right of clear", "far off", "called a good fit")
    rows = []
    for loss, group in judgements.groupby("loss"):
        of = summary(group)
        accuracies = [f"{of[key]:.1%}" for key in ("accuracy", "accuracy.clear")]
        rows.append([loss, of["runs"], *accuracies, of["far_off"], of["far_off.good_fit"]])
    return table(head, rows)


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
    thresholds = read_thresholds()
    return {"verdicts": report(judged(runs, thresholds), directions(runs, thresholds))}


def train(first: int, problems: int, processes: int) -> pd.DataFrame:
    """Return the runs of all problems from a seed on."""
    drawn = [Problem.draw(seed) for seed in range(first, first + problems)]
    work = joblib.Parallel(processes)(joblib.delayed(sweep)(problem) for problem in drawn)
    return pd.concat(work, ignore_index=True)
