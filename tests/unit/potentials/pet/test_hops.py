"""Atoms of which nobody reads the energy are evaluated only as far as others see them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ase import Atoms
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.potentials.pet import PET, ModernPET
from ase_pet.potentials.pet.parts import Part
from ase_pet.testing.evaluators import graph_of
from tests.tiny import SPECIES, tiny_modern_pet, tiny_pet
from tests.unit.potentials.pet import test_modern, test_original

CUTOFF = 1.9
SHORT = [option for option in test_modern.OPTIONS if isinstance(option, dict)]
PRENORM, POSTNORM = {"transformer": "PreLN"}, {"transformer": "PostLN"}
ORIGINAL = [{}, *test_original.OPTIONS, {**PRENORM, "n_attention_layers": 2}]
MODERN = [
    {**option, "messages": messages, **narrow}
    for option in [{}, *SHORT, {**POSTNORM, "n_attention_layers": 2}]
    for messages in ("residual", "feedforward")
    for narrow in ({}, {"d_node": 8})
]


def random_graph(seed: int) -> Graph:
    """A rod that is periodic along its axis, another one, and an atom alone."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(20, 3, generator=generator).double() - 0.5
    positions[:, 0] += 0.9 * torch.arange(20)
    numbers = torch.tensor(SPECIES)[torch.randint(3, (20,), generator=generator)]
    rod = Atoms(numbers.numpy(), positions.numpy(), cell=[18.0, 9.0, 9.0], pbc=[True, False, False])
    return graph_of([rod, rod[:7], Atoms("O")], CUTOFF)


def with_hops(graph: Graph, read: Tensor, depth: int) -> tuple[Graph, Tensor, Tensor]:
    """The same graph seen from the atoms ``read``; its atoms and edges in the original.

    Atoms at ``depth`` hops or more lose their edges.
    """
    hops = torch.full((graph.n_atoms,), depth).index_fill_(0, read, 0)
    for h in range(1, depth):
        near = graph.others[hops[graph.centers] == h - 1]
        hops[near] = hops[near].clamp_max(h)
    atoms = torch.argsort(hops, stable=True)
    place = torch.argsort(atoms)
    within = (hops[graph.centers] < depth).nonzero().flatten()
    edges = within[torch.argsort(place[graph.centers[within]], stable=True)]
    new = torch.full((graph.n_edges,), -1).index_copy_(0, edges, torch.arange(len(edges)))
    reverse = new[graph.reverse[edges]]
    seen = replace(
        graph,
        numbers=graph.numbers[atoms],
        system_index=graph.system_index[atoms],
        centers=place[graph.centers[edges]],
        others=place[graph.others[edges]],
        reverse=torch.where(reverse < 0, torch.arange(len(edges)), reverse),
        vectors=graph.vectors[edges],
        hops=hops[atoms],
        shifts=None,
    )
    return seen, atoms, edges


def energies_and_slopes(model: PET | ModernPET, graph: Graph, weights: Tensor) -> list[Tensor]:
    vectors = graph.vectors.detach().requires_grad_(True)
    energies = model(graph.with_vectors(vectors))
    return [energies.detach(), torch.autograd.grad(energies, vectors, weights)[0]]


def assert_reads_the_same(model: PET | ModernPET, seed: int) -> None:
    graph, generator = random_graph(seed), torch.Generator().manual_seed(seed)
    read = torch.randperm(graph.n_atoms, generator=generator)[: 1 + 2 * seed]
    weights = torch.zeros(graph.n_atoms).double().index_fill_(0, read, 1.0)
    weights *= torch.randn(graph.n_atoms, generator=generator)
    energies, slopes = energies_and_slopes(model, graph, weights)
    seen, atoms, edges = with_hops(graph, read, model.n_layers)
    found, back = energies_and_slopes(model, seen, weights[atoms])
    n_read = len(read)
    torch.testing.assert_close(found[:n_read], energies[atoms[:n_read]], rtol=0.0, atol=1e-13)
    assert not bool(found[n_read:].any())
    spread = torch.zeros_like(slopes).index_copy_(0, edges, back)
    torch.testing.assert_close(spread, slopes, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("option", ORIGINAL, ids=test_modern.identify)
def test_the_original_reads_the_same(option: dict, n_layers: int) -> None:
    for seed in range(2):
        assert_reads_the_same(tiny_pet(n_layers, cutoff=CUTOFF, **option), seed)


@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("option", MODERN, ids=test_modern.identify)
def test_the_modern_one_reads_the_same(option: dict, n_layers: int) -> None:
    for seed in range(2):
        assert_reads_the_same(tiny_modern_pet(n_layers, cutoff=CUTOFF, **option), seed)


@pytest.mark.parametrize("n_layers", [2, 3])
@pytest.mark.parametrize("make", [tiny_pet, tiny_modern_pet])
def test_layers_take_only_what_is_read(
    make: type, n_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    fewer: list[bool] = []
    transform = Part.transform

    def count(self: Part, block: object, x: Tensor, *args: Tensor, **options: bool) -> tuple:
        made = transform(self, block, x, *args, **options)
        rows.append(len(made[1]))
        fewer.append(len(made[1]) < len(x))
        return made

    monkeypatch.setattr(Part, "transform", count)
    model, graph = make(n_layers, cutoff=CUTOFF), random_graph(0)
    model(graph)
    whole = sum(rows)
    assert not any(fewer)
    rows.clear()
    model(with_hops(graph, torch.tensor([3]), model.n_layers)[0])
    assert 0 < sum(rows) < whole / 4
    assert sum(fewer) == model.n_layers - 1  # the last block of each shell but the first
