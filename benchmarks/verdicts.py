"""Check the verdicts on synthetic sweeps with known truth.

A problem is a known function with known noise. A sweep over it goes from networks far too small to
networks far too large, and from no regularization to far too strong. Which verdicts are acceptable
follows from the known function, which the sweep does not see.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import joblib
import pandas as pd
import torch
from benchmarks.common import table as markdown
from benchmarks.problems import Problem

from bikefit.comparison.paths import SettingPath, find_paths
from bikefit.comparison.runs import run_table
from bikefit.comparison.verdicts import CHANGES, judge
from bikefit.config import flat, parse, regularization_label
from bikefit.nn.fitted import FittedNetwork
from bikefit.training.fit import fit_stack
from bikefit.training.members import Member

PAGE = "docs/verdicts.md"
HELD_OUT = range(8000, 8120)  # seeds of problems; the rule was chosen on others
FRESH = 4000  # rows on which a network is compared with the known function
STRENGTHS: tuple[dict[str, float], ...] = (
    {},
    *({"l2": strength} for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
    *({"dropout": probability} for probability in (0.1, 0.4, 0.8)),
    {"patience": 10},
)
# Widths, learning rate and regularization of the configurations.
SHAPES = (
    ([], 0.1, STRENGTHS[:1]),
    *(([width], 0.05, STRENGTHS[:1]) for width in (1, 3, 8, 32)),
    ([32, 32], 0.02, STRENGTHS),
)
WORSE = 1.05  # ratio of two expected losses from which one configuration counts as worse


def sweep(problem: Problem) -> pd.DataFrame:
    """Return all runs of a problem; ``truth.longer`` is the excess after twice as many epochs."""
    torch.set_num_threads(1)
    runs, longer = (
        pd.concat([fit(problem, *shape, epochs) for shape in SHAPES], ignore_index=True)
        for epochs in (120, 240)
    )
    again = longer.set_index("run_id")["truth.excess"]
    return runs.assign(**{"truth.longer": runs["run_id"].map(again)})


def fit(
    problem: Problem,
    hidden: list[int],
    lr: float,
    strengths: Sequence[dict[str, float]],
    epochs: int,
) -> pd.DataFrame:
    """Train networks of one shape with three seeds; return the runs that did not fail.

    Returns:
        The columns of :func:`bikefit.tracking.reading.read_runs`, and: ``truth.excess``, the
        expected excess loss over the known function on fresh rows; ``truth.train_excess``, the
        excess on the training rows; ``truth.irreducible``, the expected loss of the known function.
    """
    pool = problem.pool()
    target = pool.target[: pool.train_rows].astype(float)
    mean, std = float(target.mean()), float(target.std())
    loss_of = partial(problem.loss_of, scale=std**2)
    rows, fresh = problem.features(3, len(pool.target))[: len(target)], problem.features(5, FRESH)
    known = problem.mean(fresh)
    irreducible = loss_of(problem.target(known, 6), known).mean()
    lowest = loss_of(target, problem.mean(rows)).mean()
    scale = 1.0 if problem.loss == "mse" else 0.3 / problem.noise  # loss of a constant, about
    values = {
        "data": {"name": "problem"},
        "network": {"name": "mlp" if hidden else "linear", "hidden": hidden},
        "optimizer": {"name": "adam", "lr": lr, "schedule": "one_cycle"},
        "training": {"epochs": epochs, "batch_size": 50},
        "validation": {"name": "holdout"},
        "trainer": {},
        "tracking": {"experiment": "benchmark"},
        "loss": problem.loss,
    }
    members = []
    for seed in range(3):
        for strength in strengths:
            scaled = {k: v * scale if k == "l2" else v for k, v in strength.items()}
            members.append(Member(parse(values | {"regularization": scaled, "seed": seed})))
    runs = []
    for member, result in zip(members, fit_stack(members, pool), strict=True):
        if result.failure:
            continue
        network = FittedNetwork(result.layers, result.state, problem.loss, mean, std)
        fitted, expected = (network.predict(torch.from_numpy(x)) for x in (rows, fresh))
        by_row = loss_of(*(result.predictions[k].astype(float) for k in ("target", "predicted")))
        method = regularization_label(member.settings)
        run = {f"best/{name}": v[result.selected - 1] for name, v in result.metrics.items()}
        run |= flat(member.settings) | result.final
        run |= {
            "run_id": f"{method} {hidden} {member.settings.seed}",
            "status": "FINISHED",
            "method": method,
            "tags.val_rows": str(result.val_rows),
            # Rows are independent, as days are in the real data.
            "days": tuple(by_row / len(by_row)),
            # The expected excess needs no targets: the noise has expectation 0.
            "truth.excess": loss_of(known, expected).mean(),
            "truth.train_excess": loss_of(target, fitted).mean() - lowest,
            "truth.irreducible": irreducible,
        }
        runs.append(run)
    return pd.DataFrame(runs)


def measures(table: pd.DataFrame) -> pd.DataFrame:
    """Return for each run what decides which verdicts are acceptable; docs/verdicts.md has more."""
    noise, excess = table["truth.irreducible"], table["truth.excess"]
    lowest = excess.groupby(table["configuration_id"]).mean().min()
    near, far_off = (excess - lowest) / (noise + lowest), excess > 2 * noise
    share = table["truth.train_excess"].clip(lower=0) / excess
    left = (excess - table["truth.longer"]) / (noise + excess)
    left = left.where(((near > 0.1) | far_off) & (share >= 0.5)).fillna(0.0)
    return pd.DataFrame({"near": near, "share": share, "far_off": far_off, "left": left})


def gains(table: pd.DataFrame, paths: Sequence[SettingPath]) -> pd.DataFrame:
    """Compare the expected loss of each configuration of a path with the lowest on each side.

    Returns:
        One row per path, configuration and side (1: more flexible, -1: less): ``gain`` is the loss
        of the configuration divided by the lowest.
    """
    loss = table["truth.irreducible"] + table["truth.excess"]
    loss = loss.groupby(table["configuration_id"]).mean()
    rows = [
        (number, name, side, loss[name] / loss[others].min())
        for number, path in enumerate(paths)
        for name in path.configurations
        for side, others in path.alternatives(name).items()
    ]
    return pd.DataFrame(rows, columns=["path", "name", "side", "gain"])


def acceptable(truth: pd.DataFrame, exhausted: pd.Series) -> pd.DataFrame:
    """Return for each run and verdict whether it is acceptable; docs/verdicts.md has the rule.

    Args:
        truth: of :func:`measures`.
        exhausted: Whether no path of the run has a better configuration in the direction of its
            verdict, although a path goes there.
    """
    near, share, far_off, left = (truth[key] for key in ("near", "share", "far_off", "left"))
    bad = (near > 0.05) | far_off
    accepted = {
        "good fit": (near <= 0.2) & ~far_off,
        "underfitting": bad & (share > 1 / 3) & (left < 0.1),
        "overfitting": bad & (share < 2 / 3),
    }
    directed = accepted["overfitting"].mask(share >= 0.5, accepted["underfitting"])
    unfinished = bad & (share > 1 / 3) & (left >= 0.025)
    accepted["undecided"] = unfinished | (bad & (near <= 0.2)) | (directed & exhausted)
    return pd.DataFrame(accepted)


def fixed_gap(table: pd.DataFrame, paths: Sequence[SettingPath]) -> pd.Series:
    """Return "overfitting" where the train loss is below 90 % of the validation loss."""
    losses = table.groupby("configuration_id")[["train_loss", "val_loss"]].mean()
    gap = losses["train_loss"] < 0.9 * losses["val_loss"]
    return gap.map({True: "overfitting", False: "good fit"})


def skore(table: pd.DataFrame, paths: Sequence[SettingPath]) -> pd.Series:
    """Return what the checks SKD001 and SKD002 of skore 0.28 decide from the loss.

    Overfitting: the train loss is lower than the validation loss by 10 % of it, at least 0.03.
    Underfitting: neither loss is lower than that of a constant by 5 % of it, at least 0.01.
    """
    losses = table.groupby("configuration_id").mean(numeric_only=True)
    train, val = losses["train_loss"], losses["val_loss"]
    verdict = pd.Series("good fit", index=losses.index)
    verdict[val - train >= (0.1 * val).clip(lower=0.03)] = "overfitting"
    weak = [
        constant - loss < (0.05 * constant).clip(lower=0.01)
        for loss, constant in ((train, losses["constant_train"]), (val, losses["constant_val"]))
    ]
    return verdict.mask(weak[0] & weak[1], "underfitting")


def product(
    table: pd.DataFrame, paths: Sequence[SettingPath], parts: Sequence[str] = ()
) -> pd.Series:
    """Return the verdicts of the product with some of its parts."""
    if "noise" not in parts:
        table = table.assign(seed=0).drop(columns="days")
    if "unfinished" not in parts:
        table = table.drop(columns="unfinished")
    return judge(table, paths if "paths" in parts else ())["verdict"]


RULES: dict[str, Callable[[pd.DataFrame, Sequence[SettingPath]], pd.Series]] = {
    "fixed gap of 10 %": fixed_gap,
    "skore 0.28": skore,
    "three sentences": product,
    "… and noise": partial(product, parts=["noise"]),
    "… and unfinished training": partial(product, parts=["noise", "unfinished"]),
    "… and paths (bikefit)": partial(product, parts=["noise", "unfinished", "paths"]),
}


def count(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what the verdicts of each rule on the runs of a problem add to the table."""
    table = run_table(runs)
    paths = find_paths(table)
    table = table.join(runs.filter(regex=r"^truth\.|^days$"))
    truth, gain = measures(table), gains(table, paths)
    best = gain.groupby(["name", "side"])["gain"].max()
    sides = (truth["share"] >= 0.5).map({True: 1, False: -1})
    exhausted = best.reindex([*zip(table["configuration_id"], sides, strict=True)]) <= 1
    accepted = acceptable(truth, exhausted.set_axis(table.index))
    clear, far_off = accepted.sum(axis=1) == 1, truth["far_off"]
    # Per path and configuration that is worse than the lowest of the path: where that lies.
    cases = gain.sort_values("gain").drop_duplicates(["path", "name"], keep="last")
    cases = cases[cases["gain"] >= WORSE]
    rows = {}
    for name, rule in RULES.items():
        given = rule(table, paths)
        verdict = table["configuration_id"].map(given)
        right = sum(accepted[kind] & (verdict == kind) for kind in accepted)
        points = cases["name"].map(given).map(CHANGES)
        supported = best.reindex([*zip(cases["name"], points, strict=True)]).to_numpy() >= WORSE
        wrong = (points == -cases["side"]) & ~supported
        good = far_off & (verdict == "good fit")
        numbers = [len(table), clear.sum(), (clear & right).sum(), far_off.sum(), good.sum()]
        rows[name] = [*numbers, len(cases), wrong.sum()]
    columns = ["runs", "clear", "right", "far off", "good", "cases", "wrong"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def report(counts: Sequence[pd.DataFrame]) -> str:
    """Return the table of docs/verdicts.md from the counts of all problems."""
    total = sum(counts[1:], counts[0])
    rows = [
        (name, f"{n.right / n.clear:.1%}", f"{n.good} of {n['far off']}", f"{n.wrong} of {n.cases}")
        for name, n in total.iterrows()
    ]
    runs, clear = total.iloc[0][["runs", "clear"]]
    head = ["rule", "clear runs right", "far off, called good", "wrong directions"]
    return f"{len(counts)} problems, {runs} runs, {clear} of them clear.\n\n{markdown(head, rows)}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--problems", type=int, default=len(HELD_OUT))


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Train the sweeps, judge them and return the table."""
    problems = [Problem.draw(seed) for seed in HELD_OUT[: options.problems]]
    counts = joblib.Parallel(-1)(joblib.delayed(lambda p: count(sweep(p)))(p) for p in problems)
    return {"verdicts": report(counts)}
