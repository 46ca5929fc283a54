"""Phonons of fcc copper with EMT, and the band path in any orientation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import phonopy
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.phonons import Phonons
from phonopy.phonon.thermal_properties import GammaAcousticWarning
from scipy.spatial.transform import Rotation

from ase_pet.units import THZ_IN_INVERSE_CM
from ase_pet.workflows.phonons import (
    PhononSettings,
    band_path,
    compute_phonons,
)

SETTINGS = PhononSettings(supercell=(4, 4, 4), mesh=20.0, n_points=11, max_temperature=400.0)
#: Lattice parameter at which EMT's copper is relaxed, Å.
RELAXED = 3.5896


def copper(turn: np.ndarray | None = None, *, cubic: bool = False) -> Atoms:
    atoms = bulk("Cu", "fcc", a=RELAXED, cubic=cubic)
    if turn is not None:
        atoms.set_cell(atoms.cell.array @ turn.T, scale_atoms=True)
    atoms.calc = EMT()
    return atoms


def test_frequencies_agree_with_those_of_ase(tmp_path: Path) -> None:
    atoms = copper()
    record = compute_phonons(atoms, SETTINGS, tmp_path)
    theirs = Phonons(atoms, EMT(), supercell=(4, 4, 4), delta=0.01, name=str(tmp_path / "ase"))
    theirs.run()
    theirs.read(acoustic=True)
    for q in ([0.5, 0.5, 0.0], [0.5, 0.0, 0.0], [0.25, 0.1, 0.3]):
        expected = theirs.band_structure([q], verbose=False)[0] * 8065.544
        found = record.phonon.run_qpoints([q]).frequencies[0] * THZ_IN_INVERSE_CM
        # they differ in how they displace: one atom along x, y, z both ways, or one direction
        assert found == pytest.approx(expected, abs=1.0)
    assert np.abs(record.gamma).max() < 0.01


def test_files_summary_and_thermal_properties(tmp_path: Path) -> None:
    record = compute_phonons(copper(cubic=True), SETTINGS_SMALL, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "phonopy_params.yaml", "bands.csv", "bands.png", "velocities.png", "thermal.png",
        "thermal.csv", "summary.json",
    }  # fmt: skip
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["n_atoms_primitive"] == 1
    assert found["n_atoms_supercell"] == 32
    assert found["residual_force_eV_per_A"] < 1e-10
    assert found["gamma_cm-1"] == record.gamma.tolist()
    assert 200.0 < found["highest_cm-1"] < 350.0
    assert found["temperature_K"] == 300.0
    # close to the classical 3 R of Dulong and Petit
    assert 22.0 < found["heat_capacity_J_per_K_mol"] < 3 * 8.314463


SETTINGS_SMALL = PhononSettings(supercell=(2, 2, 2), mesh=20.0, n_points=5, max_temperature=400.0)


def test_phonopy_loads_what_was_written(tmp_path: Path) -> None:
    record = compute_phonons(copper(cubic=True), SETTINGS_SMALL, tmp_path)
    loaded = phonopy.load(tmp_path / "phonopy_params.yaml", log_level=0)
    q = [[0.1, 0.2, 0.3]]
    ours, theirs = (p.run_qpoints(q).frequencies[0] for p in (record.phonon, loaded))
    assert theirs == pytest.approx(ours, abs=1e-4)  # phonopy symmetrises what it loads


def test_one_sided_two_sided_and_all_displacements() -> None:
    counts = {}
    for name, options in {
        "auto": {},
        "two": {"two_sided": True},
        "all": {"use_symmetry": False, "two_sided": True},
    }.items():
        settings = PhononSettings(supercell=(2, 2, 2), mesh=10.0, n_points=3, **options)
        counts[name] = compute_phonons(copper(), settings).n_supercells
    assert counts == {"auto": 1, "two": 2, "all": 6}


def test_residual_forces_are_reported_and_subtracted() -> None:
    atoms = copper(cubic=True)
    atoms.positions[0] += [0.05, 0.0, 0.0]  # not at rest
    options = {"supercell": (2, 2, 2), "mesh": 10.0, "n_points": 3, "two_sided": False}
    with pytest.warns(GammaAcousticWarning, match="translational invariance"):
        raw = compute_phonons(atoms, PhononSettings(**options, subtract_residual=False))
    subtracted = compute_phonons(atoms, PhononSettings(**options))
    two_sided = compute_phonons(atoms, PhononSettings(**{**options, "two_sided": True}))
    assert raw.residual > 0.1
    assert raw.residual == pytest.approx(subtracted.residual)
    errors = [np.abs(r.gamma - two_sided.gamma).max() for r in (raw, subtracted)]
    assert errors[1] < 1.0 < errors[0]


def test_symmetrized_force_constants_obey_the_sum_rule() -> None:
    atoms = copper(cubic=True)
    atoms.rattle(0.02, seed=1)
    options = {"supercell": (1, 1, 1), "mesh": 10.0, "n_points": 3, "two_sided": False}
    raw = compute_phonons(atoms, PhononSettings(**options))
    imposed = compute_phonons(atoms, PhononSettings(**options, symmetrize=True))
    asymmetry, sums = [], []
    for record in (raw, imposed):
        constants = record.phonon.force_constants
        asymmetry.append(np.abs(constants - constants.transpose(1, 0, 3, 2)).max())
        sums.append(np.abs(constants.sum(0)).max())
    assert asymmetry[1] < 1e-12 < 1e-4 < asymmetry[0]
    assert sums[1] < 1e-12 < 1e-4 < sums[0]


def test_a_rotated_crystal_has_the_same_bands() -> None:
    turn = Rotation.random(random_state=3).as_matrix()
    straight = compute_phonons(copper(), SETTINGS_SMALL)
    rotated = compute_phonons(copper(turn), SETTINGS_SMALL)
    assert straight.bands.labels == rotated.bands.labels
    for a, b in zip(straight.bands.frequencies, rotated.bands.frequencies, strict=True):
        assert b == pytest.approx(a, abs=1e-5)


def test_a_left_handed_cell_is_the_same_crystal() -> None:
    mirrored = copper(np.diag([1.0, 1.0, -1.0]))
    assert mirrored.cell.handedness == -1
    gamma = [
        compute_phonons(atoms, SETTINGS).phonon.run_qpoints([[0.5, 0.5, 0.0]]).frequencies[0]
        for atoms in (copper(), mirrored)
    ]
    np.testing.assert_allclose(gamma[0], gamma[1], rtol=1e-6)


def test_the_band_path_is_that_of_the_cell_as_it_is() -> None:
    """X of fcc lies at 2π/a along a cubic axis, whichever primitive vectors are chosen."""
    lattice = bulk("Cu", "fcc", a=4.0).cell.array
    unusual = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 1]]) @ lattice
    for cell in (lattice, unusual):
        atoms = Atoms("Cu", cell=cell, pbc=True)
        atoms.calc = EMT()
        settings = PhononSettings(supercell=(2, 2, 2), mesh=5.0, n_points=3)
        primitive = compute_phonons(atoms, settings).phonon.primitive
        qpoints, connections, labels = band_path(primitive, 5, 1e-5)
        assert labels[:2] == ["$\\Gamma$", "$\\mathrm{X}$"]
        corner = qpoints[0][-1] @ np.linalg.inv(primitive.cell).T
        assert np.linalg.norm(corner) == pytest.approx(1 / 4.0)
        assert np.sort(np.abs(corner)) == pytest.approx([0.0, 0.0, 0.25], abs=1e-12)
        assert len(qpoints) == len(connections)


def test_only_crystals_have_phonons() -> None:
    slab = fcc111("Cu", (1, 1, 2), vacuum=5.0)
    slab.calc = EMT()
    with pytest.raises(ValueError, match="phonons need a crystal"):
        compute_phonons(slab, SETTINGS)
    with pytest.raises(ValueError, match="no calculator"):
        compute_phonons(bulk("Cu"), SETTINGS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"displacement": 0.0}, "displacement: expected a positive"),
        ({"n_points": 1}, "n_points: expected at least 2"),
        ({"supercell": (2, 0, 2)}, "supercell: expected three positive"),
    ],
)
def test_settings_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhononSettings(**options)
