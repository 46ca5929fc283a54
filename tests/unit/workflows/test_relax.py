"""Relaxation: minima, pressure, space groups."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from ase_pet.units import EV_PER_A3_IN_GPA
from ase_pet.workflows.relax import RelaxSettings, relax, space_group


def strained() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.7)
    atoms.set_cell(atoms.cell @ np.diag([1.02, 1.0, 0.99]), scale_atoms=True)
    atoms.calc = EMT()
    return atoms


@pytest.mark.parametrize("optimizer", ["fire", "lbfgs"])
def test_a_strained_crystal_finds_its_space_group_again(tmp_path: Path, optimizer: str) -> None:
    atoms = strained()
    record = relax(atoms, RelaxSettings(optimizer, fmax=1e-6, cell="full", symprec=1e-4), tmp_path)
    assert record.converged
    assert record.space_groups == ("Fmmm (69)", "Fm-3m (225)")
    assert np.abs(atoms.get_stress()).max() * EV_PER_A3_IN_GPA < 1e-3
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["energy_eV"][1] < found["energy_eV"][0]
    assert found["n_steps"] == record.n_steps
    ratios = np.array(found["principal_strains"]) + 1.0  # from the largest compression on
    assert ratios / ratios[1] == pytest.approx([1.0 / 1.02, 1.0, 1.0 / 0.99], rel=1e-3)
    assert {p.name for p in tmp_path.iterdir()} == {
        "relax.traj", "relax.png", "relaxed.extxyz", "summary.json",
    }  # fmt: skip
    assert len(ase.io.read(tmp_path / "relax.traj", ":")) == record.n_steps + 1
    assert np.allclose(ase.io.read(tmp_path / "relaxed.extxyz").cell, atoms.cell, atol=1e-7)


def test_pressure_is_reached() -> None:
    atoms = strained()
    settings = RelaxSettings("lbfgs", fmax=1e-5, cell="full", pressure=5.0)
    record = relax(atoms, settings)
    assert record.pressures[-1] == pytest.approx(5.0, abs=1e-2)
    assert record.summary()["pressure_GPa"][1] == record.pressures[-1]


def test_isotropic_keeps_angles_and_ratios_and_shape_keeps_the_volume() -> None:
    atoms = strained()
    before = atoms.cell.cellpar()
    relax(atoms, RelaxSettings("lbfgs", cell="isotropic"))
    after = atoms.cell.cellpar()
    assert np.allclose(after[:3] / before[:3], (after / before)[0])
    assert not np.isclose(after[0], before[0])
    atoms = strained()
    volume = atoms.get_volume()
    record = relax(atoms, RelaxSettings("lbfgs", cell="shape"))
    assert record.volumes[-1] == pytest.approx(volume, rel=1e-6)


def test_a_molecule_relaxes_without_a_cell(tmp_path: Path) -> None:
    atoms = molecule("CO", calculator=EMT())
    record = relax(atoms, RelaxSettings(fmax=1e-3), tmp_path)
    assert record.converged
    assert record.space_groups == (None, None)
    assert record.forces[-1] < 1e-3
    assert "volume_A3" not in json.loads((tmp_path / "summary.json").read_text())


def test_symmetry_is_kept_on_a_saddle_where_free_atoms_leave_it(tmp_path: Path) -> None:
    found = {}
    for keep in (False, True):
        atoms = bulk("Cu", "bcc", a=2.88, cubic=True)
        atoms.set_cell(atoms.cell @ np.diag([1.0, 1.0, 1.03]), scale_atoms=True)
        atoms.calc = EMT()
        settings = RelaxSettings("lbfgs", fmax=1e-4, cell="full", symprec=0.2, keep_symmetry=keep)
        found[keep] = relax(atoms, settings, tmp_path)
        assert found[keep].converged
        assert len(ase.io.read(tmp_path / "relax.traj", ":")) == found[keep].n_steps + 1
    assert found[True].space_groups == ("Im-3m (229)", "Im-3m (229)")
    assert found[False].space_groups == ("Im-3m (229)", "Fm-3m (225)")
    assert np.ptp(found[True].strains) < 0.031 < 0.3 < np.ptp(found[False].strains)


def test_symmetry_is_not_kept_beside_other_constraints_and_leaves_none() -> None:
    atoms = bulk("Cu", cubic=True, a=3.7)
    atoms.positions[0, 0] += 0.01
    atoms.calc = EMT()
    settings = RelaxSettings(symprec=0.1, keep_symmetry=True, steps=1)
    relax(atoms, settings)
    assert atoms.constraints == []
    assert space_group(atoms) == "Fm-3m (225)"
    atoms.set_constraint(FixAtoms([3]))
    with pytest.raises(ValueError, match="keep_symmetry: the structure has constraints of its own"):
        relax(atoms, settings)


def test_moves_are_told_without_what_the_cell_does(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.positions[1] += [0.1, 0.0, 0.0]
    atoms.calc = EMT()
    settings = RelaxSettings("lbfgs", fmax=1e-4, cell="isotropic", pressure=20.0)
    found = relax(atoms, settings, tmp_path).summary()
    assert np.allclose(found["principal_strains"], atoms.cell.lengths() / 3.61 - 1.0)
    assert found["principal_strains"][0] < -0.02
    moved = json.loads((tmp_path / "summary.json").read_text())["displacements_A"]
    assert moved[1] == found["largest_displacement_A"]
    # The others move a third of the way, because the centre of mass rests.
    expected = np.array([0.025, 0.075, 0.025, 0.025]) * (1.0 + found["principal_strains"][0])
    assert np.allclose(moved, expected, atol=1e-4)
    assert found["rms_displacement_A"] == pytest.approx(np.sqrt(np.mean(np.square(moved))))


def test_steps_that_run_out_are_reported() -> None:
    record = relax(strained(), RelaxSettings(fmax=1e-8, steps=2, cell="full"))
    assert not record.converged
    assert record.n_steps == 2


def test_a_start_that_fails_leaves_an_earlier_relaxation_alone(tmp_path: Path) -> None:
    relax(strained(), RelaxSettings(steps=2), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    foreign = bulk("Si")
    foreign.calc = EMT()  # which does not know silicon
    with pytest.raises(NotImplementedError):
        relax(foreign, RelaxSettings(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_numbers_that_are_none_end_a_relaxation_before_they_are_written(tmp_path: Path) -> None:
    class Broken(EMT):
        def calculate(self, *arguments) -> None:
            super().calculate(*arguments)
            if (tmp_path / "relax.traj").exists():
                self.results["forces"] = np.full((len(self.atoms), 3), np.nan)

    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = Broken()
    with pytest.raises(ArithmeticError, match="energy or forces that are not finite"):
        relax(atoms, RelaxSettings(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"relax.traj"}
    assert len(ase.io.read(tmp_path / "relax.traj", ":")) == 1


def test_a_nearly_flat_cell_has_no_pressure() -> None:
    atoms = molecule("CO", calculator=EMT(), cell=[[9, 0, 0], [0, 9, 0], [0, 9, 1e-13]])
    assert relax(atoms, RelaxSettings(steps=1)).pressures == []


def test_a_slab_keeps_its_cell() -> None:
    slab = fcc111("Cu", (1, 1, 2), vacuum=5.0)
    slab.calc = EMT()
    with pytest.raises(ValueError, match=r"cell: 'full' needs .* three directions, got pbc="):
        relax(slab, RelaxSettings(cell="full"))
    with pytest.raises(ValueError, match=r"keep_symmetry: needs .* three directions, got pbc="):
        relax(slab, RelaxSettings(keep_symmetry=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "bfgs"}, r"optimizer: expected one of \['fire', 'lbfgs'\]"),
        ({"cell": "free"}, "cell: expected one of"),
        ({"fmax": 0.0}, "fmax: expected a positive"),
        ({"pressure": float("nan"), "cell": "full"}, "pressure: expected a finite"),
        ({"pressure": 1.0}, "pressure: 1.0 GPa has no effect with cell='fixed'"),
    ],
)
def test_settings_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelaxSettings(**options)


def test_space_groups() -> None:
    assert space_group(bulk("Si")) == "Fd-3m (227)"
    assert space_group(fcc111("Cu", (1, 1, 2), vacuum=5.0)) is None
    overlapping = Atoms("Cu2", [[0, 0, 0], [0, 0, 1e-9]], cell=[2, 2, 2], pbc=True)
    assert space_group(overlapping) is None
