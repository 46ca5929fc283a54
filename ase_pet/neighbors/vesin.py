"""The vesin library: a compiled cell list, the fastest on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.neighbors import cell_list
from ase_pet.neighbors.images import Lattice
from ase_pet.neighbors.search import Pairs, no_pairs


def candidates(lattice: Lattice, radius: float) -> Pairs:
    """All pairs within ``radius`` (Å), found on the CPU, one structure at a time."""
    import vesin

    if _is_too_sparse(lattice, radius):
        return cell_list.candidates(lattice, radius)
    device = lattice.positions.device
    search = vesin.NeighborList(cutoff=radius, full_list=False)
    found = [no_pairs(device)]
    counts = torch.bincount(lattice.system_index, minlength=lattice.n_systems).tolist()
    start = 0
    for k, n in enumerate(counts):
        if n == 0:
            continue
        positions, box = _boxed(lattice, k, lattice.positions[start : start + n])
        pairs, shifts = search.compute(
            positions.cpu().numpy(),
            box.cpu().numpy(),
            lattice.pbc[k].cpu().numpy(),
            quantities="PS",
            copy=False,  # both are converted below, before the next call overwrites them
        )
        ij = torch.from_numpy(pairs.astype("int64")).to(device) + start
        found.append(Pairs(ij[:, 0], ij[:, 1], torch.from_numpy(shifts.astype("int64")).to(device)))
        start += n
    return Pairs(*(torch.cat(part) for part in zip(*found, strict=True)))


def _is_too_sparse(lattice: Lattice, radius: float) -> bool:
    """Whether a box is so long and thin that vesin would be slow or end the process.

    It makes the bins of large boxes longer in proportion, so that there are at most 1e5; an axis
    then left without a bin is a division by zero. Thousands of bins in a row cost it seconds.
    Both as of vesin 0.6.2.
    """
    lengths = torch.where(lattice.pbc, lattice.heights, lattice.high - lattice.low + 1.0)
    bins = (lengths / radius).clamp(min=1.0)
    shrink = (1e5 / bins.prod(1)) ** (1 / 3)
    return bool(((bins.amin(1) * shrink < 1.2) | (bins.amax(1) > 1e3)).any())


def _boxed(lattice: Lattice, k: int, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and box of structure k, which holds its atoms along non-periodic axes too."""
    cell, free = lattice.cell[k], ~lattice.pbc[k].unsqueeze(1)
    if not bool(free.any()):
        return positions, cell
    low, high = lattice.low[k].unsqueeze(1), lattice.high[k].unsqueeze(1)
    origin = (low * free * cell).sum(0)
    return positions - origin, torch.where(free, (high - low + 1.0) * cell, cell)
