"""Where the seconds of the reference sweep go: by process, and by operation within a stack."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from benchmarks.sweep import reference
from benchmarks.sweep.document import spread, table
from benchmarks.sweep.sampled import Sampled, sampled

STACK = 12  # members of the stack that is looked at closely: a seed's share of the sweep
ROWS, COLUMNS, WIDTH = 256, 87, 128  # of the step that is held against its products
KINDS = (
    ("compiled passes between products", ("forward", "backward", "activate", "one_unit",
                                          "one_unit_backward")),
    ("matrix products", ("mm", "addmm", "bmm", "baddbmm")),
    ("random numbers", ("uniform_", "rand", "bernoulli_", "random_", "randperm")),
    ("optimizer", ("_fused_adam_", "_fused_adamw_", "_fused_sgd_")),
    ("copies and fetching rows", ("copy_", "index", "clone", "cat", "stack", "index_select",
                                  "contiguous", "gather", "take")),
)  # fmt: skip


PHASES = {"training_step": "forward", "way back": "backward", "evaluate": "evaluation"}
GOAL = 2.2  # times its products, for a step


def measure(options: argparse.Namespace) -> str:
    """Return both tables."""
    of_sweep = sampled(reference.command(options.epochs))
    parts = (_by_process(of_sweep), _by_operation(options.epochs), _over_products())
    return "\n\n".join(parts)


def _by_process(found: Sampled) -> str:
    """Seconds of each process's main thread by category, the largest first."""
    processes = [found.parent, found.server, *found.workers]
    total: Counter[str] = Counter()
    for process in processes:
        total.update(process.main)
    rows = [
        [name, *(f"{process.main.get(name, 0):.2f}" for process in processes)]
        for name, seconds in total.most_common()
        if seconds >= 0.01
    ]
    rows.append(["not seen (start and exit)", f"{found.seconds - found.parent.seconds:.2f}",
                 *[""] * len(processes[1:])])  # fmt: skip
    head = ("seconds", "the command", "server",
            *(f"worker {i + 1}" for i in range(len(found.workers))))  # fmt: skip
    aside = sum(v for k, v in found.parent.others.items() if k.startswith("MLflow"))
    return (
        f"By process, main threads ({found.seconds:.1f} s in all, looked at every 5 ms from "
        f"outside the code):\n\n{table(head, rows)}\n\n"
        f"Other threads of the command spent {aside:.1f} s on MLflow."
    )


def _by_operation(epochs: int) -> str:
    from bikefit.training.fit import fit_stack
    from bikefit.training.folds import read_pool

    members = reference.members(STACK, f"training.epochs={epochs}")
    pool = read_pool(members[0].settings.data.path)
    fit_stack(reference.members(STACK, "training.epochs=1"), pool)  # first use of everything
    start = time.perf_counter()
    fit_stack(members, pool)
    seconds = time.perf_counter() - start
    profiled, kinds = _profile(members)
    phases = ("forward", "backward", "evaluation", "rest")
    rows = [
        [kind, *(f"{of_phase[phase]:.2f}" for phase in phases), f"{sum(of_phase.values()):.2f}"]
        for kind, of_phase in sorted(kinds.items(), key=lambda item: -sum(item[1].values()))
    ]
    outside = profiled - sum(sum(of_phase.values()) for of_phase in kinds.values())
    rows.append(["Lightning's loop, Python outside the steps", "", "", "", f"{outside:.2f}",
                 f"{outside:.2f}"])  # fmt: skip
    return (
        f"By operation, one stack of {len(members)} members in one process with one thread "
        f"({epochs} epochs take {seconds:.2f} s, {profiled:.2f} s under torch's profiler, which "
        f"the table shows; the profiler slows what is many small calls):\n\n"
        f"{table(('seconds', *phases, 'all'), rows)}"
    )


def _profile(members: list[Any]) -> tuple[float, dict[str, Counter[str]]]:
    """Return seconds of training a stack, and those of its operations by kind and phase."""
    import torch

    from bikefit.training.fit import fit_stack
    from bikefit.training.folds import read_pool

    activities = [torch.profiler.ProfilerActivity.CPU]
    pool = read_pool(members[0].settings.data.path)
    with _named(), torch.profiler.profile(activities=activities) as profile:
        start = time.perf_counter()
        fit_stack(members, pool)
        seconds = time.perf_counter() - start
    kinds: dict[str, Counter[str]] = {}
    for event in profile.events():
        phase = _phase(event)
        kinds.setdefault(_kind(event.name), Counter())[phase] += event.self_cpu_time_total / 1e6
    return seconds, kinds


