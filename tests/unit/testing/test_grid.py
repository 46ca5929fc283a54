"""Averages over 84 orientations: exact up to the third degree, no further, and conservative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from ase_pet import PETCalculator
from ase_pet.formats import Model
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.total import Total
from ase_pet.testing.contracts import check_forces, check_virial, transformed
from ase_pet.testing.evaluators import calculator_evaluator
from ase_pet.testing.grid import GridAverage, grid
from tests.tiny import tiny_pet

ODD = np.array([0.3, -0.5, 0.9])


class Power:
    """An energy that depends on the orientation: a power of the height along an odd direction."""

    def __init__(self, degree: int) -> None:
        self.degree = degree
        self.batches: list[int] = []

    def compute(self, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
        self.batches.append(sum(map(len, structures)))
        heights = [atoms.positions @ ODD for atoms in structures]
        return [
            {
                "energy": (x**self.degree).sum(),
                "forces": -self.degree * x[:, None] ** (self.degree - 1) * ODD,
            }
            for x in heights
        ]


def test_rotations_and_reflections() -> None:
    found = grid()
    assert found.shape == (84, 3, 3)
    np.testing.assert_allclose(found @ found.transpose(0, 2, 1), [np.eye(3)] * 84, atol=1e-15)
    np.testing.assert_allclose(sorted(np.linalg.det(found)), [-1.0] * 42 + [1.0] * 42)
    assert len(np.unique(found.round(9), axis=0)) == 84


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_exact_up_to_the_third_degree(degree: int) -> None:
    atoms = Atoms("H3", [[1.0, 0.2, 0.1], [0.3, -1.1, 0.4], [0.0, 0.5, 1.3]])
    calc = GridAverage(Power(degree))  # type: ignore[arg-type]
    turns = Rotation.random(5, random_state=0).as_matrix()
    found = calc.compute([transformed(atoms, R) for R in turns])
    energies = [results["energy"] for results in found]
    forces = np.array([results["forces"] @ R for R, results in zip(turns, found, strict=True)])
    spread = max(np.ptp(energies), np.ptp(forces, axis=0).max())
    assert spread < 1e-13 if degree < 4 else spread > 1e-2
    if degree == 2:  # the mean of cos² over the sphere is a third
        assert energies[0] == pytest.approx((atoms.positions**2).sum() * (ODD @ ODD) / 3.0)


def test_batches() -> None:
    bare = Power(2)
    calc = GridAverage(bare, batch_atoms=50)  # type: ignore[arg-type]
    calc.compute([Atoms("H20", np.zeros((20, 3)))])
    assert bare.batches == [40] * 42


def test_forces_and_stress_are_derivatives() -> None:
    model = Model(Total(tiny_pet(cutoff=2.0), Composition({6: -5.0})), "float64", {})
    bare = PETCalculator(model, symmetry=None)
    atoms = bulk("C")
    atoms.rattle(0.05, seed=1)
    calc = GridAverage(bare)
    ask = calculator_evaluator(calc)
    check_forces(ask, atoms)
    check_virial(ask, atoms)
    atoms.calc = calc
    results = calc.compute([atoms])[0]
    assert atoms.get_potential_energy() == results["energy"]
    np.testing.assert_array_equal(atoms.get_stress(), results["stress"])
    assert calc.todict() == {**bare.todict(), "orientations": 84}
