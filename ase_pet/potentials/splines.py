r"""Cubic splines of functions of a distance: for evaluation, in place of a perceptron of each edge.

Between knots a distance h apart, with :math:`x = r/h - k`,

.. math:: f(r) = c_{k0} + c_{k1} x + c_{k2} x^2 + c_{k3} x^3

has the values and slopes of the function at both knots. It differs from the function by some h⁴,
its slope, which is continuous, by some h³; forces are exact derivatives of the energy with splines.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.functional import jvp

Function = Callable[[Tensor], Tensor]
#: Å, where slopes at zero are taken: autograd has none for sin(x)/x there.
_NEAREST = 1e-9


class Splines(nn.Module):
    """Splines of several functions of a distance, differentiable once.

    Args:
        function: From distances [n], Å, float64, to values [n, n_functions].
        cutoff: Å, where the last knot is; there is none beyond.
        n_pieces: How many pieces, from distance zero on.

    Raises:
        ValueError: If ``n_pieces`` is less than 1.
    """

    coefficients: Tensor

    def __init__(self, function: Function, cutoff: float, n_pieces: int) -> None:
        super().__init__()
        if n_pieces < 1:
            raise ValueError(f"n_pieces: expected at least 1, got {n_pieces}")
        self.spacing = cutoff / n_pieces
        knots = torch.linspace(0.0, cutoff, n_pieces + 1, dtype=torch.float64)
        ends = torch.stack([knots[:-1], knots[1:]], 1)
        # In blocks, so that what autograd keeps for the slopes stays small.
        rows = torch.cat([self._rows(function, block) for block in torch.split(ends, 128)])
        self.register_buffer("coefficients", rows, persistent=False)

    def _rows(self, function: Function, ends: Tensor) -> Tensor:
        """Coefficients [4 n, n_functions] of pieces, from the distances [n, 2] of their ends, Å."""
        ends = ends.flatten()
        beside = torch.where(ends > 0.0, ends, _NEAREST)
        _, slopes = jvp(function, beside, torch.ones_like(ends))  # type: ignore[no-untyped-call]
        with torch.no_grad():
            values = function(ends)
        start, end = values[::2], values[1::2]
        leave, arrive = self.spacing * slopes[::2], self.spacing * slopes[1::2]
        curve = 3.0 * (end - start) - 2.0 * leave - arrive
        twist = 2.0 * (start - end) + leave + arrive
        return torch.stack([start, leave, curve, twist], 1).flatten(0, 1)

    def forward(self, r: Tensor) -> Tensor:
        """Values [n, n_functions] of distances [n], Å."""
        t = r / self.spacing
        piece = t.detach().long().clamp(0, len(self.coefficients) // 4 - 1)
        x = t - piece
        powers = torch.stack([torch.ones_like(x), x, x * x, x * x * x], 1)
        rows = 4 * piece[:, None] + torch.arange(4, device=r.device)
        return nn.functional.embedding_bag(
            rows, self.coefficients, mode="sum", per_sample_weights=powers
        )
