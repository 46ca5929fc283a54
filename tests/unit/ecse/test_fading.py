"""Edges at the very end of the cutoff: what rounding leaves of energies meets endless slopes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from ase_pet.derivatives import evaluate, results
from ase_pet.ecse import Symmetrized
from ase_pet.testing.evaluators import graph_of
from tests.tiny import tiny_pet

CUTOFF = 2.2
TURNS = Rotation.random(3, random_state=0).as_matrix()


def triangle(side: float) -> Atoms:
    return Atoms("COC", side * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0]]))


def pair_and_two(distance: float) -> Atoms:
    """A dimer, whose axis takes its second direction from two atoms that leave."""
    leaving = distance * np.array([[0.8, 0.6, 0.0], [0.8, -0.48, 0.36]])
    return Atoms("CHOO", [[0, 0, 0], [-0.9, 0.1, 0], *leaving])


def how_forces_turn(symmetrized: Symmetrized, atoms: Atoms) -> float:
    """Largest difference of the forces of a structure and those of it turned, eV/Å."""
    graph = graph_of([atoms], CUTOFF)
    ours = results(evaluate(symmetrized, graph), graph).forces.numpy()
    differences = []
    for turn in TURNS:
        turned = atoms.copy()
        turned.positions = atoms.positions @ turn.T
        graph = graph_of([turned], CUTOFF)
        others = results(evaluate(symmetrized, graph), graph).forces.numpy()
        differences.append(float(np.abs(ours @ turn.T - others).max()))
    return max(differences)


@pytest.mark.parametrize("make", [triangle, pair_and_two])
def test_forces_turn_as_edges_end(make: Callable[[float], Atoms]) -> None:
    """Close to the cutoff, slopes of 1/Å over the distance multiply the rounding of energies."""
    symmetrized = Symmetrized(tiny_pet(cutoff=CUTOFF), ensemble="global", weights="smooth")
    for below in (4e-16, 1e-14, 1e-12, 1e-10, 1e-8):
        assert how_forces_turn(symmetrized, make(CUTOFF - below)) < 1e-7


def test_forces_turn_as_edges_end_for_atoms_that_share() -> None:
    symmetrized = Symmetrized(tiny_pet(cutoff=CUTOFF), ensemble="shared", weights="smooth")
    for below in (1e-14, 1e-12, 1e-10):
        assert how_forces_turn(symmetrized, pair_and_two(CUTOFF - below)) < 1e-7


def test_single_precision_makes_no_forces_of_rounding() -> None:
    symmetrized = Symmetrized(tiny_pet(cutoff=CUTOFF).float(), ensemble="global", weights="smooth")
    for below in (4e-16, 1e-14):
        assert how_forces_turn(symmetrized, triangle(CUTOFF - below)) < 1e-4


def test_nothing_that_matters_is_left_out() -> None:
    """Forces that are a hundred millionth of the cutoff away from none at all are that small."""
    symmetrized = Symmetrized(tiny_pet(cutoff=CUTOFF), ensemble="global", weights="smooth")
    before, after = (
        results(evaluate(symmetrized, graph), graph).forces
        for graph in (
            graph_of([pair_and_two((1.0 - fraction) * CUTOFF)], CUTOFF)
            for fraction in (1.4e-8, 1.6e-8)
        )
    )
    assert float(before.abs().max()) > 1e-3
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)
