"""Training and evaluation steps of a stack in few passes over memory, on the CPU.

A stack of the layers that networks are usually made of (linear, batch norm, an activation,
dropout) takes its steps here: products by torch, all that stands between two products in one
compiled pass each way (:mod:`bikefit.nn.kernels`), some members at a time, so that what one pass
leaves is still in the cache when the next one comes. The plain layers of
:mod:`bikefit.nn.stacking` say what is computed; the results are the same to rounding.

Activations are unit-major, ``(M, E, B)``: weights ``(M, E, D)`` multiply from the left as they
are, and all that batch norm sums lies side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from bikefit.nn.layers import BatchNorm, Dropout
from bikefit.nn.randomness import LEVELS, Noise
from bikefit.nn.stacking import Stack, StackedLinear

NONE, BEFORE, AFTER = 0, 1, 2  # where batch norm stands to the activation; as in kernels

# Members that take a step together: as many as have a layer's activations fit into these bytes.
CACHE = 3 * 2**19
LEAST = 4

# The activations that compiled passes have, by their numbers in kernels.
IDENTITY, RELU = 0, 1
ACTIVATIONS: dict[type[nn.Module], int] = {
    nn.ReLU: RELU,
    nn.GELU: 2,
    nn.SiLU: 3,
    nn.Tanh: 4,
    nn.Sigmoid: 5,
}


# What units are multiplied by and what is added then, (m, E) each.
Scaled: TypeAlias = tuple[Tensor, Tensor]


@dataclass
class Block:
    """A linear layer with what follows it.

    Args:
        linear: M linear layers.
        norm: where batch norm stands to the activation.
        batch_norm: the layer, where there is one.
        activation: its number.
        dropout: name and layer, where there is one.
        early: whether dropout stands before the activation, as in the lecture's network.
    """

    linear: StackedLinear
    norm: int = NONE
    batch_norm: BatchNorm | None = None
    activation: int = IDENTITY
    dropout: tuple[str, Dropout] | None = None
    early: bool = False

    @property
    def bare(self) -> bool:
        """Whether nothing follows the linear layer."""
        return not (self.batch_norm or self.activation or self.dropout)


def fuse(stack: Stack) -> Fused | None:
    """Return the quick way through a stack, or None where only the plain one will do.

    That is on a GPU, and with layers other than those above or in another order.
    """
    if next(stack.parameters()).device.type != "cpu":
        return None
    named = [
        (f"{block}.{name}", layer)
        for block, parts in stack.layers.named_children()
        for name, layer in parts.named_children()
        if type(layer) is not nn.Identity
    ]
    first = None
    if named and isinstance(named[0][1], Dropout):
        first, named = (named[0][0], named[0][1]), named[1:]
    blocks = _blocks(named)
    if not blocks or not blocks[-1].bare or blocks[-1].linear.weight.shape[1] != 1:
        return None
    return Fused(stack, first, blocks)


def _blocks(named: Sequence[tuple[str, nn.Module]]) -> list[Block]:
    """Put layers together to blocks; no block where one of them fits into none."""
    blocks: list[Block] = []
    for name, layer in named:
        if isinstance(layer, StackedLinear):
            blocks.append(Block(layer))
        elif not blocks or not _take(blocks[-1], name, layer):
            return []
    return blocks


def _take(block: Block, name: str, layer: nn.Module) -> bool:
    """Let a layer follow in a block; say whether it may stand there."""
    active = block.activation != IDENTITY
    if isinstance(layer, Dropout):
        free = block.dropout is None
        block.dropout = (name, layer)
        return free
    if block.dropout and not block.early:
        if active or block.norm != NONE or type(layer) is BatchNorm:
            return False
        block.early = True
    if type(layer) is BatchNorm:
        free = block.batch_norm is None
        block.batch_norm, block.norm = layer, AFTER if active else BEFORE
        return free
    block.activation = ACTIVATIONS.get(type(layer), IDENTITY)
    exact = getattr(layer, "approximate", "none") == "none"
    known = block.activation != IDENTITY and exact
    return known and not active and block.norm != AFTER


class Fused:
    """A stack's steps in few passes; it works on the stack's own tensors.

    Args:
        stack: M members.
        first: name and layer of dropout before the first linear layer, where there is one.
        blocks: the linear layers with what follows each; the last gives one number a row.
    """

    def __init__(
        self, stack: Stack, first: tuple[str, Dropout] | None, blocks: Sequence[Block]
    ) -> None:
        from bikefit.nn import kernels  # numba is loaded by what trains, and by nothing else

        self.kernels = kernels
        self.stack, self.first, self.blocks = stack, first, list(blocks)
        self.dtype = blocks[0].linear.weight.dtype
        self.parameters = list(stack.parameters())  # to look for them takes time in each step
        self.gradients = {id(p): torch.empty_like(p, requires_grad=False) for p in self.parameters}
        self.space: dict[tuple[Any, ...], Tensor] = {}
        self.none = torch.empty(0, 0, 0, dtype=self.dtype)
        self.limits = {name: _limits(layer) for name, layer in stack.dropouts().items()}

    def parts(self, rows: int) -> Iterator[slice]:
        """Cut the members into portions whose activations of some rows stay in the cache."""
        widest = max(block.linear.weight.shape[1] for block in self.blocks)
        size = max(LEAST, CACHE // (self.dtype.itemsize * rows * widest))
        count = -(-self.stack.size // size)
        size = -(-self.stack.size // count)
        for start in range(0, self.stack.size, size):
            yield slice(start, min(start + size, self.stack.size))

    # one training step

    def forward(
        self, features: Tensor, streams: Sequence[int], noise: Mapping[str, Noise], part: slice
    ) -> Tensor:
        """Return the outputs of some members while training, ``(m, B)``.

        Args:
            features: rows of each of S streams, ``(S, B, D)``.
            streams: stream that each of the M members reads.
            noise: by the name of a dropout layer; layers that are not named drop nothing.
            part: the members.
        """
        self.part, self.noise, self.runs = part, noise, _runs(streams[part])
        if self._drops(self.first):
            self.x = self._dropped([features[stream] for stream in streams[part]]).mT
            self.runs = [(m, m, m + 1) for m in range(len(self.x))]
        else:
            self.x = features
        inputs = None
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []
        for index, block in enumerate(self.blocks[:-1]):
            z = self._product(index, block, inputs)
            inputs = self._through(index, block, z)
        return self._output(inputs)

    def backward(self, gradient: Tensor) -> None:
        """Turn the gradient of the last outputs ``(m, B)`` into that of their members' parameters.

        It is written to the parameters' ``grad``, whatever was there.
        """
        for parameter in self.parameters:
            parameter.grad = self.gradients[id(parameter)]
        last = len(self.blocks) - 1
        passed = self._output_backward(gradient)
        for index in range(last - 1, -1, -1):
            block = self.blocks[index]
            self._through_backward(index, block, passed)
            passed = self._product_backward(index, block, passed)

    # evaluation

    @torch.no_grad()
    def evaluate(
        self,
        features: Tensor,
        seen: tuple[Tensor, Tensor] | None,
        piece: int,
        noise: Mapping[str, Noise] | None = None,
    ) -> Tensor:
        """Return all members' outputs in evaluation mode, ``(M, C)``.

        Batch norm is part of the weights here, and so is what members subtract from their
        features and divide them by: all of them read the same rows.

        Args:
            features: ``(C, D)``.
            seen: what is subtracted and divided by, ``(M, D)`` each; None for nothing.
            piece: rows that go through the layers at once.
            noise: of the C rows, by the name of a dropout layer that drops units all the same.
        """
        self.noise = noise or {}
        output = features.new_empty(self.stack.size, len(features))
        for part in self.parts(piece):
            self.part = part
            blocks = self._folded(seen)
            for start in range(0, len(features), piece):
                rows = slice(start, start + piece)
                output[part, rows] = self._evaluate(blocks, features, seen, rows)
        return output

    def _evaluate(
        self,
        blocks: Sequence[Folded],
        features: Tensor,
        seen: tuple[Tensor, Tensor] | None,
        rows: slice,
    ) -> Tensor:
        """Return the part's outputs for some rows, ``(m, C)``."""
        x = features[rows]
        inputs = None
        if self._drops(self.first):
            own = range(self.part.start, self.part.stop)
            as_seen = [x if seen is None else (x - seen[0][m]) / seen[1][m] for m in own]
            inputs = self._dropped(as_seen, rows)
        for index, block in enumerate(blocks):
            members, units, columns = block.weight.shape
            z = self._memory("evaluation", index, (members, units, len(x)))
            if inputs is None:
                torch.mm(block.weight.view(-1, columns), x.mT, out=z.view(-1, len(x)))
            elif index == len(blocks) - 1:
                weight, bias = block.weight.squeeze(1).numpy(), block.bias.squeeze(1).numpy()
                self.kernels.one_unit(inputs.numpy(), weight, bias, z.squeeze(1).numpy())
                return z.squeeze(1)
            else:
                torch.bmm(block.weight, inputs, out=z)
            self._activate(block, z, rows)
            inputs = z
        assert inputs is not None
        return inputs.squeeze(1)

    def _activate(self, block: Folded, z: Tensor, rows: slice) -> None:
        """Turn products into a block's outputs, in place."""
        bias = block.bias
        if block.early and block.dropout:
            self.kernels.activate(z.numpy(), bias.numpy(), IDENTITY)
            self._pass((z, self.none, z), self._drawn(*block.dropout, rows))
            bias = torch.zeros_like(bias)
        self.kernels.activate(z.numpy(), bias.numpy(), block.activation)
        if block.scaled:
            scale, shift = block.scaled
            z.mul_(scale.unsqueeze(-1)).add_(shift.unsqueeze(-1))
        if block.dropout and not block.early:
            self._pass((z, self.none, z), self._drawn(*block.dropout, rows))

    def _folded(self, seen: tuple[Tensor, Tensor] | None) -> list[Folded]:
        """Write all that is linear in evaluation mode into the part's linear layers."""
        found: list[Folded] = []
        scaled: Scaled | None = None  # what comes before the next linear layer
        if seen is not None and not self._drops(self.first):
            scale = 1.0 / seen[1][self.part]
            scaled = scale, -seen[0][self.part] * scale
        if self.first:
            scaled = self._kept_share(self.first, scaled)
        for block in self.blocks:
            weight, bias = self._of(block.linear.weight), block.linear.bias
            bias = weight.new_zeros(weight.shape[:2]) if bias is None else self._of(bias)
            if scaled is not None:
                bias = bias + (weight * scaled[1].unsqueeze(1)).sum(-1)
                weight = weight * scaled[0].unsqueeze(1)
            scaled = None
            if block.dropout and block.early and (kept := self._kept_share(block.dropout, None)):
                weight, bias = weight * kept[0].unsqueeze(-1), bias * kept[0]
            if block.batch_norm is not None and block.norm == BEFORE:
                factor, added = _scaled(block.batch_norm, self.part)
                weight, bias = weight * factor.unsqueeze(-1), bias * factor + added
            elif block.batch_norm is not None:
                scaled = _scaled(block.batch_norm, self.part)
            own = Folded(weight, bias, block.activation, early=block.early)
            found.append(own)
            if self._drops(block.dropout):
                own.dropout = block.dropout
                if not block.early:
                    own.scaled, scaled = scaled, None
            elif block.dropout and not block.early:
                scaled = self._kept_share(block.dropout, scaled)
        return found

    def _drops(self, dropout: tuple[str, Dropout] | None) -> bool:
        return dropout is not None and dropout[0] in self.noise

    def _kept_share(self, dropout: tuple[str, Dropout], scaled: Scaled | None) -> Scaled | None:
        """Multiply by 1 - p, ``(m, 1)``, where dropout does that in evaluation mode."""
        layer = dropout[1]
        p = layer.p[self.part]
        if layer.scaling != "lecture" or not p.any() or self._drops(dropout):
            return scaled
        kept = (1.0 - p).unsqueeze(-1)
        scale, shift = scaled or (torch.ones_like(kept), torch.zeros_like(kept))
        return scale * kept, shift * kept

    def _of(self, parameter: Tensor | None) -> Tensor:
        """The part's values of a parameter; empty for none."""
        return (
            torch.empty(0, 0, dtype=self.dtype)
            if parameter is None
            else parameter.detach()[self.part]
        )

    def _gradient(self, parameter: Tensor | None) -> Tensor:
        if parameter is None:
            return torch.empty(0, 0, dtype=self.dtype)
        return self.gradients[id(parameter)][self.part]

    def _memory(self, purpose: str, index: int, shape: tuple[int, ...]) -> Tensor:
        """Return memory of a step, the same one each time: nothing is allocated anew."""
        key = (purpose, index, shape)
        if key not in self.space:
            self.space[key] = torch.empty(shape, dtype=self.dtype)
        return self.space[key]

    def _dropped(self, features: Sequence[Tensor], rows: slice = slice(None)) -> Tensor:
        """Drop features, ``(B, D)`` of each member of the part: ``(m, D, B)``."""
        assert self.first is not None
        x = self._memory("features", 0, (len(features), *features[0].mT.shape))
        for own, read in zip(x, features, strict=True):
            own.copy_(read.mT)
        self._pass((x, self.none, x), self._drawn(*self.first, rows))
        return x

    def _product(self, index: int, block: Block, inputs: Tensor | None) -> Tensor:
        """Multiply by the weights: ``(m, E, B)``; members that share rows in one product."""
        weight = self._of(block.linear.weight)
        members, units, columns = weight.shape
        z = self._memory("product", index, (members, units, self.x.shape[1]))
        if inputs is not None:
            return torch.bmm(weight, inputs, out=z)
        for stream, start, stop in self.runs:
            torch.mm(
                weight[start:stop].view(-1, columns),
                self.x[stream].mT,
                out=z[start:stop].view(-1, z.shape[-1]),
            )
        return z

    def _product_backward(self, index: int, block: Block, gradient: Tensor) -> Tensor:
        """Write the weights' gradient; return that of the inputs, ``(m, D, B)``."""
        of_weight = self._gradient(block.linear.weight)
        if index > 0:
            inputs = self.kept[index - 1][2]
            torch.bmm(gradient, inputs.mT, out=of_weight)
            passed = self._memory("gradient", index - 1, tuple(inputs.shape))
            return torch.bmm(self._of(block.linear.weight).mT, gradient, out=passed)
        for stream, start, stop in self.runs:  # nobody needs the gradient of the features
            torch.mm(
                gradient[start:stop].view(-1, gradient.shape[-1]),
                self.x[stream],
                out=of_weight[start:stop].view(-1, of_weight.shape[-1]),
            )
        return gradient

    def _through(self, index: int, block: Block, z: Tensor) -> Tensor:
        """Return a block's outputs ``(m, E, B)``, and keep what the way back needs."""
        shape = tuple(z.shape)
        sloping = block.activation > RELU
        between = sloping and block.norm != NONE
        middle = self._memory("middle", index, shape) if between else self.none
        out = self._memory("output", index, shape) if sloping or block.norm != NONE else z
        self.kept.append((z, middle, out))
        drawn = self._drawn(*block.dropout) if block.dropout else None
        self._pass(self.kept[-1], drawn, block, block.linear.bias)
        return out

    def _pass(
        self,
        kept: tuple[Tensor, Tensor, Tensor],
        drawn: tuple[np.ndarray, ...] | None,
        block: Block | None = None,
        bias: Tensor | None = None,
    ) -> None:
        """Turn products into outputs: all that follows them in a block, or dropout alone."""
        rows = kept[0].shape[-1]
        norm, activation, early = NONE, IDENTITY, False
        if block:
            norm, activation, early = block.norm, block.activation, block.early
        if norm != NONE and rows < 2:
            raise ValueError(
                "batch normalization needs at least 2 rows in a training batch, got "
                f"{rows}; choose a larger training.batch_size"
            )
        layer = block.batch_norm if block else None
        gamma, beta, eps, mean, variance = self._norm(layer)
        self.kernels.forward(
            *(array.numpy() for array in kept),
            self._of(bias).numpy(),
            norm,
            gamma.numpy(),
            beta.numpy(),
            eps,
            mean.numpy(),
            variance.numpy(),
            activation,
            *(drawn or self._undrawn()),
            early,
        )
        if layer is not None:
            layer.running_mean[self.part].lerp_(mean, layer.momentum)
            layer.running_var[self.part].lerp_(variance * (rows / (rows - 1)), layer.momentum)

    def _through_backward(self, index: int, block: Block, gradient: Tensor) -> None:
        """Turn the gradient of a block's outputs into that of its products, in place."""
        layer = block.batch_norm
        gamma, _, eps, mean, variance = self._norm(layer)
        drawn = self._drawn(*block.dropout) if block.dropout else None
        of_weight = self._gradient(None if layer is None else layer.weight)
        of_shift = self._gradient(None if layer is None else layer.bias)
        z, middle, out = (kept.numpy() for kept in self.kept[index])
        self.kernels.backward(
            gradient.numpy(),
            z,
            middle,
            out,
            block.norm,
            gamma.numpy(),
            eps,
            mean.numpy(),
            variance.numpy(),
            block.activation,
            *(drawn or self._undrawn()),
            block.early,
            self._gradient(block.linear.bias).numpy(),
            of_weight.numpy(),
            of_shift.numpy(),
        )

    def _norm(self, layer: BatchNorm | None) -> tuple[Tensor, Tensor, Any, Tensor, Tensor]:
        """Return γ, β, ε, and where mean and variance of the batch lie, ``(m, E)`` each."""
        number = torch.empty(0, dtype=self.dtype).numpy().dtype.type
        if layer is None:
            empty = torch.empty(0, 0, dtype=self.dtype)
            return empty, empty, number(0), empty, empty
        weight = self._of(layer.weight)
        mean = self._memory("mean", id(layer), tuple(weight.shape))
        variance = self._memory("variance", id(layer), tuple(weight.shape))
        return weight, self._of(layer.bias), number(layer.eps), mean, variance

    def _drawn(
        self, name: str, layer: Dropout, rows: slice = slice(None)
    ) -> tuple[np.ndarray, ...] | None:
        """Return noise, position, threshold and scale of a layer that drops, for the part."""
        noise = self.noise.get(name)
        if noise is None:
            return None
        threshold, scale = self.limits[name]
        bits = np.ascontiguousarray(noise.bits.numpy()[..., rows])
        return bits, noise.position[self.part].numpy(), threshold[self.part], scale[self.part]

    def _undrawn(self) -> tuple[np.ndarray, ...]:
        none = np.empty(0, np.int32)
        scale = torch.empty(0, dtype=self.dtype).numpy()
        return np.empty((0, 0, 0), np.int16), np.empty(0, np.int64), none, scale

    def _output(self, inputs: Tensor | None) -> Tensor:
        """Return the one output of each member and row, ``(m, B)``."""
        linear = self.blocks[-1].linear
        bias = self._of(linear.bias).view(-1)
        out = self._memory("output", -1, (self.part.stop - self.part.start, self.x.shape[1]))
        if inputs is None:
            out = self._product(0, self.blocks[-1], None).squeeze(1)
            return out.add_(bias.unsqueeze(1)) if len(bias) else out
        weight = self._of(linear.weight).squeeze(1)
        self.kernels.one_unit(inputs.numpy(), weight.numpy(), bias.numpy(), out.numpy())
        return out

    def _output_backward(self, gradient: Tensor) -> Tensor:
        """Write the output layer's gradients; return that of its inputs ``(m, D, B)``."""
        linear = self.blocks[-1].linear
        of_bias = self._gradient(linear.bias).view(-1)
        if len(self.blocks) == 1:
            if len(of_bias):
                torch.sum(gradient, dim=1, out=of_bias)
            return self._product_backward(0, self.blocks[0], gradient.unsqueeze(1))
        inputs = self.kept[-1][2]
        passed = self._memory("gradient", len(self.kept) - 1, tuple(inputs.shape))
        self.kernels.one_unit_backward(
            inputs.numpy(),
            self._of(linear.weight).squeeze(1).numpy(),
            gradient.numpy(),
            passed.numpy(),
            self._gradient(linear.weight).squeeze(1).numpy(),
            of_bias.numpy(),
        )
        return passed


