"""Which frame serves which atoms, and the rotated copies of the graph that follow.

A copy is a domain seen in a frame: the atoms whose energies are read in it, and those that these
depend on, less than ``n_layers`` hops away. ``local``: a frame serves the atom that made it.
``global``: it serves, and its domain is, the whole structure. ``shared``: it serves some atoms
around.

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
        hops: [n_members], int64, from the nearest atom whose energy is read.
        start: [n_domains + 1], int64, where each domain begins.
    """

    atoms: Tensor
    hops: Tensor
    start: Tensor

    @property
    def sizes(self) -> Tensor:
        """Atoms in each domain, [n_domains]."""
        return self.start.diff()

    @staticmethod
    def from_labels(labels: Tensor, n_domains: int) -> Domains:
        """Domains that partition the atoms by sorted labels [n_atoms]; all of them are read."""
        counts = torch.bincount(labels, minlength=n_domains)
        atoms = torch.arange(len(labels), device=labels.device)
        return Domains(atoms, torch.zeros_like(atoms), offsets(counts))

    @staticmethod
    def ego(graph: Graph, n_layers: int) -> Domains:
        """For each atom, itself and the atoms less than ``n_layers`` hops away."""
        atoms = torch.arange(graph.n_atoms, device=graph.numbers.device)
        return Domains.around(graph, atoms, atoms, graph.n_atoms, n_layers)

    @staticmethod
    def around(
        graph: Graph, domain: Tensor, readers: Tensor, n_domains: int, n_layers: int
    ) -> Domains:
        """Atoms that are read, and all less than ``n_layers`` hops away from one of them.

        Args:
            graph: Edges sorted by centre.
            domain: [n], int64, to which each reader belongs.
            readers: [n], int64, atoms; none twice in a domain.
            n_domains: Number of domains.
            n_layers: Hops in which atoms matter.
        """
        n = graph.n_atoms
        degree = torch.bincount(graph.centers, minlength=n)
        first = degree.cumsum(0) - degree
        keys = torch.sort(domain * n + readers)[0]
        layers = [keys]
        for _ in range(n_layers - 1):
            owner, member = layers[-1] // n, layers[-1] % n
            parent = torch.repeat_interleave(degree[member])
            reached = graph.others[first[member][parent] + run_index(degree[member])]
            reached = torch.unique(owner[parent] * n + reached)
            layers.append(reached[~_find(keys, reached)[1]])
            keys = torch.sort(torch.cat([keys, layers[-1]]))[0]
        hops = torch.repeat_interleave(keys.new_tensor([len(layer) for layer in layers]))
        keys, order = torch.sort(torch.cat(layers))
        return Domains(
            keys % n, hops[order], offsets(torch.bincount(keys // n, minlength=n_domains))
        )


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Rotated copies of domains, as one disconnected graph.

    Attributes:
        graph: Atoms of all copies by their hops, then the carriers; its vectors are not rotated
            yet.
        copies: [n_edges], the copy of each edge.
        edges: [n_edges], the original edge.
        nodes: [n_members], the original atom of each node that is not a carrier.
        node_copies: [n_members], the copy of each of them.
        reads: [n_reads], the node of each read.
    """

    graph: Graph
    copies: Tensor
    edges: Tensor
    nodes: Tensor
    node_copies: Tensor
    reads: Tensor


class Expansion:
    """Makes copies of domains.

    Args:
        graph: The original graph, edges sorted by centre.
        domains: Sets of its atoms.
        n_layers: Hops over which atoms matter to those whose energies are read.
    """

    def __init__(self, graph: Graph, domains: Domains, n_layers: int) -> None:
        n = graph.n_atoms
        self.graph = graph
        self.n_layers = n_layers
        self.domains = domains
        self.degree = torch.bincount(graph.centers, minlength=n)
        self.first_edge = self.degree.cumsum(0) - self.degree
        self.elements, self.element = torch.unique(graph.numbers, return_inverse=True)
        owner = torch.repeat_interleave(domains.sizes)
        self.keys = owner * n + domains.atoms
        self.edge_counts = torch.zeros_like(domains.sizes).index_add(
            0, owner, self.degree[domains.atoms]
        )

    def copies(self, domain: Tensor, of_read: Tensor, readers: Tensor) -> Copies:
        """Copy each of ``domain`` [n] once.

        Args:
            domain: [n], int64.
            of_read: [n_reads], int64, copies, of which energies are read.
            readers: [n_reads], int64, the atoms that read them.
        """
        graph, sizes = self.graph, self.domains.sizes[domain]
        copy_start = offsets(sizes)[:-1]
        copy = torch.repeat_interleave(sizes)
        member = self.domains.start[domain][copy] + run_index(sizes)
        shift = copy_start - self.domains.start[domain]  # from members to copies of them
        hops = self.domains.hops
        order = torch.argsort(hops[member], stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        copy, member = copy[order], member[order]
        atoms = self.domains.atoms[member]

        degree = self.degree[atoms]
        node = torch.repeat_interleave(degree)
        edge_start = degree.cumsum(0) - degree
        edges = self.first_edge[atoms][node] + run_index(degree)
        of_edge = copy[node]

        neighbors = graph.others[edges]
        others, inside = self._locate(domain[of_edge], neighbors)
        carriers = len(atoms) + self.element[neighbors]
        other_nodes = torch.where(
            inside, place[torch.where(inside, others + shift[of_edge], 0)], carriers
        )
        in_node = graph.reverse[edges] - self.first_edge[neighbors]
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
            hops=torch.cat([hops[member], torch.full_like(self.elements, self.n_layers)]),
        )
        read = self._locate(domain[of_read], readers)[0] + shift[of_read]
        return Copies(copied, of_edge, edges, atoms, copy, place[read])

    def _locate(self, domain: Tensor, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Place of atoms [n] in domains [n], and whether they are there."""
        return _find(self.keys, domain * self.graph.n_atoms + atoms)


def _find(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Place of wanted [n] among sorted keys, which are not empty, and whether they are there."""
    place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    return place, keys[place] == wanted


def offsets(counts: Tensor) -> Tensor:
    """[n] counts -> [n + 1] starts."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
