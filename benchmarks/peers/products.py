"""Peer: the matrix products of the training steps alone, forward and backward, on all cores.

Members are stacked and divided among the cores, once as processes with one thread each and once
as one process with one thread per core. The faster time counts, without start-up.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable

import torch
from shared import GRID, epochs, read
from torch import Tensor

WIDTHS = (128, 128, 1)
BATCH = 256


def step(x: Tensor, weights: list[Tensor]) -> None:
    """Compute the products of one step: outputs, and gradients of weights and of inputs.

    **Shape**: x ``(B, D)``, shared by the members; weights ``(M, inputs, outputs)``.
    """
    inputs = [x.expand(len(weights[0]), -1, -1)]
    for weight in weights:
        inputs.append(torch.bmm(inputs[-1], weight))
    gradient = inputs.pop()
    for index in reversed(range(len(weights))):
        torch.bmm(inputs[index].mT, gradient)
        if index:  # the gradient of the features is not needed
            gradient = torch.bmm(gradient, weights[index].mT)


def multiply(features: Tensor, members: int, epochs: int, threads: int) -> None:
    """Compute all products of a stack."""
    torch.set_num_threads(threads)
    sizes = zip((features.shape[1], *WIDTHS), WIDTHS, strict=False)
    weights = [torch.randn(members, a, b) / a**0.5 for a, b in sizes]
    batches = features.split(BATCH)[: len(features) // BATCH]
    for _ in range(epochs):
        for batch in batches:
            step(batch, weights)


def in_processes(features: Tensor, epochs: int, cores: int) -> None:
    """Compute the products in one process per core."""
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=multiply, args=(features, len(GRID[i::cores]), epochs, 1))
        for i in range(cores)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def seconds(function: Callable[..., None], *arguments: object) -> float:
    """Return the wall time of a call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    cores, passes = os.cpu_count() or 1, epochs()
    features = torch.from_numpy(read()[0].features)
    with torch.inference_mode():  # processes first: a fork does not copy torch's threads
        processes = seconds(in_processes, features, passes, cores)
        threads = seconds(multiply, features, len(GRID), passes, cores)
    print(json.dumps({"seconds": min(processes, threads)}))
