"""Linear-cost search in plain torch, on any device.

Image atoms are sorted into square columns along z, half as wide as the radius, and by z within
each. The neighbours of an atom then lie in 25 columns, and in each within one contiguous stretch,
which two binary searches find. The stretch is as long as the sphere is high above that column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ase_pet.neighbors.images import Images, Lattice
from ase_pet.neighbors.search import Pairs, no_pairs, pair_once

#: Atoms and candidate pairs looked at together; they bound the memory of intermediates.
ATOMS_AT_ONCE, PAIRS_AT_ONCE = 2**16, 2**21
#: Slices along z in a radius: finer ones mean fewer candidates.
SLICES = 8
#: Columns along x or y, and slices along z, that an integer key has room for.
MOST_COLUMNS, MOST_SLICES = 2**16, 2**20


def candidates(lattice: Lattice, radius: float) -> Pairs:
    """All pairs within ``radius`` (Å)."""
    columns = Columns.of(lattice, Images.within(lattice, radius), radius)
    found = [no_pairs(lattice.positions.device)]
    for start in range(0, lattice.n_atoms, ATOMS_AT_ONCE):
        atoms = slice(start, start + ATOMS_AT_ONCE)
        first, counts = columns.stretches(lattice.positions[atoms], lattice.system_index[atoms])
        found += [
            columns.near(lattice.positions, row + start, member)
            for row, member in members(first, counts)
        ]
    return Pairs(*(torch.cat(part) for part in zip(*found, strict=True)))


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Image atoms sorted by structure, column and height.

    Attributes:
        images: The images, in that order.
        keys: [n_images], int64, sorted: the place of each image.
        low: [3], Å, lowest corner of all images.
        width: [2], Å, of the columns along x and y.
        step: [], Å, thickness of a slice along z.
        shape: Number of columns along x and y, and of slices along z.
        radius: Å.
    """

    images: Images
    keys: Tensor
    low: Tensor
    width: Tensor
    step: Tensor
    shape: tuple[int, int, int]
    radius: float

    @staticmethod
    def of(lattice: Lattice, images: Images, radius: float) -> Columns:
        """Sort ``images`` for searches within ``radius`` (Å)."""
        low = images.positions.amin(0)
        size = images.positions.amax(0) - low
        width = (size[:2] / MOST_COLUMNS).clamp(min=radius / 2)
        step = (size[2] / MOST_SLICES).clamp(min=radius / SLICES)
        # A margin of two columns all around, so that neighbouring columns never wrap.
        nx, ny = (int(n) + 5 for n in size[:2] / width)
        shape = (nx, ny, int(size[2] / step) + 1)
        columns = Columns(images, images.atoms, low, width, step, shape, radius)
        xy = columns.units(images.positions).floor()
        keys = columns.key(lattice.system_index[images.atoms], xy, images.positions[:, 2])
        keys, order = torch.sort(keys)
        images = Images(images.positions[order], images.atoms[order], images.shifts[order])
        return Columns(images, keys, low, width, step, shape, radius)

    def units(self, positions: Tensor) -> Tensor:
        """Horizontal coordinates of positions [n, 3], Å, in units of columns: [n, 2]."""
        return (positions[:, :2] - self.low[:2]) / self.width

    def key(self, system: Tensor, column: Tensor, z: Tensor) -> Tensor:
        """Number places by structure, column [..., 2] and height z, Å."""
        nx, ny, nz = self.shape
        x, y = column.to(torch.int64).unbind(-1)
        level = ((z - self.low[2]) / self.step).floor().clamp(0, nz - 1).to(torch.int64)
        number: Tensor = ((system * nx + x + 2) * ny + y + 2) * nz + level
        return number

    def stretches(self, positions: Tensor, system: Tensor) -> tuple[Tensor, Tensor]:
        """Where the candidates of atoms lie among the images.

        Args:
            positions: [n, 3], Å.
            system: [n], int64, structure of each atom.

        Returns:
            First image [n, 25] and number of images [n, 25] of each stretch, int64.
        """
        units = self.units(positions).unsqueeze(1)
        offsets = torch.arange(-2, 3, device=positions.device)
        column = units.floor() + torch.cartesian_prod(offsets, offsets)
        # From the atom to the nearest point of the column, and the sphere's half height there.
        gap = torch.maximum(column - units, units - column - 1).clamp(min=0) * self.width
        squared = self.radius**2 - (gap * gap).sum(2)
        z, height = positions[:, 2:], squared.clamp(min=0).sqrt()
        system = system.unsqueeze(1)
        first = torch.searchsorted(self.keys, self.key(system, column, z - height))
        last = torch.searchsorted(self.keys, self.key(system, column, z + height), right=True)
        return first, torch.where(squared > 0, last - first, 0)

    def near(self, positions: Tensor, i: Tensor, member: Tensor) -> Pairs:
        """The pairs of atoms i [n] and images [n] that are within the radius, each once."""
        j, shifts = self.images.atoms[member], self.images.shifts[member]
        once = pair_once(i, j, shifts).nonzero().flatten()
        i, j, shifts, member = i[once], j[once], shifts[once], member[once]
        x, y, z = (self.images.positions[member] - positions[i]).unbind(1)
        near = (x * x + y * y + z * z < self.radius**2).nonzero().flatten()
        return Pairs(i[near], j[near], shifts[near])


def members(first: Tensor, counts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """List the members of stretches, about ``PAIRS_AT_ONCE`` together.

    Args:
        first: [n, m], int64, first member.
        counts: [n, m], int64, number of members.

    Yields:
        Row and member of each, both int64.
    """
    totals = counts.sum(1).cumsum(0)
    marks = torch.arange(1, int(totals[-1]) // PAIRS_AT_ONCE + 1, device=totals.device)
    stops = [*torch.searchsorted(totals, marks * PAIRS_AT_ONCE).tolist(), len(first)]
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        lengths = counts[start:stop].flatten()
        begin = first[start:stop].flatten() - (lengths.cumsum(0) - lengths)
        which = torch.repeat_interleave(lengths)
        member = begin[which] + torch.arange(len(which), device=which.device)
        yield which // first.shape[1] + start, member
