"""Are verdicts right? `python benchmarks/verdicts.py`: synthetic sweeps whose truth is known.

A problem is a known function with known noise, and a sweep over it from networks far too small
to far too large and from no regularization to far too strong, trained by the project's own
stacks. What the networks are worth is measured on the known function itself, not on the rows
that verdicts see; `docs/verdicts.md` says how that gives the right verdict.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch

from bikefit.comparison import paths as paths_of
from bikefit.comparison.parts import DAYS
from bikefit.comparison.ranking import comparison
from bikefit.comparison.verdicts import (
    Thresholds,
    along,
    configuration_verdicts,
    read_thresholds,
    verdicts,
)
from bikefit.config import Settings, flat, parse, regularization_label
from bikefit.nn.stacking import Stack
from bikefit.training.afterwards import constant_losses
from bikefit.training.callbacks import Selection
from bikefit.training.data import Batches, Rows, StackData
from bikefit.training.fit import look_ahead
from bikefit.training.fit import train as train_stack
from bikefit.training.folds import Fold, Pool
from bikefit.training.module import StackModule
from bikefit.training.strengths import make_network, strengths

HELD_OUT = 7000
PROBLEMS = 120
SEEDS = (0, 1, 2)
FRESH = 4000  # rows on which a network is compared with the known function
SMALL = ([], [1], [3], [8], [32])
LARGE = [32, 32]
ON_LARGE: tuple[dict[str, float], ...] = (
    {}, {"l2": 1e-4}, {"l2": 1e-3}, {"l2": 1e-2}, {"l2": 1e-1}, {"l2": 1.0},
    {"dropout": 0.1}, {"dropout": 0.4}, {"dropout": 0.8}, {"patience": 10},
)  # fmt: skip
CLASSES = ("underfitting", "overfitting", "good fit", "undecided")


@dataclass(frozen=True)
class Problem:
    """A known function of a few inputs with known noise, and the rows drawn from it."""

    seed: int
    loss: str
    inputs: int
    train_rows: int
    val_rows: int
    noise: float  # variance of the noise in units of that of the function, about

    @classmethod
    def draw(cls, seed: int) -> Problem:
        """Draw everything but the loss, which alternates."""
        random = np.random.default_rng([seed, 0])
        return cls(
            seed=seed,
            loss=("mse", "poisson")[seed % 2],
            inputs=int(random.integers(2, 6)),
            train_rows=int(random.choice([100, 200, 400])),
            val_rows=200,
            noise=float(np.exp(random.uniform(np.log(0.05), np.log(1.0)))),
        )

    @cached_property
    def _wave(self) -> tuple[np.ndarray, ...]:
        random = np.random.default_rng([self.seed, 1])
        terms = int(random.integers(2, 6))
        directions = random.normal(0, 1.6 / np.sqrt(self.inputs), (self.inputs, terms))
        return directions, random.uniform(-3, 3, terms), random.normal(0, 1, (terms, 2))

    def _shape(self, x: np.ndarray) -> np.ndarray:
        """A sum of a straight line, waves, steps and a product."""
        directions, shift, weight = self._wave
        z = x @ directions + shift
        bent = np.where(np.arange(z.shape[1]) % 2 == 0, np.sin(z), np.tanh(2 * z))
        return bent @ weight[:, 0] + 0.3 * x @ directions @ weight[:, 1] + 0.5 * x[:, 0] * x[:, 1]

    @cached_property
    def _moments(self) -> tuple[float, float]:
        shape = self._shape(self.features(2, 20_000))
        return float(shape.mean()), float(shape.std())

    def features(self, stream: int, rows: int) -> np.ndarray:
        """Draw inputs, standardized."""
        random = np.random.default_rng([self.seed, stream])
        return random.uniform(-(3**0.5), 3**0.5, (rows, self.inputs))

    def mean(self, x: np.ndarray) -> np.ndarray:
        """The known function: the expected target of each row."""
        mean, std = self._moments
        shape = (self._shape(x) - mean) / std
        if self.loss == "mse":
            return 10.0 + shape
        return np.exp(0.6 * np.clip(shape, -3, 3)) * 1.4 / self.noise

    def target(self, mean: np.ndarray, stream: int) -> np.ndarray:
        """Draw the target of each row."""
        random = np.random.default_rng([self.seed, stream])
        if self.loss == "mse":
            return mean + np.sqrt(self.noise) * random.normal(size=len(mean))
        return random.poisson(mean).astype(float)

    def loss_of(self, target: np.ndarray, predicted: np.ndarray, scale: float) -> np.ndarray:
        """Loss of each row in the unit of the trainer; `scale` is the target's variance."""
        if self.loss == "mse":
            return (target - predicted) ** 2 / scale
        logarithm = np.log(np.where(target > 0, target, 1) / predicted)
        return target * logarithm - target + predicted


