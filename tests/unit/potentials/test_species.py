from __future__ import annotations

import pytest
import torch
from ase.data import chemical_symbols

from ase_pet.errors import UnknownSpeciesError
from ase_pet.potentials.species import SpeciesTable, symbols


def test_indices_follow_the_sorted_species() -> None:
    table = SpeciesTable([8, 1, 6])
    assert table.species == (1, 6, 8)
    assert table(torch.tensor([8, 8, 1, 6])).tolist() == [2, 2, 0, 1]
    assert table(torch.tensor([], dtype=torch.int64)).tolist() == []


@pytest.mark.parametrize("number", [7, 0, -1, 118, 119, 10**6])
def test_unknown_elements_are_named_with_the_known_ones(number: int) -> None:
    name = chemical_symbols[number] if 0 <= number < 119 else f"element {number}"
    with pytest.raises(UnknownSpeciesError, match=f"does not know {name};.*H, O"):
        SpeciesTable([1, 8])(torch.tensor([1, number, 8, number]))


@pytest.mark.parametrize("species", [[], [1, 1], [-1], [119]])
def test_a_table_needs_distinct_elements(species: list[int]) -> None:
    with pytest.raises(ValueError, match="species: expected"):
        SpeciesTable(species)


def test_symbols_are_those_of_the_periodic_table() -> None:
    assert symbols(range(119)).split(", ") == chemical_symbols
