r"""3×3 tensors of nodes by irreducible parts: what TensorNet is made of.

A tensor field is ``[9, n_atoms, n_units]``. Component 0 is the isotropic part, 1 to 3 the
antisymmetric, 4 to 8 the symmetric traceless one, in a basis of matrices that is orthonormal in
:math:`\langle X, Y\rangle = \sum_{ab} X_{ab} Y_{ab}`. So squared norms are sums of squares, mixing
of channels acts on each part alone, and transposing changes the sign of components 1 to 3.

Products and sums over neighbours are functions of their own, because autograd would keep an edge
tensor for all channels and components. Their derivatives are again such functions, so that they
can be differentiated any number of times, as training on forces needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ase_pet.potentials.constants import Constant

#: Irreducible part (isotropic, antisymmetric, symmetric traceless) of each component.
PARTS = (0, 1, 1, 1, 2, 2, 2, 2, 2)
#: How many components each part has, and which.
SIZES = [1, 3, 5]
SLICES = (slice(0, 1), slice(1, 4), slice(4, 9))


class Basis(Constant):
    """The orthonormal basis: columns are matrices, flattened row by row, [9, 9]."""

    def __init__(self) -> None:
        half, third, sixth = 0.5**0.5, 3**-0.5, 6**-0.5
        matrices = [
            [third, 0, 0, 0, third, 0, 0, 0, third],
            [0, 0, 0, 0, 0, -half, 0, half, 0],
            [0, 0, half, 0, 0, 0, -half, 0, 0],
            [0, -half, 0, half, 0, 0, 0, 0, 0],
            [0, half, 0, half, 0, 0, 0, 0, 0],
            [0, 0, half, 0, 0, 0, half, 0, 0],
            [0, 0, 0, 0, 0, half, 0, half, 0],
            [half, 0, 0, 0, -half, 0, 0, 0, 0],
            [-sixth, 0, 0, 0, -sixth, 0, 0, 0, 2 * sixth],
        ]
        super().__init__([list(column) for column in zip(*matrices, strict=True)])

    def matrices(self, x: Tensor) -> Tensor:
        """[9, n_atoms, n_units] -> [3, 3, n_atoms, n_units]."""
        flat: Tensor = self(x.dtype) @ x.flatten(1)
        return flat.view(3, 3, *x.shape[1:])

    def components(self, matrices: Tensor) -> Tensor:
        """[3, 3, n_atoms, n_units] -> [9, n_atoms, n_units]."""
        flat: Tensor = self(matrices.dtype).T @ matrices.flatten(2).flatten(0, 1)
        return flat.view(9, *matrices.shape[2:])

    def of_directions(self, u: Tensor) -> Tensor:
        r"""Components [n_pairs, 9] of 1, :math:`[u]_\times` and the traceless :math:`u u^T`.

        Args:
            u: Unit vectors [n_pairs, 3].
        """
        outer = (u[:, :, None] * u[:, None, :]).flatten(1)
        isotropic = torch.full_like(u[:, :1], math.sqrt(3.0))
        return torch.cat([isotropic, math.sqrt(2.0) * u, outer @ self(u.dtype)[:, SLICES[2]]], 1)


class Mix(nn.Module):
    """Mixes the channels of each irreducible part, without bias.

    Args:
        n_units: Channels.
    """

    def __init__(self, n_units: int) -> None:
        super().__init__()
        bound = n_units**-0.5
        self.weight = nn.Parameter(torch.empty(3, n_units, n_units))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """[9, n_atoms, n_units] -> the same."""
        sizes = zip(self.weight, SIZES, strict=True)
        return torch.bmm(x, torch.cat([w.expand(n, -1, -1) for w, n in sizes]).mT)


def squared_norms(x: Tensor) -> Tensor:
    """|I|², |A|², |S|² side by side: [9, n_atoms, n_units] -> [n_atoms, 3 n_units]."""
    return torch.cat([part.sum(0) for part in torch.split(x.square(), SIZES)], 1)


def scale_parts(x: Tensor, factors: Tensor) -> Tensor:
    """Multiply the parts of [9, n, n_units] by factors [n, 3 n_units], one a part and channel."""
    parts, by_part = torch.split(x, SIZES), factors.chunk(3, 1)
    return torch.cat([part * f for part, f in zip(parts, by_part, strict=True)])


def shorten(x: Tensor) -> Tensor:
    """x/(|x|² + 1), the norm that of all components: [9, n_atoms, n_units] -> the same."""
    if torch.compiler.is_compiling():
        return x / (x.square().sum(0) + 1.0)
    shortened: Tensor = _Shorten.apply(x)  # type: ignore[no-untyped-call]
    return shortened


def multiply(a: Tensor, b: Tensor, *, both_ways: bool = False) -> Tensor:
    """Matrix products AB, or AB + BA, of [3, 3, n_atoms, n_units], channel by channel."""
    if torch.compiler.is_compiling():
        pairs = ((a, b), (b, a)) if both_ways else ((a, b),)
        return sum(x[:, k, None] * y[None, k] for x, y in pairs for k in range(3))  # type: ignore[return-value]
    product: Tensor = _Multiply.apply(a, b, both_ways)  # type: ignore[no-untyped-call]
    return product


def gather_scale_add(
    factors: Tensor, x: Tensor, source: Tensor, target: Tensor, *, both_ways: bool = False
) -> Tensor:
    r"""Sums over pairs, :math:`m_{ciu} = \sum_{p:\,target(p)=i} f_{pk(c)u}\, x_{c\,source(p)u}`.

    Memory beyond the result is that of some hundred pairs, on a GPU of some ten thousand.

    Args:
        factors: [n_pairs, 3, n_units], one for each irreducible part.
        x: [9, n_atoms, n_units].
        source: [n_pairs], int64.
        target: [n_pairs], int64.
        both_ways: Add the sum with source and target exchanged.

    Returns:
        [9, n_atoms, n_units].
    """
    if torch.compiler.is_compiling():
        return _gather_scale_add(factors, x, source, target, both_ways)
    summed: Tensor = _GatherScaleAdd.apply(factors, x, source, target, both_ways)  # type: ignore[no-untyped-call]
    return summed


def _gather_scale_add(
    factors: Tensor, x: Tensor, source: Tensor, target: Tensor, both_ways: bool
) -> Tensor:
    """The same in operations that a compiler knows, which sees itself what need not be kept."""
    scale = torch.cat([factors[:, k, None].expand(-1, n, -1) for k, n in enumerate(SIZES)], 1)
    scale = scale.transpose(0, 1)
    summed = torch.zeros_like(x).index_add(1, target, scale * x[:, source])
    return summed.index_add(1, source, scale * x[:, target]) if both_ways else summed


class _Shorten(torch.autograd.Function):
    """With y = x/d and d = |x|² + 1: dx = (dy - 2x (y·dy))/d."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        d = x.square().sum(0) + 1.0
        return x / d

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (g,) = gradients
        (x,) = ctx.saved_tensors
        d: Tensor = x.square().sum(0) + 1.0
        return torch.addcmul(g, x, (x * g).sum(0) / d, value=-2.0) / d


