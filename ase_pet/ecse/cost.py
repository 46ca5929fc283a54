"""What an evaluation takes, counted from its coordinate systems; no network is evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ase_pet.data import Graph
from ase_pet.ecse.mirrored import Mirrored
from ase_pet.ecse.symmetrized import Symmetrized
from ase_pet.potentials.base import Backbone


@dataclass(frozen=True, slots=True)
class Cost:
    """Work of one evaluation.

    Attributes:
        n_copies: Copies of the structure, or of surroundings in it, that are evaluated.
        n_atoms: Atoms of all copies together.
        n_edges: Edges of all copies together.
        memory: Estimate of the bytes that the largest chunk of copies takes.
    """

    n_copies: int
    n_atoms: int
    n_edges: int
    memory: int


@torch.no_grad()
def cost(backbone: Backbone, graph: Graph) -> Cost:
    """Count what an evaluation of a graph takes.

    Args:
        backbone: Bare or symmetrised; a symmetrised one makes its coordinate systems for it.
        graph: Edges sorted by centre.
    """
    degree = torch.bincount(graph.centers, minlength=graph.n_atoms)
    widest = int(degree.max()) if graph.n_atoms else 0
    if not isinstance(backbone, Symmetrized):
        times = 2 if isinstance(backbone, Mirrored) else 1
        memory = backbone.memory(graph.n_atoms, widest)
        return Cost(times, times * graph.n_atoms, times * graph.n_edges, memory)
    ensemble = backbone.ensemble(graph)
    if ensemble.labels is not None:
        parts = [(e.n_copies, e.n_atoms, e.graph.n_edges) for e in ensemble.evaluations()]
        copies, atoms, edges = (sum(column) for column in zip(*parts, strict=True))
        memory = backbone.backbone.memory(max(n for _, n, _ in parts), widest)
        return Cost(copies, atoms, edges, memory)
    sizes = ensemble.expansion.domains.sizes[ensemble.domain]
    edges = ensemble.expansion.edge_counts[ensemble.domain]
    largest = max((int(sizes[chunk].sum()) for chunk in ensemble.chunks), default=0)
    return Cost(
        n_copies=ensemble.n_copies,
        n_atoms=int(sizes.sum()),
        n_edges=int(edges.sum()),
        memory=backbone.backbone.memory(largest, widest),
    )
