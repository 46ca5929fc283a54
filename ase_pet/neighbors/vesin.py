"""The vesin library: a compiled cell list, the fastest on a CPU."""

from __future__ import annotations

import torch

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
        atoms = slice(start, start + n)
        # Along non-periodic axes the box must hold the atoms.
        free = ~lattice.pbc[k].unsqueeze(1)
        origin = (lattice.low[k].unsqueeze(1) * free * lattice.cell[k]).sum(0)
        size = (lattice.high[k] - lattice.low[k]).unsqueeze(1) + 1.0
        pairs, shifts = search.compute(
            (lattice.positions[atoms] - origin).cpu().numpy(),
            torch.where(free, size * lattice.cell[k], lattice.cell[k]).cpu().numpy(),
            lattice.pbc[k].cpu().numpy(),
            quantities="PS",
            copy=False,
        )
        ij = torch.from_numpy(pairs.astype("int64")).to(device) + start
        found.append(Pairs(ij[:, 0], ij[:, 1], torch.from_numpy(shifts.astype("int64")).to(device)))
        start += n
    return Pairs(*(torch.cat(part) for part in zip(*found, strict=True)))
