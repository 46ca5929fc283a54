from __future__ import annotations

import math

import pytest
import torch
from ase import Atoms

from ase_pet.engine import Engine
from ase_pet.errors import GeometryError
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.potentials.tensornet_charges import Charges, Coulomb
from ase_pet.potentials.total import Total
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_tensornet


def test_charges_add_up_to_the_total_of_each_structure() -> None:
    every = structures(SPECIES)
    graph = graph_of([every["bent"], every["molecule"]], 3.0)
    x = torch.randn(9, graph.n_atoms, 4, dtype=torch.float64)
    total = torch.tensor([[0.0], [-2.0]], dtype=torch.float64)
    charges = Charges(4, 3, torch.nn.SiLU()).double()(x, graph, total)
    sums = charges.new_zeros(2, 3).index_add(0, graph.system_index, charges)
    # Shares carry a least sum in their denominator.
    torch.testing.assert_close(sums, total.expand(2, 3), rtol=1e-2, atol=1e-2)


def test_coulomb_energy_of_point_charges() -> None:
    """Far apart undamped, close by damped, channels averaged by weight."""
    term = Coulomb(2).double()
    term.weights.copy_(torch.tensor([1.0, 3.0]))
    charges = torch.tensor([[1.0, 0.5], [-1.0, 2.0]], dtype=torch.float64)
    mean = (1.0 * -1.0 + 3.0 * 1.0) / 4.0
    for r in (2.3, 7.0):
        energies = term(charges, graph_of([Atoms("HC", [[0, 0, 0], [0, 0, r]])], 9.0))
        inside = r < 4.6
        factor = 1 - math.exp(1 - 1 / (1 - (r / 4.6) ** 2)) if inside else 1.0
        expected = 14.399645478425668 * factor * mean / r
        # The original's constants are those of CODATA 2014.
        assert float(energies.sum()) == pytest.approx(expected, rel=1e-7)
        assert float(energies[0]) == pytest.approx(float(energies[1]), rel=1e-14)


def test_distant_fragments_feel_each_others_charges() -> None:
    """All atoms are neighbours of each other, as far apart as they may be."""
    net = tiny_tensornet(1, n_charges=2, coulomb=True)
    engine = Engine(Total(net), device="cpu", charge=2.0)
    energies = []
    for distance in (200.0, 400.0, 800.0):
        atoms = Atoms("HC", [[0, 0, 0], [0, 0, distance]])
        energies.append(float(engine(system_from_atoms([atoms])).energy))
    first, second = energies[0] - energies[1], energies[1] - energies[2]
    assert abs(first) > 1e-6
    assert first == pytest.approx(2.0 * second, rel=1e-6)


def test_periodic_structures_are_refused() -> None:
    engine = Engine(Total(tiny_tensornet(1, n_charges=2, coulomb=True)), device="cpu")
    with pytest.raises(GeometryError, match=r"pbc: .*finite structures only; set pbc=False"):
        engine(system_from_atoms([structures(SPECIES)["bulk"]]))


def test_gradients_are_exact_and_messages_know_of_charges() -> None:
    graph = graph_of([structures(SPECIES)["molecule"]], 20.0)
    net = tiny_tensornet(2, n_charges=2, coulomb=True)
    vectors = graph.vectors.detach().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda v: net(graph.with_vectors(v)), (vectors,), fast_mode=True, atol=1e-6
    )
    bare = tiny_tensornet(2, n_charges=2)
    before = bare(graph)
    with torch.no_grad():
        bare.charges[0].values[4].bias.add_(0.3)
    assert float((bare(graph) - before).abs().max()) > 1e-5
