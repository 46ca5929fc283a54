from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ase.build import bulk, molecule

from ase_pet.potentials.pet import parts
from ase_pet.potentials.pet.parts import Arrangement
from ase_pet.testing.evaluators import graph_of

GRAPH = graph_of([molecule("CH3CH2OH"), bulk("Cu", cubic=True) * (3, 3, 3)], 4.0)


def test_atoms_of_similar_numbers_of_neighbours_are_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "ROWS", 200)
    arranged = Arrangement.of(GRAPH, 1)
    divided = list(arranged.divide())
    n_rows = [
        (atoms.stop - atoms.start) * (1 + int(arranged.counts[atoms].max()))
        for _, atoms, _ in divided
    ]
    whole = GRAPH.n_atoms * (1 + int(arranged.counts.max()))
    used = GRAPH.n_atoms + GRAPH.n_edges
    assert max(n_rows) <= 200
    assert sum(n_rows) - used < 0.5 * (whole - used)
    ends = [(atoms.stop, edges.stop) for _, atoms, edges in divided]
    starts = [(atoms.start, edges.start) for _, atoms, edges in divided]
    assert [(0, 0), *ends] == [*starts, (GRAPH.n_atoms, GRAPH.n_edges)]


def test_an_arrangement_is_the_same_graph() -> None:
    hops = torch.arange(GRAPH.n_atoms).div(40, rounding_mode="floor")
    graph = replace(GRAPH, hops=hops)
    arranged = Arrangement.of(graph, 2)
    n = int((hops < 2).sum())
    assert sorted(arranged.atoms.tolist()) == list(range(n))
    assert bool((hops[arranged.atoms].diff() >= 0).all())
    assert torch.equal(arranged.atoms[arranged.centers], graph.centers[arranged.edges])
    assert torch.equal(graph.others[arranged.edges], arranged.others)
    here = torch.arange(len(arranged.edges))
    assert torch.equal(arranged.places[arranged.edges], here)
    back = arranged.edges[arranged.reverse]
    paired = hops[graph.others[arranged.edges]] < 2
    assert torch.equal(back[paired], graph.reverse[arranged.edges[paired]])
    assert torch.equal(arranged.reverse[~paired], here[~paired])
    assert int((~paired).sum()) > 0