def settings(
    problem: Problem, hidden: list[int], seed: int, strength: dict[str, float]
) -> Settings:
    """What `conf/` would say about one run."""
    scale = 1.0 if problem.loss == "mse" else 0.3 / problem.noise  # loss of a constant, about
    scaled = {k: v * scale if k == "l2" else v for k, v in strength.items()}
    return parse({
        "data": {"name": f"problem {problem.seed}"},
        "network": {"name": "mlp" if hidden else "linear", "hidden": hidden},
        "regularization": scaled,
        "optimizer": {"name": "adam", "lr": _lr(hidden), "schedule": "one_cycle"},
        "training": {"epochs": 120, "batch_size": 50},
        "validation": {"name": "holdout"},
        "trainer": {},
        "tracking": {"experiment": "benchmark"},
        "loss": problem.loss,
        "seed": seed,
    })  # fmt: skip


def _lr(hidden: list[int]) -> float:
    """The learning rate that suits a network: small ones are slow, the linear one is stable."""
    return 0.1 if not hidden else 0.05 if hidden in SMALL else 0.02


def pool_of(problem: Problem) -> Pool:
    """The rows that a sweep sees: training rows, then validation rows."""
    count = problem.train_rows + problem.val_rows
    features = problem.features(3, count)
    target = problem.target(problem.mean(features), 4)
    times = np.arange(count).astype("M8[h]")
    return Pool(features.astype(np.float32), target.astype(np.float32), times, problem.train_rows)


def fit(problem: Problem, members: Sequence[Settings]) -> list[dict[str, Any]]:
    """Train members of one shape side by side, and measure them as runs and against the truth."""
    if not members:
        return []
    pool = pool_of(problem)
    rows_of = np.arange(len(pool.target))
    fold = Fold(rows_of[: pool.train_rows], rows_of[pool.train_rows :], refit=False)
    rows = Rows(pool, [fold], [0] * len(members))
    seeds = sorted({m.seed for m in members})
    networks = [make_network(m, problem.inputs) for m in members]
    module = StackModule(
        Stack(networks), rows, [seeds.index(m.seed) for m in members], [m.seed for m in members],
        [strengths(m, n) for m, n in zip(members, networks, strict=True)], members[0].optimizer,
        [m.optimizer.lr for m in members], members[0].loss,
    )  # fmt: skip
    batches = Batches([(s, rows.train_rows[0]) for s in seeds], members[0].training.batch_size)
    selection = Selection([m.regularization.patience for m in members])
    data = StackData(batches, len(rows.target))
    train_stack(module, data, members[0], [selection])
    final = look_ahead(module, data, members[0], selection)
    module.stack.load(selection.state)
    final |= constant_losses(module)
    truth = _truth(problem, module, pool)
    by_row = _by_row(module)
    return [
        _record(member, module, selection, m)
        | {k: v[m].item() for k, v in final.items()}
        | {k: v[m] for k, v in truth.items()}
        | {DAYS.format("loss"): by_row[m]}
        for m, member in enumerate(members)
    ]


@torch.no_grad()
def _by_row(module: StackModule) -> list[tuple[float, ...]]:
    """What each validation row adds to the loss: rows here are as independent as days are."""
    held_out = module.rows.masks[1, 0] > 0
    output = module.outputs(0)
    rows = module.loss.rows(output, module.rows.target)[:, held_out].double()
    return [tuple(row) for row in (rows / rows.shape[1]).tolist()]


def _record(member: Settings, module: StackModule, selection: Selection, m: int) -> dict[str, Any]:
    """A run as `tracking.reading.read_runs` would give it."""
    at, last = selection.selected[m], selection.last[m]
    history = {
        name: [float(epoch[name][m]) for epoch in module.history[:last]]
        for name in ("train/loss", "val/loss")
    }
    label = regularization_label(member)
    row = {
        **flat(member), "method": label, "status": "FINISHED", "name": label,
        "run_id": f"{label} {member.network.hidden} {member.seed}", "best/epoch": float(at),
        "lowest/val/loss": min(history["val/loss"]),
        "lowest/epoch": 1.0 + int(np.argmin(history["val/loss"])),
        "tags.val_rows": str(int(module.rows.masks[1, 0].sum())),
        **{f"best/{name}": values[at - 1] for name, values in history.items()},
    }  # fmt: skip
    if selection.failure[m]:
        row |= {"status": "FAILED", "tags.failure": selection.failure[m].reason}
    return row


