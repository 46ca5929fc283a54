"""Phonons at several volumes share what they have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.constraints import FixAtoms

from ase_pet import PETCalculator
from ase_pet.workflows.phonons import PhononSettings, bring_to_rest
from ase_pet.workflows.phonons.volumes import phonons_at
from ase_pet.workflows.relax import RelaxSettings

SETTINGS = PhononSettings(min_length=3.0, mesh=5.0, n_points=2, two_sided=False)


def diamond(checkpoint: Path):
    atoms = bulk("C", cubic=True)
    atoms.calc = PETCalculator(checkpoint)
    return atoms


def test_each_volume_has_its_folder_energy_and_the_same_supercell(
    checkpoint: Path, tmp_path: Path
) -> None:
    atoms = diamond(checkpoint)
    before = atoms.copy()
    points = phonons_at(atoms, SETTINGS, (-0.6, 0.0, 0.1), tmp_path, at_rest=None)
    assert atoms == before
    # at 40 % of the volume the cell alone is shorter than 3 Å, and would be repeated
    assert [len(p.record.phonon.supercell) for p in points] == [8, 8, 8]
    volume = before.get_volume() / 4  # of the primitive cell
    assert [p.volume / volume for p in points] == pytest.approx([0.4, 1.0, 1.1])
    assert points[1].energy == pytest.approx(atoms.get_potential_energy() / 4)
    folders = ["volume-0.4000", "volume-1.0000", "volume-1.1000"]
    assert sorted(path.name for path in tmp_path.iterdir()) == folders


def test_a_relaxation_is_not_repeated(checkpoint: Path, tmp_path: Path) -> None:
    to_rest = RelaxSettings("lbfgs", fmax=1e-2, cell="isotropic", steps=20)
    found = []
    for name in ("first", "second"):
        atoms = bulk("C")
        atoms.calc = PETCalculator(checkpoint)
        bring_to_rest(atoms, to_rest, tmp_path / name, kept_in=tmp_path / "kept")
        found.append(atoms)
    assert (tmp_path / "first" / "relaxed.extxyz").exists()
    assert not (tmp_path / "second").exists()
    np.testing.assert_array_equal(found[0].positions, found[1].positions)
    np.testing.assert_array_equal(found[0].cell.array, found[1].cell.array)
    assert found[1].get_volume() > 1.05 * bulk("C").get_volume()


def test_atoms_that_were_held_are_not_those_of_a_free_relaxation(
    checkpoint: Path, tmp_path: Path
) -> None:
    ends = []
    for held in (range(8), []):
        atoms = diamond(checkpoint)
        atoms.rattle(0.05, seed=2)
        start = atoms.positions.copy()
        atoms.set_constraint(FixAtoms(held) if held else None)
        bring_to_rest(atoms, RelaxSettings("lbfgs", fmax=0.2), kept_in=tmp_path)
        ends.append(np.abs(atoms.positions - start).max())
    assert ends[0] == 0.0 < ends[1]


def test_a_relaxation_that_does_not_converge_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    atoms = diamond(checkpoint)
    atoms.rattle(0.1, seed=2)
    with pytest.raises(RuntimeError, match="did not reach 1e-09 eV/Å in 1 steps"):
        bring_to_rest(atoms, RelaxSettings("lbfgs", fmax=1e-9, steps=1), kept_in=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
