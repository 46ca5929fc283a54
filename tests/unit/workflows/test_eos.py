"""Equations of state: what was put in comes out, and agrees with the calculator."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.eos
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from ase_pet.units import EV_PER_A3_IN_GPA
from ase_pet.workflows.eos import FORMS, EOSSettings, compute_eos, fit
from ase_pet.workflows.plots_mechanics import plot_eos


def copper() -> Atoms:
    return Atoms(bulk("Cu", a=3.59), calculator=EMT())


@pytest.mark.parametrize("form", FORMS)
def test_each_form_finds_its_own_parameters(form: str) -> None:
    volumes = np.linspace(37.0, 43.0, 9)
    equation = getattr(ase.eos, form.replace("-", "_"))
    energies = equation(volumes, -7.0, 90.0 / EV_PER_A3_IN_GPA, 4.5, 40.0)
    record = fit(volumes, energies, 2, EOSSettings(form))
    assert pytest.approx(40.0, rel=1e-6) == record.V0
    assert pytest.approx(90.0, rel=1e-5) == record.B0
    assert pytest.approx(4.5, rel=1e-4) == record.B1
    found = record.summary()
    assert found["E0_eV_per_atom"] == pytest.approx(-3.5)
    assert found["rms_of_fit_meV_per_atom"] < 1e-5


def test_pressure_agrees_with_the_equation(tmp_path: Path) -> None:
    atoms = copper()
    before = atoms.cell.array.copy()
    record = compute_eos(atoms, EOSSettings(change=0.03), tmp_path)
    assert (atoms.cell.array == before).all()
    assert record.volumes[[0, -1]] / np.linalg.det(before) == pytest.approx([0.97, 1.03])
    pressures = []
    for volume in (record.V0, 1.01 * record.V0, 0.99 * record.V0):
        atoms.set_cell(before * (volume / np.linalg.det(before)) ** (1 / 3), scale_atoms=True)
        pressures.append(-atoms.get_stress()[:3].mean() * EV_PER_A3_IN_GPA)
    assert abs(pressures[0]) < 0.1
    assert (pressures[2] - pressures[1]) / 0.02 == pytest.approx(record.B0, rel=0.01)
    assert {p.name for p in tmp_path.iterdir()} == {"eos.csv", "eos.png", "summary.json"}
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["B0_GPa"] == record.B0
    assert found["settings"]["form"] == "birchmurnaghan"
    with (tmp_path / "eos.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy_eV"]) for row in rows] == record.energies.tolist()


def test_relaxed_atoms_are_lower_where_they_can_move() -> None:
    atoms = bulk("Cu", cubic=True, a=3.6)
    atoms.positions[0] += 0.1
    atoms.calc = EMT()
    clamped = compute_eos(atoms, EOSSettings(n_volumes=5, relax_atoms=False))
    relaxed = compute_eos(atoms, EOSSettings(n_volumes=5))
    assert (relaxed.energies < clamped.energies - 0.05).all()
    perfect = Atoms(bulk("Cu", cubic=True, a=3.6), calculator=EMT())
    again = compute_eos(perfect, EOSSettings(n_volumes=5, relax_atoms=False))
    assert np.allclose(relaxed.energies, again.energies, atol=1e-6)
    with pytest.raises(RuntimeError, match=r"atoms did not relax to 0\.001 eV/Å at .* in 1 steps"):
        compute_eos(atoms, EOSSettings(steps=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "sj"}, "form: expected one of"),
        ({"n_volumes": 4}, "n_volumes: expected 5 or more, got 4"),
        ({"change": 0.5}, "change: expected more than 0 and less than 0.5, got 0.5"),
        ({"fmax": 0.0}, "fmax: expected a positive"),
    ],
)
def test_settings_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EOSSettings(**options)


def test_a_minimum_elsewhere_and_a_molecule_are_refused(tmp_path: Path) -> None:
    squeezed = Atoms(bulk("Cu", a=3.3), calculator=EMT())
    with pytest.raises(ValueError, match=r"no minimum between .* cell is relaxed"):
        compute_eos(squeezed, EOSSettings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"needs a crystal, .* got pbc=\[False, False, False\]"):
        compute_eos(molecule("CO", calculator=EMT()), EOSSettings())
    with pytest.raises(ValueError, match="no calculator"):
        compute_eos(bulk("Cu"), EOSSettings())
    noise = np.array([3.0, 1.0, 2.0, 0.0, 2.0, -1.0, 3.0])
    with pytest.raises(ValueError, match="relaxed, or a larger change"):
        fit(np.linspace(10, 11, 7), noise * [1, 1, 1, 1, 1, -1e3, -1e4], 1, EOSSettings())


def test_the_picture_shows_energies_and_a_smooth_curve() -> None:
    record = compute_eos(copper(), EOSSettings(n_volumes=5))
    points, curve, _ = plot_eos(record).axes[0].lines
    assert len(points.get_xdata()) == 5
    assert len(curve.get_xdata()) == 200
    assert abs(min(curve.get_ydata())) < 1e-2