@torch.no_grad()
def _truth(problem: Problem, module: StackModule, pool: Pool) -> dict[str, list[float]]:
    """Excess of each member over the known function: on fresh rows, and on its training rows.

    The first is the expected loss over fresh targets minus that of the known function, exact but
    for the choice of the inputs; the second compares both on the very targets that were fitted.
    """
    scale = float(module.rows.target_std[0, 0]) ** 2
    module.stack.eval()

    def predict(x: np.ndarray) -> np.ndarray:
        output = module.stack(torch.from_numpy(x.astype(np.float32)))
        return np.asarray(module.loss.predict(output).double().numpy())

    fresh = problem.features(5, FRESH)
    known = problem.mean(fresh)
    # Known noise: the expected excess needs no draw of targets.
    excess = problem.loss_of(known, predict(fresh), scale).mean(axis=1)
    noise = problem.loss_of(problem.target(known, 6), known, scale).mean()
    x, y = problem.features(3, pool.train_rows + problem.val_rows)[: pool.train_rows], pool.target
    y = y[: pool.train_rows].astype(float)
    ours, theirs = problem.loss_of(y, predict(x), scale), problem.loss_of(y, problem.mean(x), scale)
    return {
        "truth.excess": excess.tolist(),
        "truth.train_excess": (ours.mean(axis=1) - theirs.mean()).tolist(),
        "truth.irreducible": [float(noise)] * len(excess),
    }


def sweep(problem: Problem) -> pd.DataFrame:
    """All runs of one problem; those that underfit are trained twice as long as well.

    Whether training was finished is part of the truth, so it is measured by training on, not by
    what runs say of themselves. Members of a stack are independent of one another, so that those
    in question are enough.
    """
    torch.set_num_threads(1)
    shapes = [(hidden, ({},)) for hidden in SMALL] + [(LARGE, ON_LARGE)]
    stacks = [
        [settings(problem, hidden, s, c) for s in SEEDS for c in choices]
        for hidden, choices in shapes
    ]  # fmt: skip
    runs = pd.DataFrame([run for members in stacks for run in fit(problem, members)])
    stiff = iter(right_verdicts(runs)["right"] == "underfitting")
    longer: list[float] = []
    for members in stacks:
        asked = [next(stiff) for _ in members]
        again = iter(fit(problem, [_twice(m) for m, a in zip(members, asked, strict=True) if a]))
        longer += [next(again)["truth.excess"] if a else np.nan for a in asked]
    return runs.assign(problem=problem.seed, **{"truth.longer": longer})


def _twice(one: Settings) -> Settings:
    training = one.training.model_copy(update={"epochs": 2 * one.training.epochs})
    return one.model_copy(update={"training": training})


