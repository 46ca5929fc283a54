from __future__ import annotations

from typing import Any

import pytest
import torch
from ase.build import molecule
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.derivatives import evaluate
from ase_pet.ecse import Mirrored, Symmetrized, cost
from ase_pet.potentials.pet import PET
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_pet, tiny_tensornet

EVERY = structures(SPECIES)


class Counted(nn.Module):
    """A network that writes down what it is asked for."""

    def __init__(self, inside: PET) -> None:
        super().__init__()
        self.inside = inside
        self.seen: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("cutoff", "n_layers", "species", "symmetry", "memory"):
            return getattr(self.inside, name)
        return super().__getattr__(name)

    def forward(self, graph: Graph) -> Tensor:
        self.seen.append((graph.n_atoms, graph.n_edges))
        return self.inside(graph)


@pytest.mark.parametrize("name", ["molecule", "line", "atom", "triclinic"])
@pytest.mark.parametrize("ensemble", ["local", "shared", "global"])
@pytest.mark.parametrize("symmetry", ["O(3)", "SO(3)"])
def test_what_is_counted_is_what_is_evaluated(symmetry: str, ensemble: str, name: str) -> None:
    network = Counted(tiny_pet(2, cutoff=2.2))
    graph = graph_of([EVERY[name]], 2.2)
    per_atom = network.memory(1, int(torch.bincount(graph.centers, minlength=1).max()))
    for budget in (10**9, 20 * per_atom):
        wrapped = Symmetrized(network, symmetry=symmetry, ensemble=ensemble, memory_budget=budget)
        network.seen.clear()
        found = cost(wrapped, graph)
        assert network.seen == []  # no network is evaluated
        evaluate(wrapped, graph)
        n_carriers = len(set(EVERY[name].numbers))
        atoms = [n - n_carriers for n, _ in network.seen]
        assert found.n_atoms == sum(atoms)
        assert found.n_edges == sum(n for _, n in network.seen)
        assert found.memory == per_atom * max(atoms)
        parts = wrapped.ensemble(graph).evaluations()
        assert found.n_copies == sum(part.n_copies for part in parts)
        if ensemble == "global":
            assert found.n_atoms == found.n_copies * len(EVERY[name])


def test_without_coordinate_systems() -> None:
    graph = graph_of([molecule("CH3OH")], 2.6)
    network = tiny_tensornet(group="SO(3)")
    one, two = cost(network, graph), cost(Mirrored(network), graph)
    assert (one.n_copies, one.n_atoms, one.n_edges) == (1, 6, graph.n_edges)
    assert (two.n_copies, two.n_atoms) == (2, 12)
    assert two.memory == 2 * one.memory == 2 * network.memory(6, 5)
