"""The i-PI driver: units, signs, and lists of beads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from ase_pet import PETCalculator
from ase_pet.errors import UnknownSpeciesError
from tests.optional import imported, needs

pytestmark = needs("ipi")
CELL = np.array([[9.0, 0.0, 0.0], [1.0, 8.0, 0.0], [0.5, 0.2, 7.0]])


def make(folder: Path, atoms: Atoms, **options: Any) -> Any:
    atoms.write(folder / "start.xyz", format="extxyz")
    driver = imported("ase_pet.interfaces.ipi_driver").PETDriver
    template = str(folder / "start.xyz")
    return driver(template, "tensornet-ethanol", verbosity=0, dtype="float64", **options)


def beads() -> list[Atoms]:
    made = []
    for k in range(3):
        atoms = molecule("CH3CH2OH", cell=CELL)
        atoms.rattle(0.05, seed=k)
        made.append(atoms)
    return made


def test_numbers_of_the_calculator_in_atomic_units(tmp_path: Path) -> None:
    driver, structures = make(tmp_path, beads()[0]), beads()
    # In i-PI's own constants, which are of another year than ASE's: stiff bonds would tell.
    bohr = 1.0 / imported("ipi.utils.units").unit_to_internal("length", "angstrom", 1.0)
    assert bohr == pytest.approx(units.Bohr, rel=1e-7)
    cells = [atoms.cell.array.T / bohr for atoms in structures]  # lattice vectors in columns
    positions = [atoms.positions / bohr for atoms in structures]
    together = driver(cells, positions)
    alone = driver(cells[1], positions[1])
    calculator = PETCalculator("tensornet-ethanol", dtype="float64")
    for k, (atoms, (energy, forces, virial, extras)) in enumerate(
        zip(structures, together, strict=True)
    ):
        atoms.calc = calculator
        wanted = atoms.get_forces() * units.Bohr / units.Hartree
        near = {"rtol": 2e-7, "atol": 1e-10}  # the constants again
        assert np.allclose(energy, atoms.get_potential_energy() / units.Hartree, **near)
        assert np.allclose(forces, wanted, **near)
        stress = atoms.get_stress(voigt=False) * atoms.get_volume() / units.Hartree
        assert np.allclose(virial.reshape(3, 3), -stress, **near)
        assert abs(stress).max() > 1e-3
        assert np.allclose(json.loads(extras)["dipole"], atoms.get_dipole_moment(), **near)
        if k == 1:
            assert np.allclose(forces, alone[1], rtol=0, atol=1e-12)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UnknownSpeciesError, match="Cl"):
        make(tmp_path, molecule("CH3Cl", vacuum=3.0))
    with pytest.raises(ValueError, match="symmetry: expected one of"):
        make(tmp_path, beads()[0], symmetry="U(1)")
