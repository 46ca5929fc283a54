"""TensorNet checkpoints of TorchMD-NET 3.1.0 against its own float64 numbers.

What is left is rounding: the largest deviations measured are 4e-15 (energies, relative) and 1e-14
eV/Å (forces).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from ase_pet import PETCalculator, load
from ase_pet.formats import native

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "tensornet_torchmdnet"
NAMES = (
    "tensornet_o3_h64_l2.ckpt",
    "tensornet_o3_h64_l2_oldformat.ckpt",
    "tensornet_o3_h32_l0_mlp2.ckpt",
    "tensornet2_h32_coul.ckpt",
)

pytestmark = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"reference numbers are not here: {REFERENCE}"
)


@pytest.fixture(scope="module")
def atoms() -> dict[str, Atoms]:
    return {a.info["name"]: a for a in read(REFERENCE / "structures.extxyz", ":")}


def test_all_checkpoints_are_covered() -> None:
    assert {path.name for path in REFERENCE.glob("*.ckpt")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_original(name: str, atoms: dict[str, Atoms]) -> None:
    numbers = json.loads((REFERENCE / "reference.json").read_text())["checkpoints"][name]
    model = load(REFERENCE / name)
    assert model.metadata["source"]["units_assumed"] == {"length": "angstrom", "energy": "eV"}
    for charge in (0, 1, -2):
        calculator = PETCalculator(model, dtype="float64", device="cpu", charge=charge)
        chosen = {key.split("|")[0]: key for key in numbers if key.endswith(f"|q={charge}")}
        assert len(chosen) >= 4
        for structure, key in chosen.items():
            results = calculator.compute([atoms[structure]])[0]
            expected = numbers[key]
            assert results["energy"] == pytest.approx(expected["energy"], rel=1e-13, abs=1e-15)
            forces = np.array(expected["forces"])
            np.testing.assert_allclose(results["forces"], forces, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_one_native_file_gives_the_same_bits(
    name: str, atoms: dict[str, Atoms], tmp_path: Path
) -> None:
    model = load(REFERENCE / name)
    native.save(model, tmp_path / "model.pt")
    again = load(tmp_path / "model.pt")
    for dtype in ("float32", "float64"):
        one, other = (
            PETCalculator(m, dtype=dtype, device="cpu", charge=1).compute([atoms["ethanol"]])[0]
            for m in (model, again)
        )
        assert one["energy"] == other["energy"]
        assert np.array_equal(one["forces"], other["forces"])


def test_units_of_the_training_data(atoms: dict[str, Atoms]) -> None:
    """A molecule in bohr is the same one in Å, scaled; so is its energy in another unit."""
    path = REFERENCE / "tensornet_o3_h64_l2.ckpt"
    bohr = 0.5291772105638411
    scaled = atoms["ethanol"].copy()
    scaled.positions *= bohr
    plain = PETCalculator(load(path), dtype="float64", device="cpu")
    model = load(path, length_unit="bohr", energy_unit="kcal/mol")
    other = PETCalculator(model, dtype="float64", device="cpu")
    assert model.metadata["source"]["units_assumed"]["energy"] == "kcal/mol"
    assert model.cutoff == pytest.approx(5.0 * bohr)
    a, b = plain.compute([atoms["ethanol"]])[0], other.compute([scaled])[0]
    unit = 0.04336410390059322
    assert b["energy"] == pytest.approx(a["energy"] * unit, rel=1e-12)
    np.testing.assert_allclose(b["forces"], a["forces"] * unit / bohr, rtol=0, atol=1e-12)