@dataclass
class Folded:
    """A block in evaluation mode.

    Args:
        weight, bias: of the linear layer, ``(m, E, D)`` and ``(m, E)``.
        activation: its number.
        dropout: name and layer where units are dropped all the same.
        scaled: what comes between activation and dropout then.
        early: whether dropout stands before the activation.
    """

    weight: Tensor
    bias: Tensor
    activation: int
    dropout: tuple[str, Dropout] | None = None
    scaled: Scaled | None = None
    early: bool = False


def _scaled(layer: BatchNorm, part: slice) -> Scaled:
    """Return what batch norm multiplies by and what it adds in evaluation mode, ``(m, E)``."""
    scale = layer.weight[part] * torch.rsqrt(layer.running_var[part] + layer.eps)
    return scale, layer.bias[part] - layer.running_mean[part] * scale


def _limits(layer: Dropout) -> tuple[np.ndarray, np.ndarray]:
    """Return below which noise each member drops and what it multiplies the rest by, ``(M,)``."""
    threshold = (layer.p.double() * LEVELS).ceil().sub_(LEVELS // 2).int()
    scale = 1.0 / (1.0 - layer.p) if layer.scaling == "inverted" else torch.ones_like(layer.p)
    return threshold.numpy(), scale.numpy()


def _runs(streams: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return stream, first and last member (not included) of neighbours that read the same."""
    runs, start = [], 0
    for stream, members in groupby(streams):
        stop = start + len(list(members))
        runs.append((stream, start, stop))
        start = stop
    return runs