def right_verdicts(runs: pd.DataFrame) -> pd.DataFrame:
    """Say which verdict is right for each run of one problem, from the known function alone.

    With I the irreducible loss, E the excess of a run over it on fresh rows, E* the lowest mean
    excess of a configuration of the sweep and A the excess on the training rows (negative where
    the run fits their noise):

    - near the best that the sweep can do, (E - E*) / (I + E*) at most 0.1, and E at most 2 I:
      good fit;
    - else, A at least half of E, so that the run misses the training rows as well: underfitting;
    - else overfitting;
    - undecided instead of underfitting where training was not finished: with twice as many epochs
      I + E is lower by at least 5 %.

    Within a factor of two of a border (0.05 to 0.2; a third to two thirds; 2.5 % to 10 %) the
    verdicts of either side are acceptable; so is "undecided" for the first border, for a run near
    the best of its sweep that is far off all the same, and where the paths speak against the
    verdict: on none is anybody in its direction truly better. A run with E above 2 I is never a
    good fit.

    Returns:
        ``right``, the verdict on this side of the borders; ``clear``, whether no other is
        acceptable; and ``acceptable``, all that are, joined by "|".
    """
    noise, excess = runs["truth.irreducible"], runs["truth.excess"]
    by_name = [runs["method"], runs["network.hidden"].astype(str)]
    lowest = excess.groupby(by_name).mean().min()
    near = (excess - lowest) / (noise + lowest)
    share = runs["truth.train_excess"].clip(lower=0) / excess
    longer = runs.get("truth.longer", excess).fillna(excess)
    left = (excess - longer) / (noise + excess)
    vain = _in_vain(runs)
    rows = [
        _right(*values) for values in zip(near, share, excess > 2 * noise, left, vain, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["right", "clear", "acceptable"], index=runs.index)


def _in_vain(runs: pd.DataFrame) -> list[set[int]]:
    """The sides on which paths have tried each run's configuration and nobody is truly better."""
    names = comparison(runs)["configuration"]
    loss = (runs["truth.irreducible"] + runs["truth.excess"]).groupby(names).mean()
    found: dict[str, dict[int, bool]] = {name: {} for name in loss.index}
    for path in paths_of.find_paths(runs):
        for name in path.configurations:
            for side, others in path.sides(name).items():
                helps = bool(loss[others].min() < loss[name])
                found[name][side] = found[name].get(side, False) or helps
    return [{side for side, helps in found[name].items() if not helps} for name in names]


def _right(
    near: float, share: float, far_off: bool, left: float, vain: set[int]
) -> tuple[str, bool, str]:
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
    if bad in acceptable and (1 if share >= 0.5 else -1) in vain:
        acceptable.add("undecided")
    if bad == "underfitting" and left >= 0.05:
        bad = "undecided"
    right = "good fit" if near <= 0.1 and not far_off else bad
    return right, len(acceptable) == 1, "|".join(sorted(acceptable))


def judged(runs: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Give every run its verdict and, from the known function, the right one."""
    parts = []
    for _, group in runs.groupby("problem"):
        own = group.reset_index(drop=True).dropna(axis=1, how="all")
        given = verdicts(own, thresholds)[["verdict", "reason"]]
        truths = [key for key in own if key.startswith("truth.")]
        kept = own[["problem", "loss", "method", "network.hidden", *truths]]
        parts.append(pd.concat([kept, given, right_verdicts(own)], axis=1))
    table = pd.concat(parts, ignore_index=True)
    return table[table["verdict"].notna()].reset_index(drop=True)


def directions(runs: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Check on every path of every problem that verdicts point to where the truth is better.

    A case is a configuration whose expected loss on fresh rows, irreducible loss plus mean excess,
    is at least 5 % above the lowest of its path. Its verdict points the wrong way if it asks for
    more flexibility where the lowest has less, or the other way round, unless another path of the
    configuration has somebody there who is truly 5 % better.

    Returns:
        A row a case: ``problem``, ``configuration``, ``key``, ``verdict``, ``wrong``, and
        ``told``, whether the product's own noise tells the difference.
    """
    cases = []
    for problem, group in runs.groupby("problem"):
        own = group.reset_index(drop=True).dropna(axis=1, how="all")
        names = comparison(own)["configuration"]
        loss = (own["truth.irreducible"] + own["truth.excess"]).groupby(names).mean()
        given = configuration_verdicts(own, thresholds).set_index("configuration")["verdict"]
        paths = [path for path in paths_of.find_paths(own) if path.direction]
        truths = [_better(path, loss) for path in paths]
        for path, told in zip(paths, along(own, paths, thresholds), strict=True):
            lowest = loss[list(path.configurations)].idxmin()
            for name in path.configurations:
                if loss[name] < 1.05 * loss[lowest]:
                    continue
                side = next(s for s, others in path.sides(name).items() if lowest in others)
                points = {"underfitting": 1, "overfitting": -1}.get(given[name], 0)
                elsewhere = any(points in t.get(name, set()) for t in truths)
                near = told["within_noise"].get(name)
                cases.append({
                    "problem": problem, "configuration": name, "key": path.key,
                    "verdict": given[name], "wrong": points == -side and not elsewhere,
                    "told": near is not pd.NA and not near,
                })  # fmt: skip
    return pd.DataFrame(cases)


def _better(path: paths_of.Path, loss: pd.Series) -> dict[str, set[int]]:
    """The sides on which a path truly has somebody 5 % better, by configuration."""
    return {
        name: {
            side for side, others in path.sides(name).items()
            if loss[name] >= 1.05 * loss[others].min()
        }
        for name in path.configurations
    }  # fmt: skip


def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """Count runs by the right verdict (rows) and the given one (columns)."""
    counted = pd.crosstab(table["right"], table["verdict"])
    return counted.reindex(index=CLASSES, columns=CLASSES, fill_value=0)


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Accuracy and what stands beside it."""
    given = [v in a.split("|") for v, a in zip(table["verdict"], table["acceptable"], strict=True)]
    right, clear = pd.Series(given, index=table.index), table["clear"]
    decided = clear & (table["verdict"] != "undecided")
    far_off = table["truth.excess"] > 2 * table["truth.irreducible"]
    return {
        "problems": table["problem"].nunique(),
        "runs": len(table),
        "clear": int(clear.sum()),
        "accuracy": float(right.mean()),
        "accuracy.clear": float(right[clear].mean()),
        "accuracy.decided": float(right[decided].mean()),
        "undecided.clear": int((clear & ~decided & ~right).sum()),
        "far_off": int(far_off.sum()),
        "far_off.good_fit": int((far_off & (table["verdict"] == "good fit")).sum()),
    }


def report(table: pd.DataFrame, cases: pd.DataFrame, first: int) -> str:
    """Write the result as Markdown."""
    found = summary(table)
    clear = table[table["clear"]]
    last = first + int(found["problems"]) - 1
    return f"""# Are verdicts right?

`make bench-verdicts` wrote this. {found["problems"]} synthetic problems (seeds {first} to {last}),
each a sweep of {len(SMALL) + len(ON_LARGE)} configurations over {len(SEEDS)} seeds, half of them
with squared error, half with Poisson counts. Thresholds were set on other problems (seeds 0 to 59,
500 to 509, 4000 to 4119, 5000 to 5119 and 6000 to 6119). `docs/verdicts.md` says how the known
function gives the right verdict.

- Runs with a result: {found["runs"]}. On {found["clear"]} of them only one verdict is right; the
  other {found["runs"] - found["clear"]} are near a border, where the verdicts of both sides count.
- **Right: {found["accuracy"]:.1%}** of all runs, {found["accuracy.clear"]:.1%} of the clear ones
  ("undecided" counts as wrong, {found["undecided.clear"]} runs, unless training truly was not
  finished), {found["accuracy.decided"]:.1%} of the clear ones that got a verdict.
- Runs whose excess loss is more than twice the irreducible loss: {found["far_off"]}, of which
  **called a good fit: {found["far_off.good_fit"]}**.
- Directions: in {len(cases)} cases a configuration's expected loss is at least 5 % above the lowest
  of its path. **Verdicts that point the wrong way: {int(cases["wrong"].sum())}**; called a good
  fit although the noise tells the difference:
  {int((cases["told"] & (cases["verdict"] == "good fit")).sum())} of {int(cases["told"].sum())}.

Clear runs, the right verdict (row) against the given one (column):

{_markdown(confusion(clear))}

All runs, the right verdict being the one on this side of the border:

{_markdown(confusion(table))}

By loss:

{_by_loss(table)}
"""


def _markdown(counts: pd.DataFrame) -> str:
    lines = [f"| | {' | '.join(counts.columns)} |", "|:--|" + "--:|" * len(counts.columns)]
    for name, row in counts.iterrows():
        lines.append(f"| **{name}** | {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def _by_loss(table: pd.DataFrame) -> str:
    lines = ["| loss | runs | right | right of clear | far off | called a good fit |"]
    lines.append("|:--|--:|--:|--:|--:|--:|")
    for loss, group in table.groupby("loss"):
        s = summary(group)
        lines.append(
            f"| {loss} | {s['runs']} | {s['accuracy']:.1%} | {s['accuracy.clear']:.1%} "
            f"| {s['far_off']} | {s['far_off.good_fit']} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train the sweeps, judge them, print and perhaps write the result."""
    parser = argparse.ArgumentParser(description="Are verdicts right?")
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    parser.add_argument("--first", type=int, default=HELD_OUT, help="seed of the first problem")
    parser.add_argument("--processes", type=int, default=joblib.cpu_count())
    parser.add_argument("--write", action="store_true", help="write benchmarks/verdicts.md")
    parser.add_argument("--keep", type=Path, help="file that keeps the runs, to judge them again")
    options = parser.parse_args()
    start = time.perf_counter()
    runs = train(options.first, options.problems, options.processes)
    given = read_thresholds()
    text = report(judged(runs, given), directions(runs, given), options.first)
    print(text)
    if options.keep:
        runs.to_pickle(options.keep)
    print(f"{time.perf_counter() - start:.0f} s")
    if options.write:
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


def train(first: int, problems: int, processes: int) -> pd.DataFrame:
    """Train the sweeps of so many problems."""
    drawn = [Problem.draw(seed) for seed in range(first, first + problems)]
    work = joblib.Parallel(n_jobs=processes)(joblib.delayed(sweep)(one) for one in drawn)
    return pd.concat(work, ignore_index=True)


if __name__ == "__main__":
    import verdicts  # under its own name, so that worker processes find what they are sent

    verdicts.main()
