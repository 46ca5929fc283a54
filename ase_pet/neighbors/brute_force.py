"""The oracle: every atom with every image of every atom, nothing wrapped and nothing clever."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.data import Edges, System
from ase_pet.data.graph import edge_vectors
from ase_pet.neighbors.images import Lattice
from ase_pet.neighbors.memory import memory_errors
from ase_pet.neighbors.search import (
    Pairs,
    check_cutoff,
    finish,
    no_pairs,
    pair_once,
    require_memory_for_edges,
    within,
)

#: Candidates looked at together; bounds the memory of intermediates.
CHUNK = 1_000_000


def brute_force(system: System, cutoff: float) -> Edges:
    """Return the neighbour list of ``system`` within ``cutoff`` (Å); quadratic cost.

    Raises:
        NeighborError: If the list would not fit in memory.
        ValueError: If ``cutoff`` is not a positive number.
    """
    check_cutoff(cutoff)
    found = [no_pairs(system.positions.device)]
    if system.n_atoms:
        require_memory_for_edges(Lattice.of(system), cutoff)
    with memory_errors(system.n_atoms, cutoff):
        for k in range(system.n_systems):
            found += _structure(system, k, cutoff)
        pairs = Pairs(*(torch.cat(part) for part in zip(*found, strict=True)))
        return finish(system, pairs, cutoff)


def _structure(system: System, k: int, cutoff: float) -> list[Pairs]:
    """Pairs of structure k.

    The image of j nearest to i along a periodic axis lies within half a cell; others that can be
    within the cutoff are at most cutoff/height lattice planes further.
    """
    periodic = system.cell[k] * system.pbc[k].unsqueeze(1)
    # Columns: reciprocal vectors of the periodic axes, zero for the others.
    reciprocal = torch.linalg.pinv(periodic)
    reach = torch.ceil(cutoff * torch.linalg.vector_norm(reciprocal, dim=0) + 0.5)
    reach = torch.where(system.pbc[k], reach, 0.0).to(torch.int64)
    axes = [torch.arange(-m, m + 1, device=reach.device) for m in reach.tolist()]
    around = torch.cartesian_prod(*axes)
    atoms = torch.nonzero(system.system_index == k).flatten()
    i, j = atoms[torch.triu_indices(len(atoms), len(atoms), device=atoms.device)]
    step = max(1, CHUNK // len(around))
    return [
        _near(system, i[n : n + step], j[n : n + step], reciprocal, around, cutoff)
        for n in range(0, len(i), step)
    ]


def _near(
    system: System, i: Tensor, j: Tensor, reciprocal: Tensor, around: Tensor, cutoff: float
) -> Pairs:
    nearest = -((system.positions[j] - system.positions[i]) @ reciprocal).round().to(torch.int64)
    shifts = (nearest.unsqueeze(1) + around).flatten(0, 1)
    i, j = (atoms.repeat_interleave(len(around)) for atoms in (i, j))
    keep = pair_once(i, j, shifts) & within(edge_vectors(system, i, j, shifts), cutoff)
    return Pairs(i[keep], j[keep], shifts[keep])
