"""Compiled loops for what stands between two products: one pass over memory each way.

Arrays are unit-major, ``(M, E, B)``: the B values of a unit lie side by side. Whatever is done to
a unit (bias, batch norm, ReLU, dropout) is done while its values are in the fastest cache, and
sums over rows run over neighbours. All kernels expect C-contiguous arrays of one floating type.

numba compiles at the first call and keeps the result: beside this file, or in the user's cache
folder where that place is read-only; the variable ``NUMBA_CACHE_DIR`` names another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

NONE, BEFORE, AFTER = 0, 1, 2  # where batch norm stands to the activation

# Sums may be taken in another order, so that they fill vector registers. NaN and infinity keep
# their meaning: they tell a member that has diverged.
FAST = {"reassoc", "contract", "nsz"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let numba compile a function, and keep what it made where there is a place for it."""
    try:
        return numba.njit(fastmath=FAST, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's can be written to
        return numba.njit(fastmath=FAST, error_model="numpy")(function)


@compiled
def _activate(row, bias, relu, zero):  # type: ignore[no-untyped-def]
    for i in range(row.size):
        value = row[i] + bias
        row[i] = zero if relu and value < zero else value


@compiled
def _normalize(row, out, weight, bias, eps, relu, zero):  # type: ignore[no-untyped-def]
    """Normalize the values of a unit; return their mean and variance."""
    total = zero
    for i in range(row.size):
        total += row[i]
    mean = total / row.dtype.type(row.size)
    total = zero
    for i in range(row.size):
        centred = row[i] - mean
        total += centred * centred
    variance = total / row.dtype.type(row.size)
    scale = weight / np.sqrt(variance + eps)
    for i in range(row.size):
        value = bias + (row[i] - mean) * scale
        out[i] = zero if relu and value < zero else value
    return mean, variance


@compiled
def _drop(row, noise, threshold, scale, zero):  # type: ignore[no-untyped-def]
    for i in range(row.size):
        row[i] = zero if noise[i] < threshold else row[i] * scale


@compiled
def _mask(row, output, scale, zero):  # type: ignore[no-untyped-def]
    for i in range(row.size):
        row[i] = zero if output[i] <= zero else row[i] * scale


@compiled
def _sum(row, zero):  # type: ignore[no-untyped-def]
    total = zero
    for i in range(row.size):
        total += row[i]
    return total


@compiled
def _through_norm(row, x, mean, inverse, weight, zero):  # type: ignore[no-untyped-def]
    """Turn a unit's gradient into that of what was normalized; return those of β and γ."""
    of_bias, of_weight = zero, zero
    for i in range(row.size):
        of_bias += row[i]
        of_weight += row[i] * (x[i] - mean)
    of_weight *= inverse
    rows = row.dtype.type(row.size)
    scale = weight * inverse
    shift, slope = -scale * of_bias / rows, -scale * inverse * of_weight / rows
    for i in range(row.size):
        row[i] = shift + row[i] * scale + (x[i] - mean) * slope
    return of_bias, of_weight


@compiled
def forward(  # type: ignore[no-untyped-def]
    z, out, bias, norm, weight, shift, eps, mean, variance, relu,
    noise, position, threshold, scale,
):  # fmt: skip
    """Turn products into a block's outputs: bias, batch norm, ReLU, dropout.

    Args:
        z: products ``(M, E, B)``; what batch norm is given is left there.
        out: outputs ``(M, E, B)``; z itself without batch norm.
        bias: ``(M, E)``, or of size 0 for none.
        norm: where batch norm stands.
        weight: γ of batch norm, ``(M, E)``.
        shift: β of batch norm, ``(M, E)``.
        eps: ε of batch norm.
        mean: of the batch, ``(M, E)``, written where there is batch norm.
        variance: likewise.
        relu: whether the activation is ReLU, else it is the identity.
        noise: 16-bit integers ``(S, E, B)``, or of size 0 for no dropout.
        position: which noise each member uses, ``(M,)``.
        threshold: below which noise a member drops, ``(M,)``.
        scale: what a member multiplies the rest by, ``(M,)``.
    """
    zero = z.dtype.type(0)
    for m in range(z.shape[0]):
        for e in range(z.shape[1]):
            b = bias[m, e] if bias.size else zero
            if norm == BEFORE:
                if bias.size:
                    _activate(z[m, e], b, False, zero)
                mean[m, e], variance[m, e] = _normalize(
                    z[m, e], out[m, e], weight[m, e], shift[m, e], eps, relu, zero
                )
            else:
                if relu or bias.size:
                    _activate(z[m, e], b, relu, zero)
                if norm == AFTER:
                    mean[m, e], variance[m, e] = _normalize(
                        z[m, e], out[m, e], weight[m, e], shift[m, e], eps, False, zero
                    )
            if noise.size:
                _drop(out[m, e], noise[position[m], e], threshold[m], scale[m], zero)


@compiled
def backward(  # type: ignore[no-untyped-def]
    gradient, z, out, norm, weight, eps, mean, variance, relu,
    noise, position, threshold, scale, of_bias, of_weight, of_shift,
):  # fmt: skip
    """Turn the gradient of a block's outputs into that of its products, in place.

    The gradient is ``(M, E, B)``; ``of_bias``, ``of_weight`` and ``of_shift`` are those of bias, γ
    and β, ``(M, E)``, written where the block has them, else of size 0. The other arguments are
    those of :func:`forward`, as it left them.
    """
    zero = z.dtype.type(0)
    one = z.dtype.type(1)
    for m in range(z.shape[0]):
        for e in range(z.shape[1]):
            g = gradient[m, e]
            if relu and norm != AFTER:  # an output above zero was neither dropped nor cut off
                _mask(g, out[m, e], scale[m] if noise.size else one, zero)
            elif noise.size:
                _drop(g, noise[position[m], e], threshold[m], scale[m], zero)
            if norm != NONE:
                inverse = one / np.sqrt(variance[m, e] + eps)
                of_shift[m, e], of_weight[m, e] = _through_norm(
                    g, z[m, e], mean[m, e], inverse, weight[m, e], zero
                )
                if relu and norm == AFTER:
                    _mask(g, z[m, e], one, zero)
            if of_bias.size:
                of_bias[m, e] = _sum(g, zero)


@compiled
def activate(z, bias, relu):  # type: ignore[no-untyped-def]
    """Add a bias ``(M, E)`` to ``(M, E, B)`` and cut off below zero if asked to, in place."""
    zero = z.dtype.type(0)
    for m in range(z.shape[0]):
        for e in range(z.shape[1]):
            _activate(z[m, e], bias[m, e], relu, zero)


@compiled
def _add(row, out, factor):  # type: ignore[no-untyped-def]
    for i in range(row.size):
        out[i] += row[i] * factor


@compiled
def one_unit(x, weight, bias, out):  # type: ignore[no-untyped-def]
    """Compute layers of one unit: ``(M, D, B)``, ``(M, D)``, ``(M,)`` or size 0 to ``(M, B)``."""
    for m in range(x.shape[0]):
        out[m, :] = bias[m] if bias.size else x.dtype.type(0)
        for d in range(x.shape[1]):
            _add(x[m, d], out[m], weight[m, d])


@compiled
def _through_unit(x, gradient, of_x, weight, zero):  # type: ignore[no-untyped-def]
    total = zero
    for i in range(x.size):
        total += x[i] * gradient[i]
        of_x[i] = gradient[i] * weight
    return total


@compiled
def one_unit_backward(x, weight, gradient, of_x, of_weight, of_bias):  # type: ignore[no-untyped-def]
    """Turn the gradient ``(M, B)`` of :func:`one_unit` into those of its arguments."""
    zero = x.dtype.type(0)
    for m in range(x.shape[0]):
        if of_bias.size:
            of_bias[m] = _sum(gradient[m], zero)
        for d in range(x.shape[1]):
            of_weight[m, d] = _through_unit(x[m, d], gradient[m], of_x[m, d], weight[m, d], zero)


def prepare() -> None:
    """Load the loops for single precision: processes forked from this one then have them."""
    block = np.ones((1, 1, 2), np.float32)
    line, matrix, unit = block[0], block[0, :, :1].copy(), np.ones(1, np.float32)
    noise = np.zeros((1, 1, 2), np.int16), np.zeros(1, np.int64), np.zeros(1, np.int32), unit
    eps = np.float32(1)
    forward(block, block.copy(), matrix, BEFORE, matrix, matrix, eps, matrix, matrix, True, *noise)
    backward(
        block, block, block, BEFORE, matrix, eps, matrix, matrix, True, *noise, matrix, matrix,
        matrix,
    )  # fmt: skip
    activate(block, matrix, True)
    one_unit(block, matrix, unit, line)
    one_unit_backward(block, matrix, line, block, matrix, unit)
