"""A supercell has the charge of all its cells."""

from __future__ import annotations

import pytest
from ase.build import bulk

from ase_pet.workflows.repeat import repeat

OPTIONS = {"charge": 0.0, "spin": 1.0}


def test_the_charge_of_a_cell_is_that_of_each_copy() -> None:
    atoms = bulk("Si")
    atoms.info["charge"] = -1
    assert repeat(atoms, (2, 2, 1), OPTIONS).info["charge"] == -4
    assert repeat(atoms, (1, 1, 1), OPTIONS).info["charge"] == -1
    assert atoms.info["charge"] == -1
    assert len(repeat(atoms, (2, 2, 1), OPTIONS)) == 8
    assert "charge" not in repeat(bulk("Si"), (2, 1, 1), OPTIONS).info


@pytest.mark.parametrize(
    ("info", "options", "message"),
    [
        ({}, {"charge": 1.0, "spin": 1.0}, "1 may be the charge of one cell or of all 4"),
        ({"spin": 2}, OPTIONS, "spins of 4 cells of multiplicity 2"),
        ({"spin_multiplicity": 3}, OPTIONS, "spins of 4 cells of multiplicity 3"),
        ({}, {"charge": 0.0, "spin": 2.0}, "spins of 4 cells"),
        ({"charge": "one"}, OPTIONS, "expected a number"),
    ],
)
def test_what_one_cell_does_not_say_is_refused(info: dict, options: dict, message: str) -> None:
    atoms = bulk("Si")
    atoms.info.update(info)
    with pytest.raises(ValueError, match=message):
        repeat(atoms, (2, 2, 1), options)
    if "charge" not in info:
        assert len(repeat(atoms, (1, 1, 1), options)) == 2


def test_numbers_must_be_positive() -> None:
    with pytest.raises(ValueError, match="expected three positive numbers"):
        repeat(bulk("Si"), (2, 0, 1), OPTIONS)
