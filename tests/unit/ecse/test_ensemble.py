from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_pet.data import Graph
from ase_pet.ecse.ensemble import Domains, Expansion
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_pet

STRUCTURES = structures(SPECIES)


def chain() -> Graph:
    return graph_of([Atoms("COCOC", [[1.5 * k, 0.1 * k**2, 0.0] for k in range(5)])], 2.0)


def members(domains: Domains, k: int) -> list[int]:
    return domains.atoms[domains.start[k] : domains.start[k + 1]].tolist()


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_ego_domains_are_the_atoms_less_than_so_many_hops_away(n_layers: int) -> None:
    domains = Domains.ego(chain(), n_layers)
    for i in range(5):
        assert members(domains, i) == [j for j in range(5) if abs(i - j) < n_layers]
    assert domains.sizes.sum() == len(domains.atoms)


def test_ego_domains_of_periodic_cells_count_an_atom_once() -> None:
    graph = graph_of([STRUCTURES["one_atom_cell"], STRUCTURES["triclinic"]], 2.6)
    domains = Domains.ego(graph, 2)
    assert [members(domains, k) for k in range(4)] == [[0], [1, 2, 3], [1, 2, 3], [1, 2, 3]]


def test_labels_partition_the_atoms() -> None:
    domains = Domains.from_labels(torch.tensor([0, 0, 2]), 4)
    assert [members(domains, k) for k in range(4)] == [[0, 1], [], [2], []]


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("ego", [True, False])
def test_a_copy_has_the_energies_of_the_original(n_layers: int, ego: bool) -> None:
    names = ["one_atom_cell", "triclinic", "atom", "molecule"]
    graph = graph_of([STRUCTURES[name] for name in names], 2.2)
    pet = tiny_pet(n_layers, cutoff=2.2)
    expected = pet(graph)
    domains = Domains.ego(graph, n_layers)
    if not ego:
        domains = Domains.from_labels(graph.system_index, graph.n_systems)
    n_domains = len(domains.sizes)
    order = torch.tensor(np.random.default_rng(0).permutation(2 * n_domains) % n_domains)
    of_read = torch.repeat_interleave(domains.sizes[order])
    readers = torch.cat([domains.atoms[domains.start[k] : domains.start[k + 1]] for k in order])
    if ego:
        of_read, readers = torch.arange(len(order)), order
    copies = Expansion(graph, domains, n_layers).copies(order, of_read, readers)
    assert torch.equal(copies.nodes[copies.reads], readers)
    assert len(readers) == 2 * graph.n_atoms
    read = pet(copies.graph)[copies.reads]
    torch.testing.assert_close(read, expected[readers], rtol=1e-13, atol=1e-13)


def test_copies_are_disconnected_and_know_their_frame() -> None:
    graph = chain()
    expansion = Expansion(graph, Domains.ego(graph, 2), 2)
    readers = torch.tensor([0, 2])
    copies = expansion.copies(readers, torch.arange(2), readers)
    assert copies.nodes.tolist() == [0, 2, 1, 1, 3]
    assert copies.reads.tolist() == [0, 1]
    assert copies.graph.hops is not None
    assert copies.graph.hops.tolist() == [0, 0, 1, 1, 1, 2, 2]
    copied = copies.graph
    n_nodes = len(copies.nodes)
    copy = torch.tensor([0, 1, 0, 1, 1])
    assert torch.equal(copies.copies, copy[copied.centers])
    inside = copied.others < n_nodes
    assert torch.equal(copy[copied.others[inside]], copy[copied.centers[inside]])
    assert torch.equal(copied.numbers[copied.others], graph.numbers[graph.others[copies.edges]])
    assert torch.equal(copied.vectors, graph.vectors[copies.edges])
    reverse = copied.reverse[inside]
    assert torch.equal(copied.centers[reverse], copied.others[inside])
    assert torch.equal(copied.others[reverse], copied.centers[inside])
    assert torch.equal(copied.vectors[reverse], -copied.vectors[inside])


def test_one_carrier_for_each_element_stands_for_all_outside() -> None:
    graph = chain()
    atoms = torch.arange(5)
    copies = Expansion(graph, Domains.ego(graph, 1), 1).copies(atoms, atoms, atoms)
    assert copies.graph.n_atoms == 5 + 2
    assert bool((copies.graph.others >= 5).all())
    assert copies.graph.n_edges == graph.n_edges
