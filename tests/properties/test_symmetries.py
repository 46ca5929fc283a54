"""Random structures: what symmetry, order, wrapping and batching must not change."""

from __future__ import annotations

from itertools import product

import numpy as np
from ase import Atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ase_pet.ecse import Symmetrized
from ase_pet.testing import contracts
from ase_pet.testing.evaluators import potential_evaluator
from tests.tiny import SPECIES, tiny_pet

CUTOFF = 2.2
BARE = {n: potential_evaluator(tiny_pet(n, cutoff=CUTOFF)) for n in (1, 2)}
SYMMETRIZED = {
    (n, ensemble, weights): potential_evaluator(
        Symmetrized(tiny_pet(n, cutoff=CUTOFF), ensemble=ensemble, weights=weights)
    )
    for n, ensemble, weights in product(
        (1, 2), ("local", "shared", "global"), ("smooth", "lean", "paper")
    )
    if (ensemble, weights) != ("shared", "paper")
}

few = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@st.composite
def random_atoms(draw: st.DrawFn, *, periodic: bool | None = None) -> Atoms:
    """One to five atoms, none too close, on a lattice that may be skewed or left-handed."""
    n_atoms = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = rng.choice(SPECIES, n_atoms)
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    if periodic is not None:
        pbc = (periodic,) * 3
    shape = draw(st.sampled_from(["cubic", "skewed", "left-handed", "planar"]))
    cell = np.eye(3) * rng.uniform(1.4, 3.0, 3) * max(1.0, n_atoms ** (1 / 3))
    if shape == "skewed":
        cell += np.tril(rng.uniform(-1.0, 1.0, (3, 3)), -1)
    if shape == "left-handed":
        cell = -cell[::-1]
    scaled = rng.random((n_atoms, 3))
    if shape == "planar":
        scaled[:, 2] = 0.5
    atoms = Atoms(numbers, scaled_positions=scaled, cell=cell, pbc=pbc)
    apart = atoms.get_all_distances(mic=True)[~np.eye(n_atoms, dtype=bool)]
    if len(apart) and apart.min() < 0.5:  # too close for a number of 12 digits
        atoms.positions = np.arange(n_atoms)[:, None] * [0.55, 0.31, 0.12] * 2
        atoms.set_cell(cell * 3)
    return atoms


@few
@given(random_atoms(), st.sampled_from(sorted(SYMMETRIZED)), st.integers(0, 99))
def test_rotations_and_reflections(atoms: Atoms, key: tuple, seed: int) -> None:
    contracts.check_rotation(SYMMETRIZED[key], atoms, n_operations=2, seed=seed)


@few
@given(random_atoms(), st.sampled_from(sorted(SYMMETRIZED)), st.integers(0, 99))
def test_order_of_atoms(atoms: Atoms, key: tuple, seed: int) -> None:
    contracts.check_permutation(BARE[key[0]], atoms, seed=seed)
    contracts.check_permutation(SYMMETRIZED[key], atoms, seed=seed)


@few
@given(random_atoms(), st.sampled_from(sorted(SYMMETRIZED)), st.integers(0, 99))
def test_wrapping_and_moving(atoms: Atoms, key: tuple, seed: int) -> None:
    contracts.check_translation(BARE[key[0]], atoms, seed=seed)
    contracts.check_translation(SYMMETRIZED[key], atoms, seed=seed)


@few
@given(st.lists(random_atoms(), min_size=1, max_size=4), st.sampled_from(sorted(SYMMETRIZED)))
def test_batches(structures: list[Atoms], key: tuple) -> None:
    contracts.check_batch(BARE[key[0]], structures)
    contracts.check_batch(SYMMETRIZED[key], structures)


@few
@given(random_atoms(periodic=True), st.sampled_from(sorted(SYMMETRIZED)))
def test_choice_of_the_cell(atoms: Atoms, key: tuple) -> None:
    contracts.check_handedness(SYMMETRIZED[key], atoms)
    contracts.check_supercell(SYMMETRIZED[key], atoms)


@few
@given(random_atoms(), st.sampled_from([k for k in sorted(SYMMETRIZED) if k[2] != "paper"]))
def test_forces_are_derivatives(atoms: Atoms, key: tuple) -> None:
    contracts.check_forces(SYMMETRIZED[key], atoms, n_directions=1)
    contracts.check_net_force(SYMMETRIZED[key], atoms)
