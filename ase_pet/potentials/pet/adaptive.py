r"""Cutoffs that adapt to the density around each atom.

The number of neighbours within r, smooth and made to pass N at the largest cutoff R, is

.. math:: n_i(r) = \sum_j c(d_{ij};\, r, w) + N (r/R)^3

with the switch c of :func:`~ase_pet.potentials.cutoffs.cotangent_switch`. The cutoff of atom i
solves :math:`n_i(r_i) = N` (``solver``), or is an average over radii at which n is close to N
(``grid``). That of a pair is the mean of its atoms'. All are differentiable functions of the
distances.

Source:
    The option ``num_neighbors_adaptive`` of metatrain's PET.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ase_pet.potentials.cutoffs import cotangent_slope, cotangent_switch

#: The smallest cutoff, as a fraction of the largest.
_SMALLEST = 1.0 / 16.0
#: Å, the first radius of the grid, and its spacing in widths of the switch.
FIRST, SPACING = 0.5, 0.25
_NEWTON_STEPS, _BISECTIONS = 30, 52
_Function = Callable[[Tensor, Tensor], Tensor]


def adaptive_cutoffs(
    distances: Tensor,
    centers: Tensor,
    n_atoms: int,
    *,
    cutoff: float,
    width: float,
    n_neighbors: float,
    method: str,
) -> Tensor:
    """Cutoff of each atom.

    Args:
        distances: [n_edges], Å.
        centers: [n_edges], int64.
        n_atoms: Number of atoms.
        cutoff: Å, the largest.
        width: Å, in which a neighbour ceases to be counted.
        n_neighbors: N.
        method: ``"solver"`` or ``"grid"``.

    Returns:
        [n_atoms], Å, differentiable with respect to the distances.
    """
    find = _solve if method == "solver" else _average
    return find(distances, centers, n_atoms, cutoff, width, n_neighbors)


def _solve(
    distances: Tensor, centers: Tensor, n_atoms: int, cutoff: float, width: float, wanted: float
) -> Tensor:
    def count(d: Tensor, r: Tensor) -> Tensor:
        sums = torch.zeros_like(r).index_add(0, centers, cotangent_switch(d, r[centers], width))
        return sums + wanted * (r / cutoff) ** 3 - wanted

    def slope(d: Tensor, r: Tensor) -> Tensor:
        sums = torch.zeros_like(r).index_add(0, centers, cotangent_slope(d, r[centers], width))
        return sums + 3.0 * wanted * r * r / cutoff**3

    with torch.no_grad():
        root = _root(count, slope, distances, n_atoms, cutoff)
        steepness = slope(distances, root).clamp_min(1e-6)
    # A Newton step from the root: it stays there, and its derivative is that of the root.
    moved = root - count(distances, root) / steepness
    return moved.clamp(_SMALLEST * cutoff, cutoff)


def _root(count: _Function, slope: _Function, d: Tensor, n_atoms: int, cutoff: float) -> Tensor:
    """Where ``count``, which increases from below 0 to 0 or above, is 0: Newton between bounds."""
    low, high = d.new_zeros(n_atoms), d.new_full((n_atoms,), cutoff)
    r = high
    for k in range(_NEWTON_STEPS + _BISECTIONS):
        excess = count(d, r)
        low, high = torch.where(excess < 0.0, r, low), torch.where(excess < 0.0, high, r)
        step = r - excess / slope(d, r)
        inside = (step > low) & (step < high) & (k < _NEWTON_STEPS)
        new = torch.where(inside, step, 0.5 * (low + high))
        new = torch.where(excess == 0.0, r, new)
        if bool(((new - r).abs() <= 4.0 * torch.finfo(r.dtype).eps * cutoff).all()):
            return new
        r = new
    return r


def _average(
    distances: Tensor, centers: Tensor, n_atoms: int, cutoff: float, width: float, wanted: float
) -> Tensor:
    probes = torch.arange(FIRST, cutoff, SPACING * width, dtype=torch.float64).to(distances)
    counted = cotangent_switch(distances[:, None], probes, width)
    counts = distances.new_zeros(n_atoms, len(probes)).index_add(0, centers, counted)
    excess = (
        counts
        - wanted
        + wanted * torch.linspace(0.0, 1.0, len(probes), dtype=torch.float64).to(distances) ** 3
    )
    spread = torch.gradient(excess, dim=1)[0].abs().clamp_min(1e-12)
    weights = torch.softmax(-0.5 * (excess / spread).square(), 1)
    found: Tensor = weights @ probes
    return found