@contextmanager
def _named() -> Iterator[None]:
    """Let the profiler see steps and compiled passes, which are no operations of torch."""
    import torch

    from bikefit.nn import kernels
    from bikefit.nn.fused import Fused
    from bikefit.training.module import StackModule

    named = [(StackModule, "training_step", "training_step"), (Fused, "backward", "way back"),
             (Fused, "evaluate", "evaluate")]  # fmt: skip
    named += [(kernels, loop, loop) for loop in KINDS[0][1]]
    plain = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in named]
    for (owner, attribute, function), (_, _, name) in zip(plain, named, strict=True):
        setattr(owner, attribute, torch.profiler.record_function(name)(function))
    try:
        yield
    finally:
        for owner, attribute, function in plain:
            setattr(owner, attribute, function)


def _phase(event: Any) -> str:
    """Say which part of the training an operation belongs to."""
    while event is not None:
        if event.name.startswith("Optimizer.step"):
            return "rest"
        if event.name in PHASES:
            return PHASES[event.name]
        event = event.cpu_parent
    return "rest"


def _over_products() -> str:
    """Hold one training step of a stack against the matrix products in it, on one core."""
    import torch

    from bikefit.nn.fused import fuse
    from bikefit.nn.networks import build
    from bikefit.nn.randomness import DropoutNoise, initialize
    from bikefit.nn.specs import mlp
    from bikefit.nn.stacking import Stack

    torch.set_num_threads(1)
    specs = mlp(COLUMNS, [WIDTH, WIDTH], "relu", "before")
    networks = [initialize(lambda: build(specs, COLUMNS), seed) for seed in range(STACK)]
    for network in networks:
        for name in ("hidden1", "hidden2"):
            network.get_submodule(f"{name}.dropout").p.fill_(0.3)
    stack = Stack(networks)
    fused = fuse(stack)
    assert fused is not None
    noise = DropoutNoise([0] * STACK, dict.fromkeys(("hidden1.dropout", "hidden2.dropout"), WIDTH))
    optimizer = torch.optim.Adam(stack.parameters(), fused=True)
    x = torch.randn(1, ROWS, COLUMNS)

    def step() -> None:
        drawn = noise.draw(ROWS)
        for part in fused.parts(ROWS):
            fused.backward(fused.forward(x, [0] * STACK, drawn, part).sub_(1))
        optimizer.step()

    first, second = torch.randn(STACK * WIDTH, COLUMNS), torch.randn(STACK, WIDTH, WIDTH)
    h, g = torch.empty(2, STACK, WIDTH, ROWS)
    of_first, of_second = torch.empty_like(first), torch.empty_like(second)

    def products() -> None:
        torch.mm(first, x[0].T, out=h.view(-1, ROWS))
        torch.bmm(second, h, out=g)
        torch.bmm(g, h.mT, out=of_second)
        torch.bmm(second.mT, g, out=h)
        torch.mm(h.view(-1, ROWS), x[0], out=of_first)

    with torch.no_grad():
        rounds = [[_seconds(one) for one in (step, products)] for _ in range(9)]
    ratios = [whole / alone for whole, alone in rounds]
    return (
        f"One step of a stack of {STACK} (batch {ROWS}, {COLUMNS} columns, hidden layers "
        f"[{WIDTH}, {WIDTH}], batch norm, ReLU, dropout, Adam, noise included) on one core takes "
        f"{spread([1000 * whole / STACK for whole, _ in rounds], 2)} ms a member, its products "
        f"alone {spread([1000 * alone / STACK for _, alone in rounds], 2)} ms: "
        f"{spread(ratios, 2)} × (seconds of the processor, in turns). Goal: ≤ {GOAL} ×, "
        f"{'met' if median(ratios) <= GOAL else 'missed'}."
    )


def _seconds(step: Callable[[], None], times: int = 20) -> float:
    """Return processor seconds of a call."""
    step()
    start = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - start) / times


def _kind(name: str) -> str:
    if name in PHASES:
        return "Python of the steps, between operations"
    if name.startswith("Optimizer."):
        return "optimizer"
    short = name.removeprefix("aten::")
    for kind, names in KINDS:
        if short in names:
            return kind
    return "all other operations"
