r"""Verlet skin: reuse of a neighbour list between the steps of a simulation.

Let F be the deformation that takes the reference cell to the present one, and u the displacements
that are left after F. Two atoms now at distance r were at a reference distance r₀ with

.. math:: r \ge \sigma_\min(F)\, r_0 - (|u_i| + |u_j|),

so that a list made at :math:`r_b = r_c + \mathrm{skin}` holds every pair within :math:`r_c` while

.. math:: \sigma_\min(F)\, r_b - (|u|_1 + |u|_2) \ge r_c,

where the two largest displacements stand for all pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ase_pet.data import Edges, System
from ase_pet.data.graph import edge_vectors
from ase_pet.neighbors.base import NeighborSearch
from ase_pet.neighbors.images import transform
from ase_pet.neighbors.search import check_cutoff, within


class VerletSkin:
    """A ``NeighborSearch`` that keeps a longer list and filters it at every step.

    The list returned is the one that the search inside would return, order included, whether or
    not it was built anew. Displacements are taken as they are, never to the nearest image: an
    atom that the host program wraps back into the cell makes the list stale, and it is rebuilt.

    Args:
        search: The search that builds lists.
        skin: Å, how much further than the cutoff they reach; 0 builds at every step.

    Attributes:
        n_builds: How often a list was built.

    Raises:
        ValueError: If ``skin`` is negative or not finite.
    """

    def __init__(self, search: NeighborSearch, skin: float) -> None:
        if not (math.isfinite(skin) and skin >= 0):
            raise ValueError(f"skin: expected a finite distance of 0 Å or more, got {skin}")
        self.search = search
        self.skin = skin
        self.n_builds = 0
        self._cutoff = 0.0
        self._reference: System | None = None
        self._edges: Edges | None = None

    def __call__(self, system: System, cutoff: float) -> Edges:
        """Return the neighbour list of ``system`` within ``cutoff`` (Å).

        Raises:
            NeighborError: If the list would not fit in memory.
            ValueError: If ``cutoff`` is not a positive number.
        """
        check_cutoff(cutoff)
        if self.skin == 0 or system.n_atoms == 0:
            self.n_builds += 1
            return self.search(system, cutoff)
        if self._edges is None or not self._covers(system, cutoff):
            self._reference = self._edges = None  # nothing half-built survives an error
            self._edges = self.search(system, cutoff + self.skin)
            self._reference = system.copy()
            self._cutoff = cutoff
            self.n_builds += 1
        return _shorten(self._edges, system, cutoff)

    def _covers(self, system: System, cutoff: float) -> bool:
        reference = self._reference
        return (
            reference is not None
            and cutoff == self._cutoff
            and system.positions.device == reference.positions.device
            and torch.equal(system.system_index, reference.system_index)
            and torch.equal(system.pbc, reference.pbc)
            and torch.equal(system.numbers, reference.numbers)
            and bool((closest_missed(reference, system, cutoff + self.skin) >= cutoff).all())
        )


def closest_missed(reference: System, system: System, radius: float) -> Tensor:
    """Lower bound on the present distance of pairs that were at least ``radius`` (Å) apart.

    Args:
        reference: The structures when the list was built.
        system: The same atoms now.
        radius: Å, reach of the list.

    Returns:
        [n_systems], Å: σ_min(F) radius - (|u|₁ + |u|₂), less a bound on rounding errors.
    """
    index, n = system.system_index, system.n_systems
    if torch.equal(reference.cell, system.cell):
        shrink = system.cell.new_ones(n)
        left = system.positions - reference.positions
    else:
        # On the CPU: small matrices. F is the identity perpendicular to the periodic vectors.
        old, new = (torch.stack([reference.cell, system.cell]) * system.pbc.unsqueeze(-1)).cpu()
        deformation = torch.eye(3, dtype=old.dtype) + torch.linalg.pinv(old) @ (new - old)
        shrink = torch.linalg.svdvals(deformation)[:, -1].to(system.cell.device)
        moved = transform(reference.positions, deformation.to(system.cell.device), index)
        left = system.positions - moved
    rows = index.unsqueeze(1).expand_as(left)
    drift = left.new_zeros(n, 3).scatter_reduce(0, rows, left, "mean", include_self=False)
    lengths = torch.linalg.vector_norm(left - drift[index], dim=1)
    first, second = two_largest(lengths, index, n)
    rounding = 1e-9 + 64 * torch.finfo(left.dtype).eps * float(system.positions.abs().amax())
    bound: Tensor = shrink * radius - (first + second) - rounding
    return bound


def two_largest(values: Tensor, index: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Largest and second largest of non-negative ``values`` [m] by ``index`` [m]: two [n]."""
    first = values.new_zeros(n).scatter_reduce(0, index, values, "amax")
    places = torch.arange(len(values), device=values.device)
    candidates = torch.where(values == first[index], places, len(values))
    place = places.new_full((n,), len(values)).scatter_reduce(0, index, candidates, "amin")
    rest = torch.where(places == place[index], 0.0, values)
    return first, values.new_zeros(n).scatter_reduce(0, index, rest, "amax")


def _shorten(edges: Edges, system: System, cutoff: float) -> Edges:
    vectors = edge_vectors(system, edges.centers, edges.others, edges.shifts)
    kept = within(vectors, cutoff).nonzero().flatten()
    place = torch.empty_like(edges.reverse)
    place[kept] = torch.arange(len(kept), device=kept.device)
    centers, others, shifts, reverse = (
        part.index_select(0, kept)
        for part in (edges.centers, edges.others, edges.shifts, edges.reverse)
    )
    return Edges(centers, others, shifts, place.index_select(0, reverse))
