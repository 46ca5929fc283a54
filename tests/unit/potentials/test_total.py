from __future__ import annotations

import torch
from ase.build import molecule

from ase_pet.potentials.composition import Composition
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL
from ase_pet.testing.evaluators import graph_of
from tests.tiny import tiny_pet

COMPOSITION = Composition({1: -13.5, 6: -1030.25, 8: -2041.125})


def test_it_is_the_sum_of_its_terms() -> None:
    pet, zbl = tiny_pet(), ZBL(0.5, 1.2)
    graph = graph_of([molecule("CH3OH"), molecule("H2O")], 2.6)
    expected = pet(graph) + zbl(graph) + COMPOSITION(graph)
    torch.testing.assert_close(Total(pet, COMPOSITION, zbl)(graph), expected, rtol=1e-15, atol=0)
    torch.testing.assert_close(Total(pet)(graph), pet(graph), rtol=0, atol=0)
    assert float((zbl(graph)).abs().max()) > 1e-3


def test_energies_are_double_whatever_the_network_is() -> None:
    graph = graph_of([molecule("CH4")], 2.6)
    single = Total(tiny_pet().float(), COMPOSITION)(graph)
    double = Total(tiny_pet(), COMPOSITION)(graph)
    assert single.dtype == torch.float64
    assert float((single - double).abs().max()) < 1e-5


def test_it_reaches_as_far_as_its_farthest_term() -> None:
    total = Total(tiny_pet(2, cutoff=2.0), COMPOSITION, ZBL(0.5, 2.5))
    assert total.cutoff == 2.5
    assert total.n_layers == 2
    assert total.species == (1, 6, 8)
    assert Total(tiny_pet(), None, ZBL()).n_layers == 1


def test_edges_beyond_a_shorter_cutoff_do_not_matter() -> None:
    pet = tiny_pet(2, cutoff=2.0)
    atoms = [molecule("CH3CH2OH")]
    short, long = graph_of(atoms, 2.0), graph_of(atoms, 3.5)
    assert long.n_edges > short.n_edges
    torch.testing.assert_close(Total(pet)(long), Total(pet)(short), rtol=1e-13, atol=1e-13)
