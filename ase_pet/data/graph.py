"""Neighbour pairs as integers (Edges) and as geometry (Graph)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ase_pet.data.space import Space
from ase_pet.data.system import System, expect


def lattice_offsets(system: System, centers: Tensor, shifts: Tensor) -> Tensor:
    """Lattice vectors ``S @ cell`` of pairs of atoms, the same bits whatever the other pairs.

    Args:
        system: The structures.
        centers: [n_pairs], int64, atoms i.
        shifts: [n_pairs, 3], int64, S.

    Returns:
        [n_pairs, 3], Å, float64.
    """
    cell = system.cell[0] if system.n_systems == 1 else system.cell[system.system_index[centers]]
    x, y, z = shifts.to(cell.dtype).unsqueeze(-1).unbind(1)
    return x * cell[..., 0, :] + y * cell[..., 1, :] + z * cell[..., 2, :]


def edge_vectors(
    system: System,
    centers: Tensor,
    others: Tensor,
    shifts: Tensor,
    offsets: Tensor | None = None,
    buffers: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Tensor:
    """Vectors ``(r_j - r_i) + S @ cell`` of pairs of atoms: the one place that computes them.

    Written as separate sums and products, so that reversing a pair flips the sign of its vector
    bit for bit and the result depends neither on the device nor on the other pairs.

    Args:
        system: The structures.
        centers: [n_pairs], int64, atoms i.
        others: [n_pairs], int64, atoms j.
        shifts: [n_pairs, 3], int64, S.
        offsets: Their :func:`lattice_offsets`, if they are known.
        buffers: Two of the shape of the result: for the result, and to work in.

    Returns:
        [n_pairs, 3], Å, float64.
    """
    if offsets is None:
        offsets = lattice_offsets(system, centers, shifts)
    ends = torch.index_select(system.positions, 0, others, out=buffers[0])
    starts = torch.index_select(system.positions, 0, centers, out=buffers[1])
    return ends.sub_(starts).add_(offsets)


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """A full neighbour list: integers only, never differentiated.

    Edge e points from atom i = ``centers[e]`` to the periodic image S = ``shifts[e]`` of atom
    j = ``others[e]``, so its vector is ``r_j - r_i + S @ cell``.

    Attributes:
        centers: [n_edges], int64, sorted.
        others: [n_edges], int64.
        shifts: [n_edges, 3], int64, relative to the positions given (not to wrapped ones).
        reverse: [n_edges], int64: the edge (j, i, -S) of the edge (i, j, S).

    Raises:
        ValueError: If a shape or dtype is wrong.
    """

    centers: Tensor
    others: Tensor
    shifts: Tensor
    reverse: Tensor

    def __post_init__(self) -> None:
        n = self.centers.shape[0]
        expect("centers", self.centers, (n,), torch.int64)
        expect("others", self.others, (n,), torch.int64)
        expect("shifts", self.shifts, (n, 3), torch.int64)
        expect("reverse", self.reverse, (n,), torch.int64)

    @property
    def n_edges(self) -> int:
        """Number of directed neighbour pairs."""
        return self.centers.shape[0]

    def to(self, device: torch.device | str) -> Edges:
        """Return the same list on another device."""
        return Edges(
            self.centers.to(device),
            self.others.to(device),
            self.shifts.to(device),
            self.reverse.to(device),
        )

    def vectors(self, system: System) -> Tensor:
        """Edge vectors ``(r_j - r_i) + S @ cell``, [n_edges, 3], Å, float64."""
        return edge_vectors(system, self.centers, self.others, self.shifts)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """All that a potential may see: no positions, no cell, unless it needs a ``space``.

    Attributes:
        numbers: [n_atoms], int64, atomic numbers.
        system_index: [n_atoms], int64, sorted unless there are ``hops``.
        n_systems: Number of structures.
        centers: [n_edges], int64, sorted.
        others: [n_edges], int64.
        reverse: [n_edges], int64. In an ego graph an edge whose reverse is not part of the graph
            points to itself; no energy that is read depends on it.
        vectors: [n_edges, 3], Å: ``r_j - r_i + S @ cell``.
        charge: [n_systems], float64, e, total charge of each structure; ``None`` if all are
            neutral.
        spin: [n_systems], float64, spin multiplicity 2S + 1; ``None`` if all are 1.
        space: Positions and cells, for potentials that need them.
        hops: [n_atoms], int64, sorted: how many hops an atom is away from the nearest one whose
            energy is read; ``None`` if all are. An atom at h hops matters through its messages
            over h hops only; one at or beyond the potential's ``n_layers`` has no edges and stands
            for its element. This is pure economy: a potential may ignore it, and energies of atoms
            that are not read may be any finite numbers.

    Raises:
        ValueError: If a shape or dtype is wrong.
    """

    numbers: Tensor
    system_index: Tensor
    n_systems: int
    centers: Tensor
    others: Tensor
    reverse: Tensor
    vectors: Tensor
    charge: Tensor | None = None
    spin: Tensor | None = None
    space: Space | None = None
    hops: Tensor | None = None
    shifts: Tensor | None = None

    def __post_init__(self) -> None:
        n, e = self.numbers.shape[0], self.centers.shape[0]
        expect("numbers", self.numbers, (n,), torch.int64)
        expect("system_index", self.system_index, (n,), torch.int64)
        expect("centers", self.centers, (e,), torch.int64)
        expect("others", self.others, (e,), torch.int64)
        expect("reverse", self.reverse, (e,), torch.int64)
        expect("vectors", self.vectors, (e, 3), self.vectors.dtype)
        if not self.vectors.dtype.is_floating_point:
            raise ValueError(f"vectors: expected a floating dtype, got {self.vectors.dtype}")
        for name, value in (("charge", self.charge), ("spin", self.spin)):
            if value is not None:
                expect(name, value, (self.n_systems,), torch.float64)
        if self.hops is not None:
            expect("hops", self.hops, (n,), torch.int64)
        if self.shifts is not None:
            expect("shifts", self.shifts, (e, 3), torch.int64)
        if self.space is not None:
            expect("sites", self.space.sites, (n,), torch.int64)
            expect("cell", self.space.cell, (self.n_systems, 3, 3), torch.float64)

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all structures."""
        return self.numbers.shape[0]

    @property
    def n_edges(self) -> int:
        """Number of directed neighbour pairs."""
        return self.centers.shape[0]

    @staticmethod
    def build(
        system: System, edges: Edges, vectors: Tensor | None = None, *, whole: bool = False
    ) -> Graph:
        """Combine a batch of structures with its neighbour list.

        Args:
            system: The structures.
            edges: Their neighbours.
            vectors: Those of the edges, if they are known.
            whole: Give positions and cells, too.

        Raises:
            GeometryError: If ``whole`` and a structure is periodic along one or two axes.
        """
        return Graph(
            system.numbers,
            system.system_index,
            system.n_systems,
            edges.centers,
            edges.others,
            edges.reverse,
            edges.vectors(system) if vectors is None else vectors,
            system.charge,
            system.spin,
            Space.of(system) if whole else None,
            shifts=edges.shifts,
        )

    def of_structures(self, values: Tensor) -> Tensor:
        """Sums [n_systems, ...] of values of atoms [n_atoms, ...], differentiable."""
        if self.n_systems == 1:
            return values.sum(0, keepdim=True)
        sums = values.new_zeros(self.n_systems, *values.shape[1:])
        return sums.index_add(0, self.system_index, values)

    def with_vectors(self, vectors: Tensor) -> Graph:
        """Return the same graph with other edge vectors [n_edges, 3], Å."""
        return replace(self, vectors=vectors)
