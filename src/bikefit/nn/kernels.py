"""Compiled loops for what stands between two products: one pass over memory each way.

Arrays are unit-major, ``(M, E, B)``: the B values of a unit lie side by side. Whatever is done to
a unit (bias, batch norm, activation, dropout) is done while its values are in the fastest cache,
and sums over rows run over neighbours. All kernels expect C-contiguous arrays of one floating type.

numba compiles at the first call and keeps the result: beside this file, or in the user's cache
folder where that place is read-only; the variable ``NUMBA_CACHE_DIR`` names another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

NONE, BEFORE, AFTER = 0, 1, 2  # where batch norm stands to the activation
IDENTITY, RELU, GELU, SILU, TANH, SIGMOID = range(6)  # activations

# Sums may be taken in another order, so that they fill vector registers. NaN and infinity keep
# their meaning: they tell a member that has diverged.
FAST = {"reassoc", "contract", "nsz"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let numba compile a function, and keep what it made where there is a place for it."""
    try:
        return numba.njit(fastmath=FAST, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's can be written to
        return numba.njit(fastmath=FAST, error_model="numpy")(function)


# Activations, each a loop of its own: with the choice inside, none would fill vector registers.
# An array of rows keeps what they need on the way back: their slope takes the place of the input.

# 2ᶠ for |f| ≤ 1/2, and the upper tail of the normal distribution over t exp(-x²/2), where
# t = 1 / (1 + SPREAD |x|) (the form of Abramowitz and Stegun 7.1.26). Polynomials, highest power
# first, interpolated at Chebyshev nodes; relative error 6e-11, absolute error of the tail 4e-9.
POWER = (
    1.5310081407e-05,
    1.5469732002e-04,
    1.3333450559e-03,
    9.6180256029e-03,
    5.5504109412e-02,
    2.4022651214e-01,
    6.9314718055e-01,
    9.9999999996e-01,
)
TAIL = (
    -0.01903178488274,
    0.09473023337876,
    -0.16587643548394,
    0.09855889275473,
    -0.02028341200725,
    0.06608953284132,
    0.08658281641371,
    0.11188872497907,
    0.12366931254086,
    0.12367211967047,
)
SPREAD = 0.31
LOG2_E = 1.4426950408889634
DENSITY_AT_ZERO = 0.3989422804014327  # of the normal distribution: 1 / √(2π)


@intrinsic
def _power_of_two(context: Any, n: Any) -> Any:
    """Return 2ⁿ of a whole number n ≥ -127 by writing n into the exponent of a float."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, bias, fraction = (64, 1023, 52) if n == types.float64 else (32, 127, 23)
        whole = ir.IntType(bits)
        exponent = builder.add(builder.fptosi(arguments[0], whole), whole(bias))
        return builder.bitcast(builder.shl(exponent, whole(fraction)), arguments[0].type)

    return n(n), generate


@compiled
def _polynomial(x, coefficients):  # type: ignore[no-untyped-def]
    total = type(x)(coefficients[0])
    for i in range(1, len(coefficients)):
        total = total * x + type(x)(coefficients[i])
    return total


@compiled
def _exp(x):  # type: ignore[no-untyped-def]
    """Return exp(x) of x ≤ 0, 0 below 2⁻¹²⁶; the compiler's own would not fill registers."""
    number = type(x)
    power = x * number(LOG2_E)
    power = number(-127) if power < number(-127) else power
    n = np.floor(power + number(0.5))
    return _polynomial(power - n, POWER) * _power_of_two(n)  # type: ignore[call-arg]


@compiled
def _gelu(x):  # type: ignore[no-untyped-def]
    """Return x Φ(x) and Φ(x) + x φ(x)."""
    number = type(x)
    bell = _exp(number(-0.5) * x * x)
    t = number(1) / (number(1) + number(SPREAD) * abs(x))
    tail = bell * t * _polynomial(t, TAIL)
    share = tail if x < number(0) else number(1) - tail
    return x * share, share + x * bell * number(DENSITY_AT_ZERO)


@compiled
def _sigmoid(x):  # type: ignore[no-untyped-def]
    """Return σ(x) and σ(x) (1 - σ(x))."""
    number = type(x)
    e = _exp(-abs(x))
    inverse = number(1) / (number(1) + e)
    return (e if x < number(0) else number(1)) * inverse, e * inverse * inverse


@compiled
def _silu(x):  # type: ignore[no-untyped-def]
    """Return x σ(x) and its slope."""
    share, slope = _sigmoid(x)
    return x * share, share + x * slope


@compiled
def _tanh(x):  # type: ignore[no-untyped-def]
    """Return tanh(x) = 2 σ(2x) - 1 and its slope."""
    number = type(x)
    share, slope = _sigmoid(number(2) * x)
    return number(2) * share - number(1), number(4) * slope


@compiled
def _activate(row, bias, activation):  # type: ignore[no-untyped-def]
    """Add a bias and apply an activation, in place."""
    zero = type(bias)(0)
    if activation == IDENTITY:
        for i in range(row.size):
            row[i] += bias
    elif activation == RELU:
        for i in range(row.size):
            value = row[i] + bias
            row[i] = zero if value < zero else value
    elif activation == GELU:
        for i in range(row.size):
            row[i] = _gelu(row[i] + bias)[0]
    elif activation == SILU:
        for i in range(row.size):
            row[i] = _silu(row[i] + bias)[0]
    elif activation == TANH:
        for i in range(row.size):
            row[i] = _tanh(row[i] + bias)[0]
    else:
        for i in range(row.size):
            row[i] = _sigmoid(row[i] + bias)[0]


@compiled
def _activate_with_slope(row, bias, out, activation):  # type: ignore[no-untyped-def]
    """Add a bias and apply an activation; the slope takes the place of what came in."""
    if activation == GELU:
        for i in range(row.size):
            out[i], row[i] = _gelu(row[i] + bias)
    elif activation == SILU:
        for i in range(row.size):
            out[i], row[i] = _silu(row[i] + bias)
    elif activation == TANH:
        for i in range(row.size):
            out[i], row[i] = _tanh(row[i] + bias)
    else:
        for i in range(row.size):
            out[i], row[i] = _sigmoid(row[i] + bias)


@compiled
def _sum(row, zero):  # type: ignore[no-untyped-def]
    total = zero
    for i in range(row.size):
        total += row[i]
    return total


@compiled
def _normalize(row, out, weight, bias, eps, zero):  # type: ignore[no-untyped-def]
    """Normalize the values of a unit; return their mean and variance."""
    mean = _sum(row, zero) / row.dtype.type(row.size)
    total = zero
    for i in range(row.size):
        centred = row[i] - mean
        total += centred * centred
    variance = total / row.dtype.type(row.size)
    scale = weight / np.sqrt(variance + eps)
    for i in range(row.size):
        out[i] = bias + (row[i] - mean) * scale
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
def _multiply(row, by):  # type: ignore[no-untyped-def]
    for i in range(row.size):
        row[i] *= by[i]


@compiled
def forward(  # type: ignore[no-untyped-def]
    z,
    middle,
    out,
    bias,
    norm,
    weight,
    shift,
    eps,
    mean,
    variance,
    activation,
    noise,
    position,
    threshold,
    scale,
    early,
):
    """Turn products into a block's outputs: bias, batch norm, activation, dropout.

    Every activation but ReLU and the identity leaves its slope where its inputs were, and
    dropout beside it has part in the slope. ReLU tells its slope by its output.

    Args:
        z: products ``(M, E, B)``. What comes first, batch norm or the activation, is given them
            with the bias added: batch norm leaves them, an activation its slope.
        middle: what lies between batch norm and an activation with a slope of its own, ``(M, E,
            B)``; of size 0 where there is none.
        out: outputs ``(M, E, B)``; z itself for ReLU or the identity without batch norm.
        bias: ``(M, E)``, or of size 0 for none.
        norm: where batch norm stands.
        weight: γ of batch norm, ``(M, E)``.
        shift: β of batch norm, ``(M, E)``.
        eps: ε of batch norm.
        mean: of the batch, ``(M, E)``, written where there is batch norm.
        variance: likewise.
        activation: one of those above.
        noise: 16-bit integers ``(S, E, B)``, or of size 0 for no dropout.
        position: which noise each member uses, ``(M,)``.
        threshold: below which noise a member drops, ``(M,)``.
        scale: what a member multiplies the rest by, ``(M,)``.
        early: whether dropout stands before the activation; batch norm is then not BEFORE.
    """
    zero = z.dtype.type(0)
    sloping = activation > RELU
    dropping = noise.size > 0
    for m in range(z.shape[0]):
        for e in range(z.shape[1]):
            row, last = z[m, e], out[m, e]
            b = bias[m, e] if bias.size else zero
            slope = row
            if norm == BEFORE:
                if bias.size:
                    _activate(row, b, IDENTITY)
                slope = middle[m, e] if sloping else last
                mean[m, e], variance[m, e] = _normalize(
                    row, slope, weight[m, e], shift[m, e], eps, zero
                )
                b = zero
            if dropping and early:
                if bias.size:
                    _activate(row, b, IDENTITY)
                    b = zero
                _drop(row, noise[position[m], e], threshold[m], scale[m], zero)
            active = middle[m, e] if sloping and norm == AFTER else last
            if sloping:
                _activate_with_slope(slope, b, active, activation)
                if dropping and (early or norm != AFTER):
                    _drop(slope, noise[position[m], e], threshold[m], scale[m], zero)
            elif activation == RELU or (norm != BEFORE and bias.size):
                _activate(slope, b, activation)
            if norm == AFTER:
                mean[m, e], variance[m, e] = _normalize(
                    active if sloping else row, last, weight[m, e], shift[m, e], eps, zero
                )
            if dropping and not early:
                _drop(last, noise[position[m], e], threshold[m], scale[m], zero)


@compiled
def backward(  # type: ignore[no-untyped-def]
    gradient,
    z,
    middle,
    out,
    norm,
    weight,
    eps,
    mean,
    variance,
    activation,
    noise,
    position,
    threshold,
    scale,
    early,
    of_bias,
    of_weight,
    of_shift,
):
    """Turn the gradient of a block's outputs into that of its products, in place.

    The gradient is ``(M, E, B)``; ``of_bias``, ``of_weight`` and ``of_shift`` are those of bias, γ
    and β, ``(M, E)``, written where the block has them, else of size 0. The other arguments are
    those of :func:`forward`, as it left them.
    """
    zero = z.dtype.type(0)
    one = z.dtype.type(1)
    sloping = activation > RELU
    dropping = noise.size > 0
    for m in range(z.shape[0]):
        for e in range(z.shape[1]):
            g, row = gradient[m, e], z[m, e]
            if sloping and norm != AFTER:
                _multiply(g, middle[m, e] if norm == BEFORE else row)
            elif activation == RELU and norm != AFTER:
                # an output above zero was neither dropped nor cut off
                _mask(g, out[m, e], scale[m] if dropping else one, zero)
            elif dropping and not early:
                _drop(g, noise[position[m], e], threshold[m], scale[m], zero)
            if norm != NONE:
                inverse = one / np.sqrt(variance[m, e] + eps)
                normed = middle[m, e] if sloping and norm == AFTER else row
                of_shift[m, e], of_weight[m, e] = _through_norm(
                    g, normed, mean[m, e], inverse, weight[m, e], zero
                )
                if sloping and norm == AFTER:
                    _multiply(g, row)
                elif activation == RELU and norm == AFTER:
                    _mask(g, row, scale[m] if dropping and early else one, zero)
            if of_bias.size:
                of_bias[m, e] = _sum(g, zero)


@compiled
def activate(z, bias, activation):  # type: ignore[no-untyped-def]
    """Add a bias ``(M, E)`` to ``(M, E, B)`` and apply an activation, in place."""
    for m in range(z.shape[0]):
        for e in range(z.shape[1]):
            _activate(z[m, e], bias[m, e], activation)


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
    forward(
        block,
        block,
        block.copy(),
        matrix,
        BEFORE,
        matrix,
        matrix,
        eps,
        matrix,
        matrix,
        RELU,
        *noise,
        False,
    )
    backward(
        block,
        block,
        block,
        block,
        BEFORE,
        matrix,
        eps,
        matrix,
        matrix,
        RELU,
        *noise,
        False,
        matrix,
        matrix,
        matrix,
    )
    activate(block, matrix, RELU)
    one_unit(block, matrix, unit, line)
    one_unit_backward(block, matrix, line, block, matrix, unit)
