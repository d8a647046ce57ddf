"""Where the seconds of the reference sweep go: by process, and by operation within a stack."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

from benchmarks.sweep import reference
from benchmarks.sweep.document import table
from benchmarks.sweep.sampled import Sampled, sampled

STACK = 12  # members of the stack that is looked at closely: a seed's share of the sweep
STEPS = ("training_step", "validation_step")
KINDS = (
    ("matrix products", ("mm", "addmm", "bmm", "baddbmm", "linear", "mkldnn_linear", "matmul")),
    ("batch norm", ("native_batch_norm", "_native_batch_norm_legit", "native_batch_norm_backward",
                    "batch_norm", "_native_batch_norm_legit_no_training", "var_mean")),
    ("random numbers", ("uniform_", "rand", "bernoulli_", "random_", "randperm")),
    ("optimizer", ("_fused_adam_", "_fused_adamw_", "_fused_sgd_")),
    ("copies and fetching rows", ("copy_", "index", "clone", "cat", "stack", "index_select",
                                  "contiguous", "gather", "take")),
)  # fmt: skip


def measure(options: argparse.Namespace) -> str:
    """Return both tables."""
    of_sweep = sampled(reference.command(options.epochs))
    return f"{_by_process(of_sweep)}\n\n{_by_operation(options.epochs)}"


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

    members = reference.members(STACK, f"training.epochs={epochs}")
    fit_stack(reference.members(STACK, "training.epochs=1"))  # first use of everything
    start = time.perf_counter()
    fit_stack(members)
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
    from bikefit.training.module import StackModule

    plain = {name: getattr(StackModule, name) for name in STEPS}
    for name, step in plain.items():
        setattr(StackModule, name, torch.profiler.record_function(name)(step))
    try:
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as profile:
            start = time.perf_counter()
            fit_stack(members)
            seconds = time.perf_counter() - start
    finally:
        for name, step in plain.items():
            setattr(StackModule, name, step)
    kinds: dict[str, Counter[str]] = {}
    for event in profile.events():
        phase = _phase(event)
        kinds.setdefault(_kind(event.name), Counter())[phase] += event.self_cpu_time_total / 1e6
    return seconds, kinds


def _phase(event: Any) -> str:
    """Say which part of the training an operation belongs to."""
    phase = "rest"
    while event is not None:
        if event.name.startswith("autograd::engine"):
            return "backward"
        if event.name.startswith("Optimizer.step"):
            return "rest"
        phase = {"training_step": "forward", "validation_step": "evaluation"}.get(event.name, phase)
        event = event.cpu_parent
    return phase


def _kind(name: str) -> str:
    if name in STEPS:
        return "Python of the steps, between operations"
    if name.startswith("Optimizer."):
        return "optimizer"
    short = name.removeprefix("aten::")
    for kind, names in KINDS:
        if short in names:
            return kind
    return "all other operations"