class _Multiply(torch.autograd.Function):
    """With C = AB: dA = dC Bᵀ and dB = Aᵀ dC; likewise both ways."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, both_ways: bool) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.both_ways = both_ways
        product = a[:, 0, None] * b[None, 0]
        for k in (1, 2):
            product.addcmul_(a[:, k, None], b[None, k])
        for k in range(3) if both_ways else ():
            product.addcmul_(b[:, k, None], a[None, k])
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (g,) = gradients
        (a, b), both_ways = ctx.saved_tensors, ctx.both_ways
        by_a = by_b = None
        if ctx.needs_input_grad[0]:
            by_a = multiply(g, b.transpose(0, 1), both_ways=both_ways)
        if ctx.needs_input_grad[1]:
            by_b = multiply(a.transpose(0, 1), g, both_ways=both_ways)
        return by_a, by_b, None


class _GatherScaleAdd(torch.autograd.Function):
    """Linear in the factors and in x; the transpose in x swaps source and target."""

    @staticmethod
    def forward(
        ctx: Any, factors: Tensor, x: Tensor, source: Tensor, target: Tensor, both_ways: bool
    ) -> Tensor:
        ctx.save_for_backward(factors, x, source, target)
        ctx.both_ways = both_ways
        part = torch.tensor(PARTS, device=x.device)
        x = x.transpose(0, 1).contiguous()
        summed = torch.zeros_like(x)
        for chunk, (scale, scaled) in _chunks(len(source), x, 2):
            i, j = source[chunk], target[chunk]
            torch.index_select(factors[chunk], 1, part, out=scale)
            torch.index_select(x, 0, i, out=scaled)
            summed.index_add_(0, j, scaled.mul_(scale))
            if both_ways:
                torch.index_select(x, 0, j, out=scaled)
                summed.index_add_(0, i, scaled.mul_(scale))
        return summed.transpose(0, 1).contiguous()

    @staticmethod
    def backward(
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (g,) = gradients
        factors, x, source, target = ctx.saved_tensors
        by_factors = by_x = None
        if ctx.needs_input_grad[0]:
            by_factors = _GatherDot.apply(x, g, source, target, ctx.both_ways)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            by_x = gather_scale_add(factors, g, target, source, both_ways=ctx.both_ways)
        return by_factors, by_x, None, None, None


class _GatherDot(torch.autograd.Function):
    """For each pair and part, the sum over its components of x[source] y[target]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, source: Tensor, target: Tensor, both_ways: bool
    ) -> Tensor:
        ctx.save_for_backward(x, y, source, target)
        ctx.both_ways = both_ways
        x, y = (tensor.transpose(0, 1).contiguous() for tensor in (x, y))
        dots = x.new_empty(len(source), 3, x.shape[2])
        for chunk, (a, b, products) in _chunks(len(source), x, 3):
            i, j = source[chunk], target[chunk]
            torch.index_select(x, 0, i, out=a)
            torch.index_select(y, 0, j, out=b)
            torch.mul(a, b, out=products)
            if both_ways:
                torch.index_select(x, 0, j, out=a)
                torch.index_select(y, 0, i, out=b)
                products.addcmul_(a, b)
            for k, part in enumerate(SLICES):
                torch.sum(products[:, part], 1, out=dots[chunk, k])
        return dots

    @staticmethod
    def backward(
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (g,) = gradients
        x, y, source, target = ctx.saved_tensors
        by_x = by_y = None
        if ctx.needs_input_grad[0]:
            by_x = gather_scale_add(g, y, target, source, both_ways=ctx.both_ways)
        if ctx.needs_input_grad[1]:
            by_y = gather_scale_add(g, x, source, target, both_ways=ctx.both_ways)
        return by_x, by_y, None, None, None


def _chunks(n_pairs: int, x: Tensor, n_buffers: int) -> Iterator[tuple[slice, Tensor]]:
    """Slices of pairs that stay in a cache with [n_buffers, n, 9, n_units] to work in."""
    numbers = 1 << (18 if x.device.type == "cpu" else 24)
    size = max(1, min(n_pairs, numbers // (9 * x.shape[2])))
    buffers = x.new_empty(n_buffers, size, 9, x.shape[2])
    for start in range(0, n_pairs, size):
        yield slice(start, start + size), buffers[:, : n_pairs - start]
