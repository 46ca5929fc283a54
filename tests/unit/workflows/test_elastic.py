"""Elastic constants agree with energies, and turn with the crystal."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from scipy.spatial.transform import Rotation

from ase_pet import PETCalculator
from ase_pet.formats import Model
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from ase_pet.units import EV_PER_A3_IN_GPA
from ase_pet.workflows.elastic import ElasticSettings, compute_elastic
from ase_pet.workflows.plots_mechanics import plot_young
from ase_pet.workflows.relax import RelaxSettings, relax
from ase_pet.workflows.stiffness import rotated

TURN = Rotation.random(random_state=5).as_matrix()


def copper() -> Atoms:
    atoms = Atoms(bulk("Cu", "fcc", a=3.6), calculator=EMT())
    relax(atoms, RelaxSettings("lbfgs", fmax=1e-7, cell="full"))
    return atoms


def turned(atoms: Atoms) -> Atoms:
    copied = atoms.copy()
    copied.set_cell(atoms.cell.array @ TURN.T)
    copied.positions = atoms.positions @ TURN.T
    copied.calc = atoms.calc
    return copied


def test_constants_are_curvatures_of_the_energy(tmp_path: Path) -> None:
    atoms = copper()
    record = compute_elastic(atoms, ElasticSettings(1e-3), tmp_path)

    def curvature(strain: np.ndarray, h: float = 2e-3) -> float:
        energies = []
        for x in (-h, 0.0, h):
            copied = atoms.copy()
            copied.set_cell(atoms.cell.array @ (np.eye(3) + x * strain), scale_atoms=True)
            copied.calc = EMT()
            energies.append(copied.get_potential_energy())
        second = (energies[0] - 2 * energies[1] + energies[2]) / h**2
        return second / atoms.get_volume() * EV_PER_A3_IN_GPA

    C = record.clamped.C
    assert curvature(np.diag([1.0, 0, 0])) == pytest.approx(C[0, 0], rel=2e-3)
    shear = np.zeros((3, 3))
    shear[1, 2] = shear[2, 1] = 0.5
    assert curvature(shear) == pytest.approx(C[3, 3], rel=2e-3)
    assert curvature(np.eye(3)) == pytest.approx(9 * C[:3, :3].mean(), rel=2e-3)
    assert np.allclose(record.conventional(record.clamped), C)
    assert np.allclose(record.relaxed.C, C, rtol=1e-6)  # no atom is free to move
    assert np.abs(record.stress).max() < 1e-4
    assert 0.0 < record.asymmetry < 1e-3 * C[0, 0]
    names = {"elastic.csv", "elastic.png", "summary.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["relaxed"]["C_GPa"] == record.best.C.tolist()
    assert found["space_group"] == "Fm-3m (225)"
    with (tmp_path / "elastic.csv").open() as file:
        rows = [[float(x) for x in row.values()] for row in csv.DictReader(file)]
    assert rows == record.best.C.tolist()


def test_free_ions_make_a_crystal_softer_and_constants_turn_with_it() -> None:
    atoms = bulk("Cu", "hcp", a=2.55, c=4.2)
    atoms.calc = EMT()
    relax(atoms, RelaxSettings("lbfgs", fmax=1e-6, cell="full"))
    settings = ElasticSettings(fmax=1e-6, symmetrize=False)
    atoms.set_constraint(FixAtoms([0, 1]))  # constants are those of the crystal
    record, other = (compute_elastic(one, settings) for one in (atoms, turned(atoms)))
    assert record.relaxed.C[5, 5] < 0.97 * record.clamped.C[5, 5]
    assert record.relaxed.C[2, 2] == pytest.approx(record.clamped.C[2, 2], rel=1e-3)
    expected = rotated(record.clamped.C, TURN)
    assert np.abs(other.clamped.C - expected).max() < 1e-9 * np.abs(expected).max()
    expected = rotated(record.relaxed.C, TURN)
    assert np.abs(other.relaxed.C - expected).max() < 1e-4 * np.abs(expected).max()


def test_an_exact_model_has_the_same_constants_in_each_frame_and_a_bare_one_has_not() -> None:
    torch.manual_seed(0)
    hypers = PETHypers(
        cutoff=3.2, d_model=8, n_heads=2, d_feedforward=8, n_attention_layers=1, head_width=4
    )
    model = Model(Total(PET(hypers, [14])), "float64")
    far = {}
    for symmetry in ("O(3)", None):
        atoms = Atoms(bulk("Si"), calculator=PETCalculator(model, symmetry=symmetry, device="cpu"))
        settings = ElasticSettings(relax_ions=False, symmetrize=False)
        record, other = (compute_elastic(one, settings) for one in (atoms, turned(atoms)))
        assert record.relaxed is None
        expected = rotated(record.best.C, TURN)
        far[symmetry] = np.abs(other.best.C - expected).max() / np.abs(expected).max()
    assert far["O(3)"] < 1e-9
    assert far[None] > 1e-5


def test_what_cannot_be_strained_is_refused() -> None:
    with pytest.raises(ValueError, match=r"need a crystal, .* got pbc=\[False, False, False\]"):
        compute_elastic(molecule("CO", calculator=EMT()), ElasticSettings())
    with pytest.raises(ValueError, match="no calculator"):
        compute_elastic(bulk("Cu"), ElasticSettings())
    with pytest.raises(ValueError, match=r"strain: expected .* less than 0\.1, got 0\.1"):
        ElasticSettings(strain=0.1)
    atoms = Atoms(bulk("Cu", "hcp", a=2.6, c=4.2), calculator=EMT())
    with pytest.raises(RuntimeError, match=r"did not relax to 1e-09 eV/Å .* in 1 steps"):
        compute_elastic(atoms, ElasticSettings(fmax=1e-9, steps=1))


def test_an_unstable_crystal_has_no_moduli_and_no_picture(tmp_path: Path) -> None:
    (tmp_path / "elastic.png").write_text("of a stable crystal")
    atoms = Atoms(bulk("Cu", "bcc", a=2.87), calculator=EMT())
    compute_elastic(atoms, ElasticSettings(relax_ions=False), tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["clamped"]["stable"] is False
    assert not (tmp_path / "elastic.png").exists()


def test_the_picture_shows_clamped_and_relaxed_in_three_planes() -> None:
    record = compute_elastic(copper(), ElasticSettings())
    figure = plot_young(record)
    assert [len(panel.lines) for panel in figure.axes] == [2, 2, 2]
    along_x = record.clamped.young(np.eye(3)[:1])[0]
    assert figure.axes[0].lines[0].get_ydata()[0] == pytest.approx(along_x)
