"""The vesin library: a compiled cell list, the fastest on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.neighbors.images import Lattice
from ase_pet.neighbors.search import Pairs, no_pairs


def candidates(lattice: Lattice, radius: float) -> Pairs:
    """All pairs within ``radius`` (Å), found on the CPU, one structure at a time."""
    import vesin

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


def _boxed(lattice: Lattice, k: int, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and box of structure k, which holds its atoms along non-periodic axes too."""
    cell, free = lattice.cell[k], ~lattice.pbc[k].unsqueeze(1)
    if not bool(free.any()):
        return positions, cell
    low, high = lattice.low[k].unsqueeze(1), lattice.high[k].unsqueeze(1)
    origin = (low * free * cell).sum(0)
    return positions - origin, torch.where(free, (high - low + 1.0) * cell, cell)
