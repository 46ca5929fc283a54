"""PET checkpoints of metatrain against frozen numbers of metatrain 2026.4.1.

What is left in double precision is rounding: the largest deviations measured are 1e-12 eV,
1e-13 eV/Å and 7e-14 eV/Å³. ``fresh_cond_zbl`` is further off, because metatrain evaluates factors
of its repulsion in single precision. The small checkpoints under ``fixtures`` come from metatrain's
own tests, one a version; their networks have a width of 1 and steep norms.

In periodic structures the numbers of ``fresh_longrange`` depend on the order of neighbours, because
metatrain combines distances sorted by centre with pairs that may not be (its issue 1199). Those
in ``pet_metatrain_long_range.json`` are metatrain's with each distance at its pair, and with the
smearing that is in the file: reading it into a model of single precision rounds it.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_stress
from ase.io import read

from ase_pet import PETCalculator, load
from ase_pet.formats import Model, native
from tests.tiny import NEEDS_TORCH_PME

ALIGNED = Path(__file__).with_name("pet_metatrain_long_range.json")
REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "pet_metatrain"
FRESH = [
    "fresh_adaptive_nc",
    "fresh_cond_zbl",
    "fresh_default",
    "fresh_legacy_postln",
    pytest.param("fresh_longrange", marks=NEEDS_TORCH_PME),
    "fresh_postln_feedforward_wide",
    "fresh_residual_preln_mixed",
    "legacy_v1_layout",
]
VERSIONS = [f"v{k}_" for k in range(1, 17)] + ["v15-conditioning_"]

pytestmark = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"reference numbers are not here: {REFERENCE}"
)


@pytest.fixture(scope="module")
def atoms() -> dict[str, Atoms]:
    return {a.info["name"]: a for a in read(REFERENCE / "structures.extxyz", ":")}


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    found = json.loads((REFERENCE / "reference.json").read_text())["results"]
    aligned = json.loads(ALIGNED.read_text())
    for dtype in ("float32", "float64"):
        found[f"fresh_longrange|{dtype}"] |= aligned
    return found


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The compressed checkpoints, unpacked, by version."""
    folder, found = tmp_path_factory.mktemp("fixtures"), {}
    for packed in sorted((REFERENCE / "fixtures").glob("*.gz")):
        path = folder / packed.stem
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        version = next(v for v in VERSIONS if packed.name.startswith(f"model-{v}"))
        found[version] = path
    return found


def structure_of(case: str, atoms: dict[str, Atoms]) -> Atoms:
    """A structure from its name, and its charge and multiplicity, as in ``water@q-1s2``."""
    name, _, state = case.partition("@")
    structure = atoms[name].copy()
    if state:
        charge, spin = state[1:].split("s")
        structure.info |= {"charge": int(charge), "spin": int(spin)}
    return structure


def deviations(
    model: Model, expected: dict[str, Any], atoms: dict[str, Atoms], dtype: str
) -> dict[str, float]:
    """Largest deviation of each quantity; energies also for an atom."""
    calculator = PETCalculator(model, dtype=dtype, device="cpu", symmetry=None)
    found: dict[str, float] = {}
    for case, values in expected.items():
        if "error" in values:
            continue
        structure = structure_of(case, atoms)
        structure.calc = calculator
        error = abs(structure.get_potential_energy() - values["energy"])
        errors = {"energy": error, "energy an atom": error / len(structure)}
        errors["forces"] = np.abs(structure.get_forces() - values["forces"]).max()
        if "energies" in values:
            energies = structure.get_potential_energies()
            errors["energies"] = np.abs(energies - values["energies"]).max()
        if "stress_voigt" in values and structure.cell.rank == 3:
            errors["stress"] = np.abs(structure.get_stress() - values["stress_voigt"]).max()
        for name, value in errors.items():
            found[name] = max(found.get(name, 0.0), float(value))
    return found


@pytest.mark.parametrize("name", FRESH)
def test_every_number_in_double_precision(
    name: str, atoms: dict[str, Atoms], numbers: dict[str, Any]
) -> None:
    expected = numbers[f"{name}|float64"]
    found = deviations(load(REFERENCE / f"{name}.ckpt"), expected, atoms, "float64")
    rounded = name == "fresh_cond_zbl"
    assert found["energy"] < (1e-5 if rounded else 1e-11)
    assert found["energies"] < (1e-6 if rounded else 1e-12)
    assert found["forces"] < (2e-6 if rounded else 1e-12)
    assert found["stress"] < (1e-7 if rounded else 1e-13)


@pytest.mark.parametrize("name", FRESH)
def test_single_precision_is_within_its_rounding(
    name: str, atoms: dict[str, Atoms], numbers: dict[str, Any]
) -> None:
    model = load(REFERENCE / f"{name}.ckpt")
    assert model.dtype == "float32"
    found = deviations(model, numbers[f"{name}|float64"], atoms, "float32")
    assert found["energy an atom"] < 4e-5
    assert found["forces"] < 5e-5
    assert found["stress"] < 5e-6
    found = deviations(model, numbers[f"{name}|float32"], atoms, "float32")
    assert found["energy an atom"] < 4e-5  # theirs is a sum in single precision
    assert found["forces"] < 5e-5


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_read(
    version: str, fixtures: dict[str, Path], atoms: dict[str, Atoms], numbers: dict[str, Any]
) -> None:
    path = fixtures[version]
    expected, model = numbers[f"{path.stem}|float64"], load(path)
    assert model.species == (1, 6, 7, 8)
    assert model.metadata["source"]["version"] == int(version[1:].split("-")[0].rstrip("_"))
    found = deviations(model, expected, atoms, "float64")
    assert found["energy"] < 1e-11
    assert found["forces"] < 1e-12
    assert found["stress"] < 1e-12
    single = deviations(model, expected, atoms, "float32")
    assert single["energy an atom"] < 1e-4
    assert single["forces"] < 5e-4


