"""Wrapped atoms in a well-shaped cell, and their periodic images for any open-boundary search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ase_pet.data import System, run_index
from ase_pet.neighbors.memory import BYTES_PER_IMAGE, require_memory

#: A lattice vector this many times longer than its lattice planes are apart is badly skewed.
SKEWED = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """The structures as searches want them: cells of full rank and little skew, atoms wrapped.

    Attributes:
        positions: [n_atoms, 3], Å, inside the cell along its periodic axes.
        cell: [n_systems, 3, 3], Å; orthonormal complements stand for the non-periodic vectors.
        pbc: [n_systems, 3], bool.
        system_index: [n_atoms], int64.
        basis: [n_systems, 3, 3], int64: the periodic rows of ``cell`` are ``basis @ given cell``.
        offsets: [n_atoms, 3], int64: ``positions`` are ``given + offsets @ cell``.
        fractional: [n_atoms, 3], ``positions`` in units of the rows of ``cell``.
        low: [n_systems, 3], smallest fractional coordinate of the atoms.
        high: [n_systems, 3], largest fractional coordinate of the atoms.
        heights: [n_systems, 3], Å, distances between lattice planes.
        rounding: Å, bound on the rounding errors of a distance.
    """

    positions: Tensor
    cell: Tensor
    pbc: Tensor
    system_index: Tensor
    basis: Tensor
    offsets: Tensor
    fractional: Tensor
    low: Tensor
    high: Tensor
    heights: Tensor
    rounding: float

    @staticmethod
    def of(system: System) -> Lattice:
        """Wrap the atoms of ``system``."""
        device, index = system.positions.device, system.system_index
        # Three by three matrices: faster on the CPU, whatever the device of the atoms.
        cell, basis = well_shaped(system.cell.cpu(), system.pbc.cpu())
        inverse = torch.linalg.inv(cell)
        heights = (1 / torch.linalg.vector_norm(inverse, dim=1)).to(device)
        cell, inverse, basis = cell.to(device), inverse.to(device), basis.to(device)
        fractional = transform(system.positions, inverse, index)
        offsets = -fractional.floor() * system.pbc[index]
        positions = system.positions + transform(offsets, cell, index)
        fractional = fractional + offsets
        low, high = extent(fractional, index, system.n_systems)
        far = max(float(system.positions.abs().amax()), float(cell.abs().amax()))
        return Lattice(
            positions, cell, system.pbc, index, basis, offsets.to(torch.int64), fractional,
            low, high, heights, rounding=1e-9 + 64 * torch.finfo(torch.float64).eps * far,
        )  # fmt: skip

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all structures."""
        return self.positions.shape[0]

    @property
    def n_systems(self) -> int:
        """Number of structures."""
        return self.cell.shape[0]

    def given_shifts(self, centers: Tensor, others: Tensor, shifts: Tensor) -> Tensor:
        """Shifts between the given positions, in the given cell.

        Args:
            centers: [n_pairs], int64.
            others: [n_pairs], int64.
            shifts: [n_pairs, 3], int64, between the wrapped positions, in this cell.

        Returns:
            [n_pairs, 3], int64.
        """
        if bool(self.offsets.any()):
            shifts = shifts + (self.offsets[others] - self.offsets[centers])
        unit = torch.eye(3, dtype=torch.int64, device=self.basis.device)
        if bool((self.basis != unit).any()):
            basis = self.basis[self.system_index[centers]]
            shifts = (shifts.unsqueeze(-1) * basis).sum(1)
        return shifts

    def estimated_edges(self, cutoff: float) -> float:
        """Expected number of directed edges, atoms taken as spread evenly over their extent."""
        reach = 2 * cutoff / self.heights
        many = self.pbc & (reach > 1)
        share = torch.where(many, reach, reach / (self.high - self.low).clamp(min=1e-3))
        box = torch.where(many, share, share.clamp(max=1.0)).prod(1)
        sphere = torch.pi / 6 * share.prod(1)
        n_atoms = torch.bincount(self.system_index, minlength=self.n_systems)
        return float((n_atoms.to(box.dtype) ** 2 * torch.minimum(box, sphere)).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """The atoms and their periodic images near the occupied part of the cell.

    Attributes:
        positions: [n_images, 3], Å.
        atoms: [n_images], int64, the atom that each is an image of; sorted.
        shifts: [n_images, 3], int64, lattice vectors from the wrapped atom to the image.
    """

    positions: Tensor
    atoms: Tensor
    shifts: Tensor

    @staticmethod
    def within(lattice: Lattice, radius: float) -> Images:
        """All images that can lie within ``radius`` (Å) of a wrapped atom of the same structure.

        Raises:
            NeighborError: If they would not fit in memory.
        """
        index = lattice.system_index
        reach = torch.where(lattice.pbc, radius / lattice.heights, 0.0)
        first = (lattice.low - reach)[index] - lattice.fractional
        last = (lattice.high + reach)[index] - lattice.fractional
        periodic = lattice.pbc[index]
        first = torch.where(periodic, first.ceil(), 0.0)
        last = torch.where(periodic, last.floor(), 0.0)
        count = float((last - first + 1).prod(1).sum())
        require_memory("image atoms", count, BYTES_PER_IMAGE, index.device)
        atoms, shifts = integer_boxes(first.to(torch.int64), last.to(torch.int64))
        steps = transform(shifts.to(lattice.cell.dtype), lattice.cell, index[atoms])
        return Images(lattice.positions[atoms] + steps, atoms, shifts)


def transform(rows: Tensor, matrices: Tensor, index: Tensor) -> Tensor:
    """Row vectors [m, 3] times the matrix of their structure, ``matrices[index]``: [m, 3]."""
    if len(matrices) == 1:
        return rows @ matrices[0]
    return torch.einsum("mk,mkx->mx", rows, matrices[index])


def integer_boxes(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """List the integer points of many boxes.

    Args:
        first: [n, 3], int64, lowest corners.
        last: [n, 3], int64, highest corners, included.

    Returns:
        Index of the box [m], int64, sorted, and the point [m, 3], int64.
    """
    sizes = (last - first + 1).clamp(min=0)
    counts = sizes.prod(1)
    box = torch.repeat_interleave(counts)
    rank = run_index(counts)
    size = sizes[box]
    z = rank % size[:, 2]
    rank = rank // size[:, 2]
    steps = torch.stack([rank // size[:, 1], rank % size[:, 1], z], dim=1)
    return box, first[box] + steps


def extent(values: Tensor, index: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest rows of ``values`` [m, 3] by ``index`` [m]: two [n, 3], 0 if none."""
    rows, start = index.unsqueeze(1).expand_as(values), values.new_zeros(n, 3)
    low = start.scatter_reduce(0, rows, values, "amin", include_self=False)
    high = start.scatter_reduce(0, rows, values, "amax", include_self=False)
    return low, high


def well_shaped(cell: Tensor, pbc: Tensor) -> tuple[Tensor, Tensor]:
    """Complete cells to full rank and reduce those that are badly skewed.

    Args:
        cell: [n_systems, 3, 3], Å, on the CPU.
        pbc: [n_systems, 3], bool, on the CPU.

    Returns:
        New cells [n_systems, 3, 3], Å, and the int64 ``basis`` [n_systems, 3, 3] of their
        periodic rows in the given ones; identity where nothing was reduced.
    """
    cell = cell.clone()
    for pattern in torch.unique(pbc[~pbc.all(1)], dim=0):
        which = (pbc == pattern).all(1).nonzero()
        free = (~pattern).nonzero().flatten()
        _, _, directions = torch.linalg.svd(cell[which, pattern.nonzero().flatten()])
        cell[which, free] = directions[:, 3 - len(free) :]
    basis = torch.eye(3, dtype=torch.int64).repeat(len(cell), 1, 1)
    planes = 1 / torch.linalg.vector_norm(torch.linalg.inv(cell), dim=1)
    skewed = (torch.linalg.vector_norm(cell, dim=2) > SKEWED * planes).any(1)
    for k in skewed.nonzero().flatten().tolist():
        axes = pbc[k].nonzero().flatten()
        new = torch.from_numpy(minkowski_basis(cell[k, axes].numpy()))
        basis[k, axes.unsqueeze(1), axes] = new
        cell[k, axes] = new.to(cell.dtype) @ cell[k, axes]
    return cell, basis


def minkowski_basis(vectors: np.ndarray) -> np.ndarray:
    """Integer combinations of two or three lattice vectors that are as short as possible.

    Greedy reduction: subtract from the longest vector the lattice point of the others that lies
    closest to it, until nothing gets shorter.

    Args:
        vectors: [2 or 3, 3], Å, linearly independent rows.

    Returns:
        [2 or 3, 2 or 3], int64, unimodular; ``basis @ vectors`` is Minkowski-reduced.

    Source:
        Nguyen & Stehlé, ACM Transactions on Algorithms 5, 46 (2009).
    """
    basis = np.eye(len(vectors), dtype=np.int64)
    if len(vectors) == 1:
        return basis
    while True:
        reduced = basis @ vectors
        basis = basis[np.argsort(np.linalg.norm(reduced, axis=1), kind="stable")]
        if len(basis) == 3:
            basis[:2] = minkowski_basis(basis[:2] @ vectors) @ basis[:2]
        shorter, longest = basis[:-1] @ vectors, basis[-1] @ vectors
        guess = np.rint(longest @ np.linalg.pinv(shorter)).astype(np.int64)
        around = np.stack(np.meshgrid(*[[-1, 0, 1]] * len(guess), indexing="ij"), -1)
        points = guess + around.reshape(-1, len(guess))
        lengths = np.linalg.norm(longest - points @ shorter, axis=1)
        if lengths.min() >= np.linalg.norm(longest) * (1 - 1e-12):
            return basis
        basis[-1] -= points[lengths.argmin()] @ basis[:-1]
