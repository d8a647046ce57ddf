"""Where compiled loops are kept, and who loads them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from bikefit.nn import kernels
from bikefit.nn.fused import fuse
from bikefit.nn.networks import build
from bikefit.nn.randomness import DropoutNoise
from bikefit.nn.specs import mlp
from bikefit.nn.stacking import Stack

LOOPS = ("forward", "backward", "activate", "one_unit", "one_unit_backward")
USE = "import kernels; kernels.prepare()"
# One of them, quickly compiled, where all are treated alike.
USE_ONE = (
    "import kernels, numpy as np; one = np.ones((1, 1, 1), np.float32); "
    "kernels.activate(one, one[0], 1)"
)


def kept_in(folder: Path) -> set[str]:
    """Names of the loops that have been kept somewhere below a folder."""
    return {file.name.split(".")[1].split("-")[0] for file in folder.rglob("*.nbi")}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A copy of the module in a place where nothing can be kept beside it."""
    place = tmp_path / "installed"
    place.mkdir()
    shutil.copy(kernels.__file__, place / "kernels.py")
    (place / "__pycache__").write_text("a file where the folder would be")
    return place


@pytest.mark.slow(seconds=11)
@pytest.mark.skipif(sys.platform != "linux", reason="the variables are those of Linux")
@pytest.mark.parametrize(
    ("code", "variables", "kept"),
    [
        (USE, {"NUMBA_CACHE_DIR": "named"}, LOOPS),
        (USE_ONE, {"HOME": "home", "XDG_CACHE_HOME": "home/cache"}, ["activate"]),
        (USE_ONE, {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}, []),
    ],
    ids=["in the named folder", "in the user's folder", "nowhere"],
)
def test_where_a_read_only_installation_keeps_its_loops(
    sealed: Path, tmp_path: Path, code: str, variables: dict[str, str], kept: Sequence[str]
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    environment |= {name: str(tmp_path / folder) for name, folder in variables.items()}
    command = [sys.executable, "-B", "-W", "error", "-c", code]
    subprocess.run(command, cwd=sealed, env=environment, check=True)
    assert kept_in(tmp_path) >= set(kept)


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh", "sigmoid"])
def test_activations_and_their_slopes_are_exact_to_a_millionth(activation: str) -> None:
    """In single precision, against torch in double; far from zero to a millionth of the value."""
    numbers = np.linspace(-30, 30, 200_001, dtype=np.float32)
    x = torch.from_numpy(numbers).double().requires_grad_()
    expected = getattr(torch.nn.functional, activation)(x)
    expected.sum().backward()
    assert x.grad is not None
    number = getattr(kernels, activation.upper())
    block, out = numbers.reshape(1, 1, -1).copy(), np.empty((1, 1, len(numbers)), np.float32)
    nothing = np.empty((0, 0), np.float32)
    undrawn = [np.empty(0, kind) for kind in (np.int64, np.int32, np.float32)]
    norm = (nothing, kernels.NONE, nothing, nothing, np.float32(0), nothing, nothing)
    dropout = (np.empty((0, 0, 0), np.int16), *undrawn, False)
    kernels.forward(block, np.empty((0, 0, 0), np.float32), out, *norm, number, *dropout)
    values = np.append(numbers, np.float32(np.nan)).reshape(1, 1, -1)
    kernels.activate(values, np.zeros((1, 1), np.float32), number)
    *finite, last = values.ravel()
    assert np.isnan(last)
    allowed = 1e-6 * np.maximum(1, np.abs(numbers)) / 2
    for result in (out.ravel(), np.array(finite)):
        assert (np.abs(result - expected.detach().numpy()) <= allowed).all()
    assert (np.abs(block.ravel() - x.grad.numpy()) <= 5e-7).all()


def test_what_is_loaded_ahead_is_what_a_step_calls() -> None:
    kernels.prepare()
    loaded = {name: set(getattr(kernels, name).signatures) for name in LOOPS}
    network = build(mlp(3, [4], batch_norm="before"), 3)
    network.hidden1.dropout.p.fill_(0.5)
    stack = Stack([network, network])
    fused = fuse(stack)
    assert fused is not None
    noise = DropoutNoise([0, 1], {"hidden1.dropout": 4}).draw(5)
    fused.backward(fused.forward(torch.ones(1, 5, 3), [0, 0], noise, slice(0, 2)))
    fused.backward(fused.forward(torch.ones(1, 5, 3), [0, 0], {}, slice(0, 2)))
    fused.evaluate(torch.ones(5, 3), None, 2)
    for name in LOOPS:
        assert set(getattr(kernels, name).signatures) == loaded[name]