def test_the_adaptive_cutoffs(atoms: dict[str, Atoms], numbers: dict[str, Any]) -> None:
    model = load(REFERENCE / "fresh_adaptive_nc.ckpt")
    engine = PETCalculator(model, dtype="float64", device="cpu", symmetry=None).engine
    for name, expected in numbers["fresh_adaptive_nc|float64"].items():
        from ase_pet.interfaces.ase_structures import system_from_atoms

        graph = engine.graph(system_from_atoms([atoms[name]]))
        cutoffs = engine.bare.backbone.cutoffs(graph)
        np.testing.assert_allclose(cutoffs, expected["atomic_cutoff"], rtol=0, atol=1e-13)
        pair = 0.5 * (cutoffs[graph.centers] + cutoffs[graph.others])
        kept = graph.centers[graph.vectors.norm(dim=1) <= pair]
        counts = torch.bincount(kept, minlength=graph.n_atoms)
        assert counts.tolist() == expected["num_neighbors"], name


def test_direct_forces_and_stress(atoms: dict[str, Atoms], numbers: dict[str, Any]) -> None:
    calculator = PETCalculator(
        REFERENCE / "fresh_adaptive_nc.ckpt",
        dtype="float64",
        device="cpu",
        symmetry=None,
        forces="direct",
    )
    for name, expected in numbers["fresh_adaptive_nc|float64"].items():
        (found,) = calculator.compute([atoms[name]])
        assert found["energy"] == pytest.approx(expected["energy"], rel=0, abs=1e-11)
        np.testing.assert_allclose(found["forces"], expected["nc_forces"], rtol=0, atol=1e-12)
        if "nc_stress_voigt" in expected:
            stress = expected["nc_stress_voigt"]
            np.testing.assert_allclose(found["stress"], stress, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "name",
    [
        "fresh_adaptive_nc",
        "fresh_cond_zbl",
        "legacy_v1_layout",
        pytest.param("fresh_longrange", marks=NEEDS_TORCH_PME),
    ],
)
def test_one_native_file_gives_the_same_bits(
    name: str, atoms: dict[str, Atoms], tmp_path: Path
) -> None:
    model = load(REFERENCE / f"{name}.ckpt")
    native.save(model, tmp_path / "model.pt")
    again = load(tmp_path / "model.pt")
    assert again.metadata == model.metadata
    structures = [atoms["ethanol"], atoms["sio_triclinic"]]
    for dtype in ("float32", "float64"):
        calculators = [
            PETCalculator(m, dtype=dtype, device="cpu", symmetry=None) for m in (model, again)
        ]
        one, other = (c.compute(structures) for c in calculators)
        for a, b in zip(one, other, strict=True):
            assert a["energy"] == b["energy"]
            assert np.array_equal(a["forces"], b["forces"])


@pytest.mark.parametrize(
    ("name", "ensemble", "kind"),
    [
        ("fresh_adaptive_nc", "global", "conservative"),
        ("fresh_adaptive_nc", "local", "direct"),
        ("fresh_cond_zbl", "global", "conservative"),
        ("legacy_v1_layout", "local", "conservative"),
        pytest.param("fresh_longrange", "auto", "conservative", marks=NEEDS_TORCH_PME),
    ],
)
def test_rotations_and_reflections(
    name: str, ensemble: str, kind: str, atoms: dict[str, Atoms]
) -> None:
    options = {"dtype": "float64", "device": "cpu", "ensemble": ensemble, "forces": kind}
    calculator = PETCalculator(REFERENCE / f"{name}.ckpt", **options)
    rng = np.random.default_rng(3)
    structure = atoms["water"].copy()
    structure.calc = calculator
    energy, forces = structure.get_potential_energy(), structure.get_forces()
    for _ in range(3):
        R = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        turned = structure.copy()
        turned.positions = structure.positions @ R.T
        turned.calc = calculator
        assert turned.get_potential_energy() == pytest.approx(energy, rel=1e-10)
        np.testing.assert_allclose(turned.get_forces(), forces @ R.T, rtol=0, atol=1e-9)


def test_the_stress_of_a_slab(atoms: dict[str, Atoms], numbers: dict[str, Any]) -> None:
    """The original's, which is that of finite differences over the volume of the cell."""
    structure = atoms["si_slab_TTF"].copy()
    structure.calc = PETCalculator(
        REFERENCE / "fresh_default.ckpt", dtype="float64", device="cpu", symmetry=None
    )
    expected = numbers["fresh_default|float64"]["si_slab_TTF"]["stress_voigt"]
    np.testing.assert_allclose(structure.get_stress(), expected, rtol=0, atol=1e-13)
    numerical = calculate_numerical_stress(structure, eps=1e-5)
    np.testing.assert_allclose(expected, numerical, rtol=0, atol=1e-7)
