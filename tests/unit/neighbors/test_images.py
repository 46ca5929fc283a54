import itertools

import numpy as np
import pytest
import torch

from ase_pet.errors import NeighborError
from ase_pet.neighbors.brute_force import brute_force
from ase_pet.neighbors.images import (
    SKEWED,
    Images,
    Lattice,
    extent,
    integer_boxes,
    minkowski_basis,
    transform,
    well_shaped,
)
from tests.neighbor_cases import KINDS, fcc, nasty_case, rhombohedron, system_of


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_lattice_is_the_same_structure(kind: str, seed: int) -> None:
    system, _ = nasty_case(kind, seed)
    lattice = Lattice.of(system)
    index = system.system_index
    scale = 1e-13 * (1 + float(system.positions.abs().amax()))
    wrapped = system.positions + transform(lattice.offsets.double(), lattice.cell, index)
    torch.testing.assert_close(lattice.positions, wrapped, rtol=0, atol=scale)
    back = transform(lattice.fractional, lattice.cell, index)
    torch.testing.assert_close(lattice.positions, back, rtol=0, atol=100 * scale)
    inside = (lattice.fractional >= -1e-6) & (lattice.fractional <= 1 + 1e-6)
    assert bool((inside | ~system.pbc[index]).all())
    given = lattice.basis.double() @ system.cell
    periodic = system.pbc.unsqueeze(2)
    torch.testing.assert_close(lattice.cell * periodic, given * periodic, rtol=0, atol=1e-12)


def test_complements_are_orthonormal_whatever_the_vectors() -> None:
    patterns = list(itertools.product([False, True], repeat=3))
    rng = np.random.default_rng(0)
    for filler in (0.0, 1e-12, 1.0, 1e6):
        cell = torch.tensor(rng.normal(size=(8, 3, 3)) + 3 * np.eye(3))
        pbc = torch.tensor(patterns)
        given = torch.where(pbc.unsqueeze(2), cell, filler)
        new, basis = well_shaped(given, pbc)
        for k, pattern in enumerate(patterns):
            free, periodic = new[k, ~pbc[k]], basis[k].double() @ given[k] * pbc[k].unsqueeze(1)
            torch.testing.assert_close(free @ free.T, torch.eye(len(free), dtype=torch.float64))
            assert float((free @ periodic.T).abs().sum()) < 1e-12, pattern


@pytest.mark.parametrize("angle", [5.0, 20.0, 60.0, 90.0, 118.0])
def test_reduction_makes_the_shortest_vectors(angle: float) -> None:
    cell = rhombohedron(3.0, angle)
    basis = minkowski_basis(cell)
    assert abs(round(np.linalg.det(basis))) == 1
    lengths = np.sort(np.linalg.norm(basis @ cell, axis=1))
    steps = np.array(list(itertools.product(range(-3, 4), repeat=3)))
    shortest, span = [], np.zeros((0, 3))
    for step in steps[np.argsort(np.linalg.norm(steps @ cell, axis=1), kind="stable")]:
        if np.linalg.matrix_rank(np.vstack([span, step])) > len(span):
            span = np.vstack([span, step])
            shortest.append(np.linalg.norm(step @ cell))
    np.testing.assert_allclose(lengths, shortest, rtol=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_reduction_undoes_a_random_change_of_basis(dimension: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    good = rng.normal(size=(dimension, 3)) + 4 * np.eye(3)[:dimension]
    change = np.eye(dimension, dtype=int)
    for _ in range(12 if dimension > 1 else 0):
        a, b = rng.choice(dimension, 2, replace=False)
        change[a] += rng.integers(-3, 4) * change[b]
    basis = minkowski_basis(change @ good)
    assert abs(round(np.linalg.det(basis))) == 1
    reduced = np.linalg.norm(basis @ change @ good, axis=1)
    assert reduced.max() <= np.linalg.norm(good, axis=1).max() * (1 + 1e-9)


def test_only_badly_skewed_cells_are_reduced() -> None:
    cell = torch.tensor(np.stack([np.eye(3), rhombohedron(1.0, 60.0), rhombohedron(1.0, 5.0)]))
    new, basis = well_shaped(cell, torch.ones(3, 3, dtype=torch.bool))
    unit = torch.eye(3, dtype=torch.int64)
    assert [bool((b == unit).all()) for b in basis] == [True, True, False]
    assert torch.equal(new[:2], cell[:2])
    heights = 1 / torch.linalg.vector_norm(torch.linalg.inv(new), dim=1)
    assert bool((torch.linalg.vector_norm(new, dim=2) <= SKEWED * heights).all())


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_complete_and_unique(kind: str) -> None:
    system, cutoff = nasty_case(kind, 7)
    lattice = Lattice.of(system)
    images = Images.within(lattice, cutoff)
    listed = {(int(a), *s) for a, s in zip(images.atoms, images.shifts.tolist(), strict=True)}
    assert len(listed) == len(images.atoms)
    steps = torch.tensor(list(itertools.product(range(-4, 5), repeat=3)))
    for atom in range(system.n_atoms):
        k = system.system_index[atom]
        moved = lattice.positions[atom] + (steps * lattice.pbc[k]).double() @ lattice.cell[k]
        mates = lattice.positions[system.system_index == k]
        near = torch.cdist(moved, mates).amin(1) < cutoff - 1e-9
        for step in (steps * lattice.pbc[k])[near].tolist():
            assert (atom, *step) in listed


def test_images_beyond_memory_are_refused() -> None:
    lattice = Lattice.of(system_of([[0, 0, 0]], np.eye(3), True))
    with pytest.raises(NeighborError, match="image atoms need about"):
        Images.within(lattice, 1e5)


def test_integer_boxes() -> None:
    first = torch.tensor([[0, -1, 2], [5, 5, 5], [1, 1, 1]])
    last = torch.tensor([[1, 0, 2], [5, 4, 5], [1, 1, 1]])
    box, points = integer_boxes(first, last)
    assert box.tolist() == [0, 0, 0, 0, 2]
    assert points.tolist() == [[0, -1, 2], [0, 0, 2], [1, -1, 2], [1, 0, 2], [1, 1, 1]]


def test_extent_of_each_structure() -> None:
    values = torch.tensor([[1.0, 2, 3], [3, 0, 5], [-1, -1, -1]])
    low, high = extent(values, torch.tensor([0, 0, 2]), 3)
    assert low.tolist() == [[1, 0, 3], [0, 0, 0], [-1, -1, -1]]
    assert high.tolist() == [[3, 2, 5], [0, 0, 0], [-1, -1, -1]]


@pytest.mark.parametrize(("repeat", "pbc"), [(1, True), (4, True), (4, False), (3, (1, 1, 0))])
def test_estimate_of_edges_is_near(repeat: int, pbc: object) -> None:
    crystal = fcc(4.0, repeat)
    system = system_of(crystal.positions, crystal.cell[0].numpy(), pbc)
    estimate = Lattice.of(system).estimated_edges(5.0)
    assert 0.5 < estimate / brute_force(system, 5.0).n_edges < 2.5
