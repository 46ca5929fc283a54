"""Random walks of atoms and cell: the skin changes nothing but the cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_pet.data import System
from ase_pet.neighbors import VerletSkin, make_search
from tests.neighbor_cases import assert_same, nasty_case

WALKERS = ("triclinic", "outside", "left_handed", "small", "one_atom", "mixed_pbc", "zero_vectors",
           "open", "batch")  # fmt: skip


def walk(system: System, rng: np.random.Generator, size: float, strain: float) -> System:
    """One step: every atom moves, every cell deforms with its atoms; now and then one wraps."""
    deformation = torch.as_tensor(np.eye(3) + strain * rng.normal(size=(3, 3)))
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
