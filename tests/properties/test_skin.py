"""Random walks of atoms and cell: the skin changes nothing but the cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_pet.data import System
from ase_pet.neighbors import VerletSkin, make_search
from tests.neighbor_cases import assert_same, nasty_case, system_of

WALKERS = ("triclinic", "outside", "left_handed", "small", "one_atom", "mixed_pbc", "zero_vectors",
           "open", "batch")  # fmt: skip


def walk(system: System, rng: np.random.Generator, size: float, strain: float) -> System:
    """One step: every atom moves, every cell deforms with its atoms; now and then one wraps."""
    if strain:
        deformation = torch.as_tensor(np.eye(3) + strain * rng.normal(size=(3, 3)))
    else:  # to the last bit, so that the cell is the one of the reference
        deformation = torch.eye(3, dtype=torch.float64)
    positions = system.positions @ deformation
    positions = positions + size * torch.as_tensor(rng.normal(size=positions.shape))
    cell = system.cell @ deformation
    if rng.random() < 0.1:
        atom = int(rng.integers(system.n_atoms))
        k = system.system_index[atom]
        step = torch.as_tensor(rng.integers(-1, 2, 3)) * system.pbc[k]
        positions[atom] += step.to(torch.float64) @ cell[k]
    return System(positions, system.numbers, cell, system.pbc, system.system_index)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(WALKERS),
    seed=st.integers(0, 10**6),
    size=st.sampled_from([0.0, 0.02, 0.1]),
    strain=st.sampled_from([0.0, 0.003, 0.02]),
    width=st.floats(0.05, 1.5),
)
def test_filtered_list_is_a_fresh_list(
    kind: str, seed: int, size: float, strain: float, width: float
) -> None:
    rng = np.random.default_rng(seed)
    system, cutoff = nasty_case(kind, seed % 1000)
    search = make_search("cell_list")
    skin = VerletSkin(search, width)
    for _ in range(6):
        assert_same(skin(system, cutoff), search(system, cutoff))
        system = walk(system, rng, size, strain)


def can_matter(then: System, now: System, cutoff: float, skin: float) -> float:
    """By how much (Å) a pair that was beyond the list may have come closer than the cutoff."""
    worst = -np.inf
    for k in range(now.n_systems):
        mine = (now.system_index == k).numpy()
        old, new = then.cell[k].numpy(), now.cell[k].numpy()
        axes = now.pbc[k].numpy()
        deformation = np.eye(3)
        if axes.any():  # F maps the periodic vectors, and is the identity perpendicular to them
            plane = old[axes]
            deformation += plane.T @ np.linalg.solve(plane @ plane.T, new[axes] - plane)
        left = now.positions.numpy()[mine] - then.positions.numpy()[mine] @ deformation
        moves = np.sort(np.linalg.norm(left - left.mean(0), axis=1))[-2:]
        shortest = np.linalg.svd(deformation)[1].min()
        worst = max(worst, cutoff - (shortest * (cutoff + skin) - moves.sum()))
    return float(worst)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(WALKERS),
    seed=st.integers(0, 10**6),
    size=st.sampled_from([0.0, 0.01, 0.05]),
    strain=st.sampled_from([0.0, 0.003, 0.02]),
    width=st.floats(0.05, 1.5),
)
def test_a_list_is_built_exactly_when_something_can_matter(
    kind: str, seed: int, size: float, strain: float, width: float
) -> None:
    rng = np.random.default_rng(seed)
    system, cutoff = nasty_case(kind, seed % 1000)
    skin = VerletSkin(make_search("cell_list"), width)
    skin(system, cutoff)
    reference, n_builds = system, skin.n_builds
    for _ in range(8):
        system = walk(system, rng, size, strain)
        margin = can_matter(reference, system, cutoff, width)
        skin(system, cutoff)
        if abs(margin) > 2e-5:  # rounding is allowed for, however far from the origin
            assert (skin.n_builds > n_builds) == (margin > 0)
        if skin.n_builds > n_builds:
            reference, n_builds = system, skin.n_builds


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    width=st.floats(0.05, 1.0),
    share=st.floats(0.0, 1.0),
    beyond=st.floats(-0.02, 0.02),
)
def test_two_atoms_that_meet_are_never_missed(
    seed: int, width: float, share: float, beyond: float
) -> None:
    """The worst case: the two fastest atoms, just beyond the list, head for each other."""
    rng = np.random.default_rng(seed)
    cutoff = 3.0
    line = rng.normal(size=3)
    line /= np.linalg.norm(line)
    still = 50.0 + 8.0 * rng.random((40, 3))  # the many others keep the mean where it is
    pair = np.array([0 * line, (cutoff + width + 1e-3) * line])
    steps = (width + beyond) * np.array([share * line, (share - 1.0) * line])
    skin = VerletSkin(make_search("cell_list"), width)
    for positions in (pair, pair + steps):
        system = system_of(np.concatenate([positions, still]))
        assert_same(skin(system, cutoff), make_search("cell_list")(system, cutoff))


@pytest.mark.parametrize("kind", WALKERS)
def test_slow_walk_reuses(kind: str) -> None:
    rng = np.random.default_rng(5)
    system, cutoff = nasty_case(kind, 4)
    skin = VerletSkin(make_search("cell_list"), 1.0)
    for _ in range(30):
        skin(system, cutoff)
        jitter = 0.01 * torch.as_tensor(rng.normal(size=system.positions.shape))
        moved = system.positions * 1.001 + jitter
        system = System(moved, system.numbers, system.cell * 1.001, system.pbc, system.system_index)
    assert skin.n_builds <= 3
