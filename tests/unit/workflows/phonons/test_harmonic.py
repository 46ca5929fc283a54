"""Phonons of fcc copper with EMT, and the band path in any orientation."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import phonopy
import pytest
import yaml
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
from ase_pet.workflows.phonons.cells import displaced_phonopy

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


def test_the_program_of_phonopy_gives_the_same_bands(tmp_path: Path) -> None:
    record = compute_phonons(copper(cubic=True), SETTINGS_SMALL, tmp_path)
    segment = record.bands.qpoints[0]
    band = " ".join(f"{x:.17g}" for x in (*segment[0], *segment[-1]))
    call = "from phonopy.scripts.phonopy_load import run; run()"
    options = ["--band", band, "--band-points", str(len(segment)), "--no-fc-symmetry"]
    command = [sys.executable, "-c", call, "phonopy_params.yaml", *options]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    points = yaml.safe_load((tmp_path / "band.yaml").read_text())["phonon"]
    theirs = [[band["frequency"] for band in point["band"]] for point in points]
    # nine decimals in the file; at Γ the square root makes 1e-4 of 1e-8
    np.testing.assert_allclose(theirs[1:], record.bands.frequencies[0][1:], atol=1e-7)
    np.testing.assert_allclose(theirs[0], 0.0, atol=1e-4)


def test_group_velocities_are_derivatives_of_the_bands(tmp_path: Path) -> None:
    record = compute_phonons(copper(), SETTINGS, tmp_path)
    columns = np.genfromtxt(tmp_path / "bands.csv", delimiter=",", names=True)
    rows = columns[(columns["segment"] == 1) & (columns["band"] == 3)]
    along = np.diff([[rows[f"q_{k}"][i] for k in (1, 2, 3)] for i in (0, -1)], axis=0)[0]
    along = np.linalg.inv(record.phonon.primitive.cell) @ along
    along /= np.linalg.norm(along)
    speeds = np.stack([rows[f"group_velocity_{axis}_km_per_s"] for axis in "xyz"], 1) @ along
    slopes = np.gradient(rows["frequency_cm1"] / THZ_IN_INVERSE_CM, rows["distance_1_per_A"]) * 0.1
    # central differences of 11 points: their error is of second order
    np.testing.assert_allclose(speeds[2:-2], slopes[2:-2], atol=0.05 * speeds.max())
    assert record.summary()["highest_group_velocity_km_per_s"] > speeds.max() > 4.0


def test_symfc_obeys_the_sum_rules_and_agrees() -> None:
    atoms = copper(cubic=True)
    q = [[0.5, 0.5, 0.0], [0.25, 0.1, 0.3]]
    found = [compute_phonons(atoms, SETTINGS_SMALL)]
    for n_random in (None, 4):
        options = {"force_constants": "symfc", "n_random": n_random, "seed": 1}
        found.append(compute_phonons(atoms, replace(SETTINGS_SMALL, **options)))
        constants = found[-1].phonon.force_constants
        assert np.abs(constants.sum(1)).max() < 1e-12
        np.testing.assert_allclose(constants, constants.transpose(1, 0, 3, 2), atol=1e-12)
    assert [record.n_supercells for record in found] == [1, 1, 4]
    traditional, fitted, random = (r.phonon.run_qpoints(q).frequencies for r in found)
    np.testing.assert_allclose(fitted, traditional, atol=1e-6)
    # every atom is displaced by 0.01 Å: anharmonic terms are larger
    np.testing.assert_allclose(random, traditional, rtol=0.02)
    assert np.abs(random - traditional).max() > 1e-4
    assert found[0].fit_error < found[2].fit_error < 2e-3


def test_random_displacements_follow_their_seed() -> None:
    options = {"force_constants": "symfc", "n_random": 2}
    moves = []
    for seed in (1, 1, 2):
        settings = replace(SETTINGS_SMALL, seed=seed, **options)
        moves.append(displaced_phonopy(copper(), settings).displacements)
    np.testing.assert_array_equal(moves[0], moves[1])
    assert np.abs(moves[0] - moves[2]).max() > 1e-3


def test_too_few_random_displacements_are_refused() -> None:
    atoms = bulk("CuAu", "cesiumchloride", a=3.05)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    settings = replace(SETTINGS_SMALL, force_constants="symfc", n_random=2)
    with pytest.raises(ValueError, match=r"do not determine the force constants .*; give 12$"):
        compute_phonons(atoms, settings)


def test_modes_at_gamma_have_the_labels_of_their_crystal() -> None:
    diamond = bulk("C", "diamond", a=3.4)
    diamond.calc = EMT()
    expected = {"diamond": ["T1u", "T2g"], "cesiumchloride": ["T1u", "T1u"]}
    alloy = bulk("CuAu", "cesiumchloride", a=3.05)
    alloy.calc = EMT()
    for atoms, labels in zip((diamond, alloy), expected.values(), strict=True):
        record = compute_phonons(atoms, replace(SETTINGS_SMALL, irreps=True))
        modes = sorted(record.summary()["modes_at_gamma"], key=lambda mode: mode["irrep"])
        assert [mode["irrep"] for mode in modes] == labels
        for mode in modes:
            bands = [band - 1 for band in mode["bands"]]
            np.testing.assert_allclose(record.gamma[bands], mode["frequency_cm-1"], atol=1e-2)
    assert "modes_at_gamma" not in compute_phonons(alloy, SETTINGS_SMALL).summary()


def test_born_charges_split_the_optical_modes(tmp_path: Path) -> None:
    r""":math:`\omega_{LO}^2 - \omega_{TO}^2 = 4\pi k Z^2 / (\epsilon V \mu)`."""
    atoms = bulk("CuAu", "cesiumchloride", a=3.05)
    atoms.calc = EMT()
    charge, epsilon = 1.5, 5.0
    lines = [f"{x} 0 0 0 {x} 0 0 0 {x}" for x in (epsilon, charge, -charge)]
    (tmp_path / "BORN").write_text("\n".join(["14.4", *lines]))
    settings = replace(SETTINGS_SMALL, nac=tmp_path / "BORN")
    record = compute_phonons(atoms, settings, tmp_path)
    transverse, _, longitudinal = record.bands.frequencies[0][0][3:]
    mass = 1 / (1 / atoms.get_masses()).sum()
    split = 4 * np.pi * 14.4 * charge**2 / (epsilon * atoms.get_volume() * mass)
    to_THz = record.phonon.unit_conversion_factor
    assert longitudinal**2 - transverse**2 == pytest.approx(split * to_THz**2, rel=1e-3)
    loaded = phonopy.load(tmp_path / "phonopy_params.yaml", log_level=0)
    assert loaded.nac_params["born"][0][0][0] == charge


@pytest.mark.parametrize("text", ["", "14.4\n1 2\n", "14.4\n5 0 0 0 5 0 0 0 5\n"])
def test_a_born_file_of_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "BORN").write_text(text)
    with pytest.raises(ValueError, match="is no BORN file of this crystal"):
        compute_phonons(copper(), replace(SETTINGS_SMALL, nac=tmp_path / "BORN"))
    with pytest.raises(ValueError, match="none: no such file"):
        replace(SETTINGS_SMALL, nac=tmp_path / "none")


class Noting(EMT):
    """Remembers what the structures were told about themselves."""

    def calculate(self, atoms: Atoms, *arguments: object) -> None:
        self.info = dict(atoms.info)
        super().calculate(atoms, *arguments)


def test_the_charge_of_a_cell_is_not_that_of_a_supercell() -> None:
    for info, name in (({"charge": 1}, "charge"), ({"spin_multiplicity": 3}, "spin")):
        atoms = copper()
        atoms.info.update(info)
        with pytest.raises(ValueError, match=rf"{name}: \d of one cell .* its 8 repeats; give"):
            compute_phonons(atoms, SETTINGS_SMALL)
    atoms = copper(cubic=True).repeat(2)
    atoms.info.update(charge=1, spin=2, note="of no use")
    atoms.calc = Noting()
    compute_phonons(atoms, replace(SETTINGS_SMALL, supercell=(1, 1, 1)))
    assert atoms.calc.info == {"charge": 1, "spin": 2}


def test_isotopes_in_equivalent_places_are_refused() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.set_masses([63.0, 65.0, 63.0, 65.0])
    with pytest.raises(ValueError, match="atoms: Cu has several masses, but symmetry is that"):
        compute_phonons(atoms, PhononSettings(supercell=(1, 1, 1)))


def test_the_charge_of_the_calculator_counts() -> None:
    atoms = copper()
    atoms.calc.parameters["charge"] = -1.0
    with pytest.raises(ValueError, match="charge: -1 of one cell"):
        compute_phonons(atoms, SETTINGS_SMALL)


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


def test_atoms_of_a_left_handed_cell_stay_where_they_are() -> None:
    atoms = bulk("Si")
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    found = displaced_phonopy(atoms, PhononSettings(supercell=(1, 1, 1))).unitcell
    assert np.linalg.det(found.cell) > 0
    assert np.allclose(found.positions, atoms.positions)


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
        ({"batch_atoms": 0}, "batch_atoms: expected at least 1"),
        ({"force_constants": "alm"}, "force_constants: expected one of"),
        ({"n_random": 3}, "n_random: .* give force_constants='symfc'"),
        ({"n_random": 0, "force_constants": "symfc"}, "n_random: expected at least 1"),
        ({"irreps": True, "use_symmetry": False}, "irreps: .* set use_symmetry=True"),
    ],
)
def test_settings_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhononSettings(**options)
