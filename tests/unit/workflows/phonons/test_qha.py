"""The quasi-harmonic approximation obeys the relations of thermodynamics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import kJ, mol

from ase_pet.workflows.phonons import PhononSettings, compute_qha

SETTINGS = PhononSettings(supercell=(2, 2, 2), mesh=8.0, n_points=2, max_temperature=400.0)
CHANGES = (-0.02, 0.0, 0.02, 0.04, 0.06)


def copper() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.5896, cubic=True)
    atoms.calc = EMT()
    return atoms


def test_relations_of_thermodynamics(tmp_path: Path) -> None:
    record = compute_qha(copper(), SETTINGS, tmp_path, changes=CHANGES, at_rest=None)
    columns = record.columns
    t, v = columns["temperature_K"], columns["volume_A3"]
    assert t[-1] == 400.0
    expansion = columns["thermal_expansion_1_per_K"]
    np.testing.assert_allclose(expansion[1:-1], np.gradient(v, t)[1:-1] / v[1:-1], rtol=1e-6)
    # S = -∂G/∂T at constant pressure, and C_P = T ∂S/∂T
    entropy = -np.gradient(columns["gibbs_energy_eV"], t) / (kJ / mol) * 1000.0
    np.testing.assert_allclose(columns["entropy_J_per_K_mol"][10:-1], entropy[10:-1], rtol=2e-3)
    heat = t * np.gradient(columns["entropy_J_per_K_mol"], t)
    np.testing.assert_allclose(
        columns["heat_capacity_P_J_per_K_mol"][10:-1], heat[10:-1], rtol=1e-2
    )
    assert columns["bulk_modulus_GPa"][0] > columns["bulk_modulus_GPa"][-1] > 80.0
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["volume_at_0_K_A3"] == v[0]
    assert found["temperature_K"] == 300.0
    assert len(found["energies_eV"]) == 5
    table = np.genfromtxt(tmp_path / "qha.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(table["volume_A3"], v)
    assert (tmp_path / "qha.png").stat().st_size > 1000


def test_pressure_compresses() -> None:
    settings = replace(SETTINGS, max_temperature=50.0)
    options = {"changes": (-0.04, *CHANGES), "at_rest": None}
    free, pressed = (
        compute_qha(copper(), settings, **options, pressure=p).columns for p in (0.0, 1.0)
    )
    change = np.log(pressed["volume_A3"] / free["volume_A3"])
    modulus = 0.5 * (free["bulk_modulus_GPa"] + pressed["bulk_modulus_GPa"])
    np.testing.assert_allclose(change, -1.0 / modulus, rtol=1e-2)


def test_volumes_that_do_not_hold_the_minimum_are_told() -> None:
    settings = replace(SETTINGS, max_temperature=50.0)
    changes = (-0.10, -0.09, -0.08, -0.07, -0.06)
    with pytest.warns(UserWarning, match="from 0 K the volume at rest lies outside"):
        compute_qha(copper(), settings, changes=changes, at_rest=None)


def test_an_unstable_crystal_is_told() -> None:
    atoms = bulk("Cu", "bcc", a=2.86)
    atoms.calc = EMT()
    settings = replace(SETTINGS, supercell=(3, 3, 3), max_temperature=50.0)
    with pytest.warns(UserWarning, match="the crystal is unstable at"):
        compute_qha(atoms, settings, changes=CHANGES, at_rest=None)


@pytest.mark.parametrize("changes", [(0.0, 0.01, 0.02, 0.03), (0.0,) * 5, (-0.6, 0, 0.1, 0.2, 0.3)])
def test_too_few_volumes(changes: tuple) -> None:
    with pytest.raises(ValueError, match="changes: expected five relative volumes or more"):
        compute_qha(copper(), SETTINGS, changes=changes)
