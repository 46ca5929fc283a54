"""MatGL's trained TensorNets against frozen float64 numbers of MatGL 2.0.4.

What is left is rounding: the largest deviations measured are 7e-15 (energies, relative), 2e-13 eV/Å
(forces) and 4e-15 eV/Å³ (stresses); the tolerances leave a factor of ten to other machines.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from ase_pet import PETCalculator, load
from ase_pet.formats import native
from ase_pet.interfaces.ase_structures import system_from_atoms

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "tensornet_matgl"
PBE, ANI = "TensorNet-MatPES-PBE-v2025.1-PES", "TensorNet-ANI-1x-Subset-PES"
NUMBERS = {PBE: "tensornet_matpes_pbe_v2025.1.json", ANI: "tensornet_ani1x_dgl.json"}

pytestmark = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"reference numbers are not here: {REFERENCE}"
)


@pytest.fixture(scope="module")
def atoms() -> dict[str, Atoms]:
    return {a.info["name"]: a for a in read(REFERENCE / "structures.extxyz", ":")}


@pytest.fixture(scope="module", params=[PBE, ANI])
def case(request: pytest.FixtureRequest) -> tuple[PETCalculator, dict[str, Any]]:
    numbers = json.loads((REFERENCE / NUMBERS[request.param]).read_text())["structures"]
    return PETCalculator(REFERENCE / request.param, dtype="float64", device="cpu"), numbers


def stress_of(numbers: dict[str, Any], atoms: Atoms) -> np.ndarray | None:
    """3×3 stress, eV/Å³; a slab without a third lattice vector has none."""
    if "stress_3x3_eV_A3" not in numbers or atoms.cell.rank < 3:
        return None
    return np.array(numbers["stress_3x3_eV_A3"])


def test_every_number_of_the_original(
    case: tuple[PETCalculator, dict[str, Any]], atoms: dict[str, Atoms]
) -> None:
    calculator, every = case
    n_stresses = 0
    for name, numbers in every.items():
        structure = atoms[name].copy()
        structure.calc = calculator
        energy = structure.get_potential_energy()
        assert energy == pytest.approx(numbers["energy"], rel=1e-13, abs=0), name
        forces = np.array(numbers["forces"])
        np.testing.assert_allclose(structure.get_forces(), forces, rtol=0, atol=2e-12)
        stress = stress_of(numbers, structure)
        if stress is not None:
            n_stresses += 1
            ours = structure.get_stress(voigt=False)
            np.testing.assert_allclose(ours, stress, rtol=0, atol=5e-14)
        elif "virial_like_dE_dstrain_eV" in numbers:
            virial = calculator.engine(system_from_atoms([structure])).virial[0].numpy()
            expected = np.array(numbers["virial_like_dE_dstrain_eV"])
            np.testing.assert_allclose(virial, 0.5 * (expected + expected.T), rtol=0, atol=5e-12)
    assert n_stresses == (13 if len(every) > 5 else 1)
    assert calculator.ensemble is None


def test_single_precision_is_within_its_rounding(
    case: tuple[PETCalculator, dict[str, Any]], atoms: dict[str, Atoms]
) -> None:
    calculator, every = case
    single = PETCalculator(calculator.model, device="cpu")
    assert single.model.dtype == "float32"
    for name, numbers in every.items():
        structure = atoms[name].copy()
        structure.calc = single
        error = structure.get_potential_energy() - numbers["energy"]
        assert abs(error) / len(structure) < 1e-6, name
        forces = np.array(numbers["forces"])
        np.testing.assert_allclose(structure.get_forces(), forces, rtol=0, atol=1e-5)


def test_partly_periodic_slabs_are_periodic_where_they_say(atoms: dict[str, Atoms]) -> None:
    """MatGL takes (T, T, F) for a molecule; its reference was computed with vacuum instead."""
    numbers = json.loads((REFERENCE / NUMBERS[PBE]).read_text())["structures"]
    calculator = PETCalculator(REFERENCE / PBE, dtype="float64", device="cpu")
    for name in ("mgo_slab_ttf", "cu_slab_ttf_zerocell"):
        structure = atoms[name].copy()
        structure.calc = calculator
        assert structure.pbc.tolist() == [True, True, False]
        energy = structure.get_potential_energy()
        assert energy == pytest.approx(numbers[name]["energy"], rel=1e-13)
        as_a_molecule = structure.copy()
        as_a_molecule.pbc = False
        as_a_molecule.calc = calculator
        wrong = numbers[name]["matgl_as_is_energy"]
        assert as_a_molecule.get_potential_energy() == pytest.approx(wrong, rel=1e-12)


def test_rotations_and_reflections(atoms: dict[str, Atoms]) -> None:
    calculator = PETCalculator(REFERENCE / PBE, dtype="float64", device="cpu")
    rng = np.random.default_rng(3)
    for name in ("si8_rattled", "ethanol"):
        structure = atoms[name].copy()
        structure.calc = calculator
        energy, forces = structure.get_potential_energy(), structure.get_forces()
        for _ in range(6):
            R = np.linalg.qr(rng.standard_normal((3, 3)))[0]
            turned = structure.copy()
            turned.set_cell(structure.cell.array @ R.T)
            turned.positions = structure.positions @ R.T
            turned.calc = calculator
            assert turned.get_potential_energy() == pytest.approx(energy, rel=1e-12)
            np.testing.assert_allclose(turned.get_forces(), forces @ R.T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [PBE, ANI])
@pytest.mark.parametrize("file", ["state.pt", "model.pt", "model.json"])
def test_either_file_stands_for_the_folder(name: str, file: str) -> None:
    one, other = load(REFERENCE / name), load(REFERENCE / name / file)
    ours, theirs = (m.potential.backbone.state_dict() for m in (one, other))
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    assert one.sha256 == other.sha256


@pytest.mark.parametrize("name", [PBE, ANI])
def test_one_native_file_gives_the_same_bits(
    name: str, atoms: dict[str, Atoms], tmp_path: Path
) -> None:
    model = load(REFERENCE / name)
    native.save(model, tmp_path / "model.pt")
    again = load(tmp_path / "model.pt")
    assert again.metadata["source"]["name"] == name
    for dtype in ("float32", "float64"):
        calculators = [PETCalculator(m, dtype=dtype, device="cpu") for m in (model, again)]
        one, other = (c.compute([atoms["ethanol"], atoms["h2o"]]) for c in calculators)
        for a, b in zip(one, other, strict=True):
            assert a["energy"] == b["energy"]
            assert np.array_equal(a["forces"], b["forces"])


def test_physics_of_silicon(atoms: dict[str, Atoms]) -> None:
    """The equation of state that MatGL's own calculator gave."""
    eos = json.loads((REFERENCE / "eos.json").read_text())
    calculator = PETCalculator(REFERENCE / PBE, dtype="float64", device="cpu")
    for name, basis in (("PBE:Si", "diamond"), ("PBE:MgO", "rocksalt")):
        expected = eos[name]
        found = []
        for volume in expected["volumes"]:
            from ase.build import bulk

            crystal = bulk(name[4:], basis, a=(4.0 * volume) ** (1.0 / 3.0))
            crystal.calc = calculator
            found.append(crystal.get_potential_energy())
        np.testing.assert_allclose(found, expected["energies"], rtol=0, atol=1e-10)
