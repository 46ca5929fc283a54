"""Which frame serves which atoms, and the rotated copies of the graph that follow.

A frame is evaluated on a domain: the atoms whose environments must be complete for the energies
that are read. ``local``: the frame serves the atom that made it, the domain is all atoms less than
``n_layers`` hops away. ``global``: the frame serves, and its domain is, the whole structure.

In a copy, atoms outside the domain matter only as neighbours of known species. One carrier for each
element stands for them all, so that a copy for one message-passing layer is a single environment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ase_pet.data import Graph, run_index


@dataclass(frozen=True, slots=True, eq=False)
class Domains:
    """Sets of atoms, one after the other.

    Attributes:
        atoms: [n_members], int64, sorted within a domain.
        start: [n_domains + 1], int64, where each domain begins.
    """

    atoms: Tensor
    start: Tensor

    @property
    def sizes(self) -> Tensor:
        """Atoms in each domain, [n_domains]."""
        return self.start.diff()

    @staticmethod
    def from_labels(labels: Tensor, n_domains: int) -> Domains:
        """Domains that partition the atoms by sorted labels [n_atoms]."""
        counts = torch.bincount(labels, minlength=n_domains)
        return Domains(torch.arange(len(labels), device=labels.device), _offsets(counts))

    @staticmethod
    def ego(graph: Graph, n_layers: int) -> Domains:
        """For each atom, the atoms less than ``n_layers`` hops away, itself among them."""
        n = graph.n_atoms
        degree = torch.bincount(graph.centers, minlength=n)
        first = degree.cumsum(0) - degree
        atoms = torch.arange(n, device=degree.device)
        keys = atoms * n + atoms
        for _ in range(n_layers - 1):
            owner, member = keys // n, keys % n
            parent = torch.repeat_interleave(degree[member])
            reached = graph.others[first[member][parent] + run_index(degree[member])]
            keys = torch.unique(torch.cat([keys, owner[parent] * n + reached]))
        return Domains(keys % n, _offsets(torch.bincount(keys // n, minlength=n)))


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Rotated copies of domains, as one disconnected graph.

    Attributes:
        graph: Atoms of all copies and the carriers; its vectors are not rotated yet.
        frames: [n_edges], the frame of each edge.
        edges: [n_edges], the original edge.
        nodes: [n_members], the original atom of each node that is not a carrier.
    """

    graph: Graph
    frames: Tensor
    edges: Tensor
    nodes: Tensor


class Expansion:
    """Makes copies of domains.

    Args:
        graph: The original graph, edges sorted by centre.
        domains: Sets of its atoms.
    """

    def __init__(self, graph: Graph, domains: Domains) -> None:
        n = graph.n_atoms
        self.graph = graph
        self.domains = domains
        self.degree = torch.bincount(graph.centers, minlength=n)
        self.first_edge = self.degree.cumsum(0) - self.degree
        self.elements, self.element = torch.unique(graph.numbers, return_inverse=True)
        owner = torch.repeat_interleave(domains.sizes)
        self.keys = owner * n + domains.atoms
        self.edge_counts = torch.zeros_like(domains.sizes).index_add(
            0, owner, self.degree[domains.atoms]
        )

    def copies(self, frames: Tensor, domain: Tensor) -> Copies:
        """Copy ``domain`` [n] once for each of ``frames`` [n].

        The nodes of a copy are those of its domain, in order; copies follow each other, carriers
        come last.
        """
        graph, sizes = self.graph, self.domains.sizes[domain]
        copy_start = _offsets(sizes)
        copy = torch.repeat_interleave(sizes)
        member = self.domains.start[domain][copy] + run_index(sizes)
        atoms = self.domains.atoms[member]

        degree = self.degree[atoms]
        node = torch.repeat_interleave(degree)
        edge_start = _offsets(degree)
        edges = self.first_edge[atoms][node] + run_index(degree)

        others, inside = self._locate(domain[copy[node]], graph.others[edges])
        shift = (copy_start[:-1] - self.domains.start[domain])[copy[node]]
        carriers = len(atoms) + self.element[graph.others[edges]]
        other_nodes = torch.where(inside, others + shift, carriers)
        reversed_edges = graph.reverse[edges]
        in_node = reversed_edges - self.first_edge[graph.others[edges]]
        here = torch.arange(len(edges), device=edges.device)
        partner = torch.where(inside, other_nodes, 0)
        reverse = torch.where(inside, edge_start[partner] + in_node, here)

        numbers = torch.cat([graph.numbers[atoms], self.elements])
        of_carriers = self.elements.new_full(self.elements.shape, graph.n_systems - 1)
        copied = Graph(
            numbers=numbers,
            system_index=torch.cat([graph.system_index[atoms], of_carriers]),
            n_systems=graph.n_systems,
            centers=node,
            others=other_nodes,
            reverse=reverse,
            vectors=graph.vectors[edges],
            charge=graph.charge,
            spin=graph.spin,
            space=graph.space and graph.space.copied(atoms, len(self.elements)),
        )
        return Copies(copied, frames[copy[node]], edges, atoms)

    def _locate(self, domain: Tensor, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Place of atoms [n] in domains [n], and whether they are there."""
        wanted = domain * self.graph.n_atoms + atoms
        place = torch.searchsorted(self.keys, wanted).clamp_max(len(self.keys) - 1)
        return place, self.keys[place] == wanted


def _offsets(counts: Tensor) -> Tensor:
    """[n] counts -> [n + 1] starts."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
