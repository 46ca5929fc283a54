"""Whatever differs is not found; what is damaged is computed anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from ase_pet import PETCalculator
from ase_pet.formats import load
from ase_pet.workflows.phonons.store import Store

ARRAYS = {"forces": np.array([[0.1, 1 / 3, np.pi]])}


@pytest.fixture
def store(checkpoint: Path, tmp_path: Path) -> Store:
    made = Store(tmp_path / "kept", PETCalculator(checkpoint))
    made.save(ARRAYS, [bulk("C")], steps=1)
    return made


def test_what_was_saved_is_found_to_the_last_bit(store: Store, checkpoint: Path) -> None:
    again = Store(store.folder, PETCalculator(checkpoint))
    found = again.load([bulk("C")], steps=1)
    assert found is not None
    np.testing.assert_array_equal(found["forces"], ARRAYS["forces"])


def changed(**arrays: object) -> list[Atoms]:
    atoms = bulk("C")
    for name, value in arrays.items():
        setattr(atoms, name, value)
    return [atoms]


@pytest.mark.parametrize(
    "structures",
    [
        changed(positions=bulk("C").positions + 1e-15),
        changed(cell=bulk("C").cell.array * (1 + 1e-15)),
        changed(numbers=[6, 8]),
        changed(pbc=[True, True, False]),
        changed(info={"charge": 1}),
        changed() * 2,
    ],
)
def test_other_structures_are_not_found(store: Store, structures: list[Atoms]) -> None:
    assert store.load([bulk("C")], steps=1) is not None
    assert store.load(structures, steps=1) is None


def test_other_settings_options_and_models_are_not_found(
    store: Store, checkpoint: Path, tmp_path: Path
) -> None:
    assert store.load([bulk("C")], steps=2) is None
    for options in ({"symmetry": "SO(3)"}, {"dtype": "float32"}, {"charge": 0.0, "skin": 0.1}):
        other = Store(store.folder, PETCalculator(checkpoint, **options))
        assert other.load([bulk("C")], steps=1) is None
    moved = tmp_path / "moved.pt"
    moved.write_bytes(checkpoint.read_bytes())
    assert Store(store.folder, PETCalculator(moved)).load([bulk("C")], steps=1) is not None
    model = load(checkpoint)
    model.metadata["source"] = {"units_assumed": "hartree"}
    assert Store(store.folder, PETCalculator(model)).load([bulk("C")], steps=1) is None


def test_a_damaged_file_is_computed_anew(store: Store) -> None:
    (path,) = store.folder.iterdir()
    for content in (path.read_bytes()[:-50], b"", b"no archive"):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="damaged, computed anew"):
            assert store.load([bulk("C")], steps=1) is None


def test_pickles_are_not_read(store: Store) -> None:
    (path,) = store.folder.iterdir()
    with path.open("wb") as file:
        np.savez(file, forces=np.array([{}], dtype=object))
    with pytest.warns(UserWarning, match="damaged, computed anew"):
        assert store.load([bulk("C")], steps=1) is None


def test_calculators_without_a_fingerprint_keep_nothing(checkpoint: Path, tmp_path: Path) -> None:
    import dataclasses

    nameless = dataclasses.replace(load(checkpoint), sha256="")
    for calculator in (EMT(), PETCalculator(nameless), PETCalculator([load(checkpoint), nameless])):
        store = Store(tmp_path / "kept", calculator)
        store.save(ARRAYS, [bulk("C")])
        assert store.load([bulk("C")]) is None
    assert not (tmp_path / "kept").exists()
    committee = Store(tmp_path / "kept", PETCalculator([checkpoint, checkpoint]))
    committee.save(ARRAYS, [bulk("C")])
    assert committee.load([bulk("C")]) is not None
