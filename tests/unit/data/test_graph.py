from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ase import Atoms

from ase_pet.data import Edges, Graph, System
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.neighbors import make_search
from ase_pet.potentials.pet.tokens import keep_edges


def skewed() -> tuple[System, Edges]:
    atoms = Atoms(
        "CHO",
        [[0.1, 0.2, 0.3], [40.0, -7.0, 1.0], [1.0, 1.1, 0.7]],
        cell=[[2.1, 0.3, 0.0], [-1.0, 2.4, 0.5], [0.2, 0.9, 2.0]],
        pbc=[True, False, True],
    )
    system = system_from_atoms([atoms])
    return system, make_search()(system, 3.0)


def test_vectors_are_differences_of_positions_and_images() -> None:
    system, edges = skewed()
    e = edges.n_edges // 2
    i, j = int(edges.centers[e]), int(edges.others[e])
    expected = system.positions[j] - system.positions[i]
    expected = expected + edges.shifts[e].double() @ system.cell[0]
    assert edges.n_edges > 20
    torch.testing.assert_close(edges.vectors(system)[e], expected, rtol=0, atol=1e-14)


def test_vectors_are_antisymmetric_bit_for_bit() -> None:
    system, edges = skewed()
    vectors = edges.vectors(system)
    assert torch.equal(vectors[edges.reverse], -vectors)


def test_each_edge_uses_the_cell_of_its_structure() -> None:
    system, edges = skewed()
    doubled = System(
        2 * system.positions, system.numbers, 2 * system.cell, system.pbc, system.system_index
    )
    batch = System.cat([system, doubled])
    search = make_search()
    both = search(batch, 3.0)
    first = both.vectors(batch)[: edges.n_edges]
    torch.testing.assert_close(first, edges.vectors(system), rtol=0, atol=0)
    single = search(doubled, 3.0)
    torch.testing.assert_close(both.vectors(batch)[edges.n_edges :], single.vectors(doubled))


def test_a_graph_knows_no_positions() -> None:
    system, edges = skewed()
    graph = Graph.build(system, edges)
    assert not {"positions", "cell"} & set(Graph.__slots__)
    assert graph.shifts is edges.shifts  # which periodic image, not where
    assert (graph.n_atoms, graph.n_edges, graph.n_systems) == (3, edges.n_edges, 1)
    turned = graph.with_vectors(-graph.vectors)
    assert torch.equal(turned.vectors, -graph.vectors)
    assert turned.centers is graph.centers


@pytest.mark.parametrize("name", ["centers", "others", "reverse", "shifts"])
def test_integers_of_wrong_shape_or_dtype_are_named(name: str) -> None:
    system, edges = skewed()
    values = {key: getattr(edges, key) for key in ("centers", "others", "shifts", "reverse")}
    with pytest.raises(ValueError, match=f"{name}: expected dtype torch.int64"):
        Edges(**{**values, name: values[name].int()})
    graph = Graph.build(system, edges)
    fields = {key: getattr(graph, key) for key in Graph.__slots__}
    with pytest.raises(ValueError, match=f"{name}: expected dtype torch.int64"):
        Graph(**{**fields, name: fields[name].double()})


def test_shapes_must_agree() -> None:
    system, edges = skewed()
    with pytest.raises(ValueError, match=r"shifts: expected shape \[\d+, 3\]"):
        Edges(edges.centers, edges.others, edges.shifts[1:], edges.reverse)
    graph = Graph.build(system, edges)
    with pytest.raises(ValueError, match=r"spin: expected shape \[1\], got \[2\]"):
        replace(graph, spin=torch.ones(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"vectors: expected shape"):
        graph.with_vectors(graph.vectors[:-1])


def test_sums_of_structures() -> None:
    numbers, none = torch.tensor([1, 6, 8]), torch.zeros(0, dtype=torch.int64)
    system_index = torch.tensor([0, 0, 1])
    joined = Graph(numbers, system_index, 3, none, none, none, torch.zeros(0, 3))
    sums = joined.of_structures(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert sums.tolist() == [[4.0, 6.0], [5.0, 6.0], [0.0, 0.0]]


def test_hops_stay_with_the_atoms() -> None:
    system, edges = skewed()
    graph = replace(Graph.build(system, edges), hops=torch.tensor([0, 1, 1]))
    assert Graph.build(system, edges).hops is None
    for other in (
        graph.with_vectors(-graph.vectors),
        keep_edges(graph, torch.arange(graph.n_edges - 1)),
    ):
        assert torch.equal(other.hops, graph.hops)
    with pytest.raises(ValueError, match="hops"):
        replace(graph, hops=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="hops"):
        replace(graph, hops=torch.zeros(3))
