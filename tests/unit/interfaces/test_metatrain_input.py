"""What a PET of metatrain cannot answer is refused in words, through the calculator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress

from ase_pet import PETCalculator
from ase_pet.errors import CheckpointError, UnknownSpeciesError
from tests.foreign_metatrain import checkpoint, write
from tests.tiny import tiny_modern_pet


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(checkpoint(tiny_modern_pet(1, n_neighbors=4.0)), tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("model_ckpt_version", 17, "expected 1 to 16, got 17; written by a newer metatrain"),
        ("architecture_name", "mace", "expected 'pet', got 'mace'; only PET models of metatrain"),
    ],
)
def test_files_that_cannot_be_read(where: str, value: Any, message: str, tmp_path: Path) -> None:
    content = {**checkpoint(tiny_modern_pet()), where: value}
    with pytest.raises(CheckpointError, match=message):
        PETCalculator(write(content, tmp_path / "model.ckpt"))


def test_a_target_that_is_no_energy(tmp_path: Path) -> None:
    targets = {"energy": {"quantity": "energy"}, "mtt::dos": {"quantity": "", "unit": ""}}
    path = write(checkpoint(tiny_modern_pet(), targets=targets), tmp_path / "model.ckpt")
    assert PETCalculator(path).model.metadata["source"]["target"] == "energy"
    with pytest.raises(CheckpointError, match=r"'mtt::dos' is no energy; choose one of \['energy"):
        PETCalculator(path, target="mtt::dos")


def test_an_element_that_it_was_not_trained_on(path: Path) -> None:
    atoms = molecule("CH3Cl")
    with pytest.raises(UnknownSpeciesError, match="does not know Cl; it was trained on H, C, O"):
        atoms.calc = PETCalculator(path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"charge": 1}, "charge: the model was trained without a total charge, got charge=1"),
        ({"spin": 3}, "spin: the model was trained without a spin multiplicity, got spin=3"),
    ],
)
def test_a_charge_or_spin_without_conditioning(path: Path, state: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PETCalculator(path, **state)
    atoms = molecule("H2O")
    atoms.calc = PETCalculator(path)
    atoms.info |= state
    with pytest.raises(ValueError, match=message):
        atoms.get_potential_energy()


@pytest.mark.parametrize("symmetry", [None, "O(3)"])
@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"charge": -3}, "charge: .*whole numbers from -2 to 2, got -3"),
        ({"spin": 4}, "spin: .*whole numbers from 1 to 3, got 4"),
    ],
)
def test_a_charge_or_spin_beyond_the_table(
    state: dict, message: str, symmetry: str | None, tmp_path: Path
) -> None:
    network = tiny_modern_pet(1, conditioning=True, max_charge=2, max_spin=3)
    path = write(checkpoint(network), tmp_path / "model.ckpt")
    atoms = molecule("H2O")
    atoms.calc = PETCalculator(path, symmetry=symmetry, **state)
    with pytest.raises(ValueError, match=message):
        atoms.get_potential_energy()


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_the_stress_of_a_molecule_is_refused_not_infinite(forces: str, tmp_path: Path) -> None:
    from ase_pet.formats import Model
    from ase_pet.potentials.total import Total

    ones = (1.0, 1.0, 1.0)
    network = tiny_modern_pet(1, forces_scales=ones, stress_scales=ones)
    atoms = molecule("H2O")
    atoms.calc = PETCalculator(Model(Total(network), "float64"), forces=forces)
    with pytest.raises(PropertyNotImplementedError, match="three independent vectors"):
        atoms.get_stress()
    assert np.isfinite(atoms.get_forces()).all()
    assert "stress" not in atoms.calc.results


@pytest.mark.parametrize("symmetry", [None, "O(3)"])
def test_the_stress_of_a_slab_is_the_derivative_over_the_volume_of_its_cell(
    path: Path, symmetry: str | None
) -> None:
    atoms: Atoms = fcc111("C", (1, 1, 2), a=2.4, vacuum=4.0)
    atoms.rattle(0.1, seed=1)
    atoms.numbers[0] = 8
    assert atoms.pbc.tolist() == [True, True, False]
    atoms.calc = PETCalculator(path, symmetry=symmetry, dtype="float64")
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    assert np.abs(numerical[:2]).min() > 1e-3
    np.testing.assert_allclose(atoms.get_stress(), numerical, rtol=0, atol=1e-8)


@pytest.mark.parametrize("state", [{"charge": None}, {"charge": "1"}, {"spin": True}])
def test_a_charge_or_spin_that_is_no_number(path: Path, state: dict) -> None:
    ((name, value),) = state.items()
    with pytest.raises(ValueError, match=f"{name}: expected a number, got {value!r}"):
        PETCalculator(path, **state)
