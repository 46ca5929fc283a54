from __future__ import annotations

import pytest
import torch
from ase.build import molecule

from ase_pet.errors import UnknownSpeciesError
from ase_pet.potentials.composition import Composition
from ase_pet.testing.evaluators import graph_of

ENERGIES = {6: -1030.123456789012, 1: -13.598765432109}


def test_each_atom_has_the_energy_of_its_element() -> None:
    graph = graph_of([molecule("CH4"), molecule("H2")], 2.0)
    composition = Composition(ENERGIES)
    expected = [ENERGIES[z] for z in graph.numbers.tolist()]
    assert composition(graph).tolist() == expected
    assert composition.energies == ENERGIES
    assert composition.species == (1, 6)


def test_the_digits_survive_a_network_in_single_precision() -> None:
    graph = graph_of([molecule("CH4")], 2.0)
    both = torch.nn.ModuleDict(
        {"network": torch.nn.Linear(1, 1), "composition": Composition(ENERGIES)}
    )
    both.float()
    assert both["network"].weight.dtype == torch.float32
    assert both["composition"](graph)[0].item() == ENERGIES[6]


def test_bad_energies_are_refused() -> None:
    with pytest.raises(ValueError, match="energies: expected finite"):
        Composition({1: float("nan")})
    with pytest.raises(ValueError, match="species: expected"):
        Composition({})
    with pytest.raises(UnknownSpeciesError, match="O"):
        Composition(ENERGIES)(graph_of([molecule("H2O")], 2.0))
