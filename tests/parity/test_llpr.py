"""Uncertainties of wrapped PETs against frozen numbers of metatrain 2026.4.1.

What is left in double precision is rounding, magnified by ill-conditioned covariances.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from ase_pet import PETCalculator, load
from ase_pet.formats import native

DATA = Path(__file__).parents[1] / "data" / "llpr"
NUMBERS = json.loads((DATA / "reference.json").read_text())


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_of_the_bare_model(name: str) -> None:
    calculator = PETCalculator(DATA / f"{name}.ckpt", dtype="float64", symmetry=None, device="cpu")
    assert calculator.model.uncertainties == ("llpr", "ensemble")
    structures = read(DATA / "structures.xyz", ":")
    for atoms, expected in zip(structures, NUMBERS[name], strict=True):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(expected["energy"], rel=1e-12)
        llpr = calculator.uncertainty(atoms)
        assert llpr.energy == pytest.approx(expected["uncertainty"], rel=1e-10)
        np.testing.assert_allclose(llpr.energies, expected["uncertainties"], rtol=1e-10)
        spread = calculator.uncertainty(atoms, forces=True, kind="ensemble")
        assert spread.energy == pytest.approx(np.std(expected["ensemble"], ddof=1), rel=1e-10)
        forces = np.var(expected["ensemble_forces"], axis=0, ddof=1).sum(1) ** 0.5
        np.testing.assert_allclose(spread.forces, forces, rtol=1e-10)
        if "ensemble_virials" in expected:
            virials = np.array(expected["ensemble_virials"])
            virials = 0.5 * (virials + virials.transpose(0, 2, 1))
            stress = np.var(virials, axis=0, ddof=1).sum() ** 0.5 / atoms.get_volume()
            assert spread.stress == pytest.approx(stress, rel=1e-10)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("ensemble", ["local", "global"])
def test_rotations_and_reflections(name: str, ensemble: str) -> None:
    calculator = PETCalculator(
        DATA / f"{name}.ckpt", dtype="float64", ensemble=ensemble, device="cpu"
    )
    structures = read(DATA / "structures.xyz", "::2")
    R = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    for atoms in structures:
        for mirror in (1.0, -1.0):
            turned = atoms.copy()
            turned.positions = mirror * atoms.positions @ R.T
            turned.cell = mirror * atoms.cell.array @ R.T
            for kind in ("llpr", "ensemble"):
                one, other = (
                    calculator.uncertainty(a, forces=True, kind=kind) for a in (atoms, turned)
                )
                assert other.energy == pytest.approx(one.energy, rel=1e-10)
                np.testing.assert_allclose(other.energies, one.energies, rtol=1e-10)
                np.testing.assert_allclose(other.forces, one.forces, rtol=1e-10)
                assert other.stress == (one.stress and pytest.approx(one.stress, rel=1e-10))


def test_one_native_file_gives_the_same_bits(tmp_path: Path) -> None:
    model, atoms = load(DATA / "residual.ckpt"), read(DATA / "structures.xyz", "0")
    native.save(model, tmp_path / "model.pt")
    one, other = (
        PETCalculator(m, device="cpu").uncertainty(atoms) for m in (model, tmp_path / "model.pt")
    )
    assert one.energy == other.energy
    assert np.array_equal(one.energies, other.energies)
