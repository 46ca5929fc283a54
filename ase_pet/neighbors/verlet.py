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
from ase_pet.data.graph import edge_vectors, lattice_offsets
from ase_pet.data.system import FARTHEST
from ase_pet.neighbors.base import NeighborSearch
from ase_pet.neighbors.images import transform
from ase_pet.neighbors.search import check_cutoff, within

#: Å, more than rounding errors of a distance, however far from the origin.
ROUNDING = 64 * torch.finfo(torch.float64).eps * FARTHEST


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
        # Empty while the list is in use: of several threads, each has one of its own.
        self._idle: list[_LongList] = []

    def __call__(self, system: System, cutoff: float) -> Edges:
        """Return the neighbour list of ``system`` within ``cutoff`` (Å).

        Raises:
            NeighborError: If the list would not fit in memory.
            ValueError: If ``cutoff`` is not a positive number.
        """
        return self.measured(system, cutoff)[0]

    @torch.inference_mode(False)  # in which a caller may be now, and not when lists are used again
    def measured(self, system: System, cutoff: float) -> tuple[Edges, Tensor]:
        """The same list with its edge vectors, by which it was filtered.

        The list is the one of the step before, in the same tensors, while its pairs are the same.

        Returns:
            The neighbour list and vectors [n_edges, 3], Å, float64.

        Raises:
            NeighborError: If the list would not fit in memory.
            ValueError: If ``cutoff`` is not a positive number.
        """
        check_cutoff(cutoff)
        if self.skin == 0 or system.n_atoms == 0:
            self.n_builds += 1
            edges = self.search(system, cutoff)
            return edges, edges.vectors(system)
        long = self._take(system, cutoff)
        if long is None:
            edges = self.search(system, cutoff + self.skin)
            long = _LongList(edges, system.copy(), cutoff, cutoff + self.skin)
            self.n_builds += 1
        found = long.filtered(system)
        self._idle.append(long)
        return found

    def _take(self, system: System, cutoff: float) -> _LongList | None:
        """The list, which nobody else has then, if it still serves."""
        try:
            long = self._idle.pop()
        except IndexError:
            return None
        return long if long.covers(system, cutoff) else None


class _LongList:
    """A list that reaches beyond the cutoff, and which of its edges were within it at last.

    Args:
        edges: All pairs within ``radius`` at the time of the reference.
        reference: The structures then.
        cutoff: Å.
        radius: Å.
    """

    def __init__(self, edges: Edges, reference: System, cutoff: float, radius: float) -> None:
        self.edges, self.reference = edges, reference
        self.cutoff, self.radius = cutoff, radius
        self.offsets = lattice_offsets(reference, edges.centers, edges.shifts)
        self.near: Tensor | None = None  # until it is filtered for the first time
        # Large arrays, which would otherwise be asked of the operating system at every step.
        self.buffers = torch.empty_like(self.offsets), torch.empty_like(self.offsets)

    def covers(self, system: System, cutoff: float) -> bool:
        """Whether no pair within the cutoff can be missing."""
        then = self.reference
        return (
            cutoff == self.cutoff
            and system.positions.device == then.positions.device
            and system.counts == then.counts
            and torch.equal(system.pbc, then.pbc)
            and torch.equal(system.numbers, then.numbers)
            and closest_missed(then, system, self.radius) >= cutoff
        )

    def filtered(self, system: System) -> tuple[Edges, Tensor]:
        """The edges within the cutoff, and their vectors [n_edges, 3], Å."""
        edges = self.edges
        still = torch.equal(system.cell, self.reference.cell)
        pairs = edges.centers, edges.others, edges.shifts
        offsets = self.offsets if still else None
        vectors = edge_vectors(system, *pairs, offsets, self.buffers)
        near = within(vectors, self.cutoff, self.buffers[1])
        if self.near is None or not torch.equal(near, self.near):
            self.near, self.kept = near, near.nonzero().flatten()
            self.short = _select(edges, self.kept, near.cumsum(0) - 1)
        return self.short, vectors.index_select(0, self.kept)


def closest_missed(reference: System, system: System, radius: float) -> float:
    """Lower bound on the present distance of pairs that were at least ``radius`` (Å) apart.

    Args:
        reference: The structures when the list was built.
        system: The same atoms now.
        radius: Å, reach of the list.

    Returns:
        Å: σ_min(F) radius - (|u|₁ + |u|₂), the least of all structures, less a bound on rounding
        errors.
    """
    index, n = system.system_index, system.n_systems
    if torch.equal(reference.cell, system.cell):
        reach: Tensor | float = radius
        left = system.positions - reference.positions
    else:
        # On the CPU: small matrices. F is the identity perpendicular to the periodic vectors.
        old, new = (torch.stack([reference.cell, system.cell]) * system.pbc.unsqueeze(-1)).cpu()
        deformation = torch.eye(3, dtype=old.dtype) + torch.linalg.pinv(old) @ (new - old)
        reach = radius * torch.linalg.svdvals(deformation)[:, -1].to(system.cell.device)
        moved = transform(reference.positions, deformation.to(system.cell.device), index)
        left = system.positions - moved
    return float((reach - two_farthest(left, index, n)).min()) - ROUNDING


def two_farthest(moves: Tensor, index: Tensor, n: int) -> Tensor:
    """Sum of the two largest displacements [m, 3] from their mean, by ``index`` [m]: [n]."""
    if n == 1:
        lengths = torch.linalg.vector_norm(moves - moves.mean(0), dim=1)
        return torch.topk(lengths, min(2, len(lengths)))[0].sum()
    rows = index.unsqueeze(1).expand_as(moves)
    drift = moves.new_zeros(n, 3).scatter_reduce(0, rows, moves, "mean", include_self=False)
    first, second = two_largest(torch.linalg.vector_norm(moves - drift[index], dim=1), index, n)
    return first + second


def two_largest(values: Tensor, index: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Largest and second largest of non-negative ``values`` [m] by ``index`` [m]: two [n]."""
    first = values.new_zeros(n).scatter_reduce(0, index, values, "amax")
    places = torch.arange(len(values), device=values.device)
    candidates = torch.where(values == first[index], places, len(values))
    place = places.new_full((n,), len(values)).scatter_reduce(0, index, candidates, "amin")
    rest = torch.where(places == place[index], 0.0, values)
    return first, values.new_zeros(n).scatter_reduce(0, index, rest, "amax")


def _select(edges: Edges, kept: Tensor, place: Tensor) -> Edges:
    """The edges ``kept`` [n_kept] of a list, where ``place`` [n_edges] says what becomes of each.

    Of an edge and its reverse, both or none are kept.
    """
    centers, others, shifts, reverse = (
        part.index_select(0, kept)
        for part in (edges.centers, edges.others, edges.shifts, edges.reverse)
    )
    return Edges(centers, others, shifts, place.index_select(0, reverse))
