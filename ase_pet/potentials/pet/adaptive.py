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

from ase_pet.potentials.cutoffs import cotangent_switch, cotangent_switch_and_slope

#: The smallest cutoff, as a fraction of the largest.
_SMALLEST = 1.0 / 16.0
#: Å, the first radius of the grid, and its spacing in widths of the switch.
FIRST, SPACING = 0.5, 0.25
_NEWTON_STEPS, _BISECTIONS = 30, 52


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
    def excess_and_slope(r: Tensor) -> tuple[Tensor, Tensor]:
        switch, slope = cotangent_switch_and_slope(distances, r.index_select(0, centers), width)
        excess, steepness = (torch.zeros_like(r).index_add(0, centers, x) for x in (switch, slope))
        return (
            excess + wanted * (r / cutoff) ** 3 - wanted,
            steepness + 3.0 * wanted * r * r / cutoff**3,
        )

    with torch.no_grad():
        root = _root(excess_and_slope, distances.new_full((n_atoms,), cutoff))
    # A Newton step from the root: it stays there, and its derivative is that of the root.
    excess, steepness = excess_and_slope(root)
    moved = root - excess / steepness.detach().clamp_min(1e-6)
    return moved.clamp(_SMALLEST * cutoff, cutoff)


def _root(excess_and_slope: Callable[[Tensor], tuple[Tensor, Tensor]], high: Tensor) -> Tensor:
    """Where an increasing function, not positive at 0, is 0: Newton between bounds.

    Args:
        excess_and_slope: The function and its derivative.
        high: Where it is 0 or positive.
    """
    tolerance = 4.0 * torch.finfo(high.dtype).eps * high
    low, r = torch.zeros_like(high), high
    for k in range(_NEWTON_STEPS + _BISECTIONS):
        excess, slope = excess_and_slope(r)
        low, high = torch.where(excess < 0.0, r, low), torch.where(excess < 0.0, high, r)
        step = r - excess / slope
        inside = (step >= low) & (step <= high) & (k < _NEWTON_STEPS)
        new = torch.where(inside, step, 0.5 * (low + high))
        new = torch.where(excess == 0.0, r, new)
        if bool(((new - r).abs() <= tolerance).all()):
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
