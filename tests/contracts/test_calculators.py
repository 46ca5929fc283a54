"""The conformance kit over calculators: ours, and one that is not ours."""

from __future__ import annotations

import pytest
from ase.calculators.emt import EMT

from ase_pet import PETCalculator
from ase_pet.formats.model import Model
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.total import Total
from ase_pet.testing import check_calculator
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_pet

EVERY = structures(SPECIES)
FEW = {name: EVERY[name] for name in ("triclinic", "wire", "molecule", "line", "atom")}


@pytest.mark.parametrize("symmetry", ["O(3)", "SO(3)", None])
@pytest.mark.parametrize("skin", [0.0, 0.5])
def test_our_calculator(symmetry: str | None, skin: float) -> None:
    composition = Composition({1: -13.5, 6: -1030.25, 8: -2041.125})
    model = Model(Total(tiny_pet(cutoff=2.2), composition), "float64")
    calculator = PETCalculator(model, dtype="float64", symmetry=symmetry, skin=skin)
    found = check_calculator(calculator, SPECIES, 2.2, symmetry=symmetry, structures=FEW)
    assert found["forces"] > 0
    assert found.get("rotation", 1.0) > 0


def test_a_calculator_of_others() -> None:
    """EMT has no smooth cutoff."""
    few = {name: atoms for name, atoms in structures((13, 29)).items() if name in FEW}
    check_calculator(EMT(), (13, 29), 6.0, symmetry="O(3)", structures=few, continuous=False)
