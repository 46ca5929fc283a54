"""Linear-cost search in plain torch, on any device.

Image atoms are sorted into square columns along z as wide as the radius, and by z within each. The
neighbours of an atom then lie in nine columns, and in each within one contiguous stretch, which
two binary searches find.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.neighbors.images import Images, Lattice
from ase_pet.neighbors.search import Pairs, no_pairs, pair_once

#: Candidates looked at together; bounds the memory of intermediates.
CHUNK = 2_000_000
#: Slices along z in a radius: finer ones mean fewer candidates.
SLICES = 8
#: Columns along x or y, and slices along z, that an integer key has room for.
MOST_COLUMNS, MOST_SLICES = 2**16, 2**20


def candidates(lattice: Lattice, radius: float) -> Pairs:
    """All pairs within ``radius`` (Å)."""
    images = Images.within(lattice, radius)
    first, counts, order = _stretches(lattice, images, radius)
    positions, atoms, shifts = images.positions[order], images.atoms[order], images.shifts[order]
    found = [no_pairs(order.device)]
    totals = counts.sum(1).cumsum(0)
    n_chunks = int(totals[-1]) // CHUNK + 1
    marks = torch.arange(1, n_chunks, device=totals.device) * CHUNK
    stops = [*torch.searchsorted(totals, marks).tolist(), lattice.n_atoms]
    start = 0
    for stop in stops:
        i, m = _expand(first[start:stop], counts[start:stop])
        i = i + start
        once = pair_once(i, atoms[m], shifts[m])
        i, m = i[once], m[once]
        x, y, z = (positions[m] - lattice.positions[i]).unbind(1)
        near = x * x + y * y + z * z < radius * radius
        i, m = i[near], m[near]
        found.append(Pairs(i, atoms[m], shifts[m]))
        start = stop
    return Pairs(*(torch.cat(part) for part in zip(*found, strict=True)))


def _stretches(lattice: Lattice, images: Images, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Where the candidates of each atom lie in the sorted images.

    Returns:
        Start [n_atoms, 9] and length [n_atoms, 9] of each stretch, and the order of the images.
    """
    low = images.positions.amin(0)
    size = images.positions.amax(0) - low
    width = (size[:2] / MOST_COLUMNS).clamp(min=radius)
    step = (size[2] / MOST_SLICES).clamp(min=radius / SLICES)
    # A margin of one column all around, so that neighbouring columns never wrap.
    nx, ny = (int(n) + 3 for n in size[:2] / width)
    nz = int(size[2] / step) + 1

    def column(positions: Tensor, index: Tensor) -> Tensor:
        x, y = ((positions[:, :2] - low[:2]) / width).long().unbind(1)
        return (index * nx + x + 1) * ny + y + 1

    def slice_along_z(z: Tensor) -> Tensor:
        return ((z - low[2]) / step).floor().clamp(0, nz - 1).long()

    index = lattice.system_index
    keys = column(images.positions, index[images.atoms]) * nz + slice_along_z(
        images.positions[:, 2]
    )
    keys, order = torch.sort(keys)
    around = torch.tensor([-1, 0, 1], device=index.device)
    around = (around.unsqueeze(1) * ny + around).flatten()
    columns = (column(lattice.positions, index).unsqueeze(1) + around) * nz
    z = lattice.positions[:, 2:]
    first = torch.searchsorted(keys, columns + slice_along_z(z - radius))
    last = torch.searchsorted(keys, columns + slice_along_z(z + radius), right=True)
    return first, last - first, order


def _expand(first: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """List the members of the stretches: row and member, both [counts.sum()], int64."""
    width = first.shape[1]
    first, counts = first.flatten(), counts.flatten()
    which = torch.repeat_interleave(counts)
    begin = first - (counts.cumsum(0) - counts)
    return which // width, begin[which] + torch.arange(len(which), device=which.device)
