"""Peer: the matrix products of the training steps alone, forward and backward, on all cores.

Members are stacked, the cores share them out: as processes with a thread each, then as one
process with a thread a core. The faster counts; starting up and reading rows do not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time

import torch
from rows import read
from torch import Tensor

WIDTHS = (128, 128, 1)
BATCH = 256


def step(x: Tensor, weights: list[Tensor]) -> None:
    """Multiply forward and backward: output, weights' and inputs' gradients of each layer.

    **Shape**: x ``(B, D)``, shared by the members; weights ``(M, inputs, outputs)``.
    """
    inputs = [x.expand(len(weights[0]), -1, -1)]
    for weight in weights:
        inputs.append(torch.bmm(inputs[-1], weight))
    gradient = inputs.pop()
    for index in reversed(range(len(weights))):
        torch.bmm(inputs[index].mT, gradient)
        if index:  # nobody needs the gradient of the features
            gradient = torch.bmm(gradient, weights[index].mT)


def multiply(features: Tensor, members: int, epochs: int, threads: int) -> None:
    """Do all products of a stack."""
    torch.set_num_threads(threads)
    sizes = zip((features.shape[1], *WIDTHS), WIDTHS, strict=False)
    weights = [torch.randn(members, a, b) / a**0.5 for a, b in sizes]
    batches = features.split(BATCH)[: len(features) // BATCH]
    for _ in range(epochs):
        for batch in batches:
            step(batch, weights)


def in_processes(features: Tensor, members: int, epochs: int, cores: int) -> float:
    """Return the seconds that a process a core takes, from the first start to the last end."""
    context = multiprocessing.get_context("fork")
    shares = [len(range(i, members, cores)) for i in range(cores)]
    start = time.perf_counter()
    workers = [
        context.Process(target=multiply, args=(features, share, epochs, 1)) for share in shares
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def in_threads(features: Tensor, members: int, epochs: int, cores: int) -> float:
    """Return the seconds that one process with a thread a core takes."""
    start = time.perf_counter()
    multiply(features, members, epochs, cores)
    return time.perf_counter() - start


def main() -> None:
    """Measure both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--members", type=int, default=24)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    features = torch.from_numpy(read()[0].features)
    work = (features, options.members, options.epochs, cores)
    with torch.inference_mode():  # forking comes first: threads do not survive it
        found = {"processes": in_processes(*work), "threads": in_threads(*work)}
    print(json.dumps({"seconds": min(found.values()), **found}))


if __name__ == "__main__":
    main()
