"""What every neighbour search promises."""

from __future__ import annotations

import copy
import pickle
from functools import cache

import numpy as np
import pytest
import torch

from ase_pet.data import Edges, System
from ase_pet.errors import NeighborError
from ase_pet.neighbors import NeighborSearch, VerletSkin, make_search
from ase_pet.neighbors.brute_force import brute_force
from tests.neighbor_cases import (
    BACKENDS,
    KINDS,
    as_set,
    ase_set,
    assert_same,
    fcc,
    nasty_case,
    needs_cuda,
    system_of,
)

SEEDS = range(30)  # times 17 kinds: 510 cases

FCC_SHELLS = [12, 6, 24, 12, 24, 8]


@pytest.fixture(params=[*BACKENDS, pytest.param("skin")])
def search(request: pytest.FixtureRequest) -> NeighborSearch:
    if request.param == "skin":
        return VerletSkin(make_search("cell_list"), 0.4)
    return make_search(request.param)


@cache
def oracle(kind: str, seed: int) -> Edges:
    return brute_force(*nasty_case(kind, seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("search", [*BACKENDS[1:], "skin"], indirect=True)
def test_equals_the_oracle(search: NeighborSearch, kind: str) -> None:
    for seed in SEEDS:
        system, cutoff = nasty_case(kind, seed)
        assert_same(search(system, cutoff), oracle(kind, seed))


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("batch", "shell")])
def test_oracle_equals_ase(kind: str) -> None:
    compared = 0
    for seed in SEEDS:
        system, cutoff = nasty_case(kind, seed)
        # It gets slow in badly skewed cells: two of them are enough.
        if _bins_searched_by_ase(system, cutoff) < (500 if compared > 1 else 1500):
            assert as_set(oracle(kind, seed)) == ase_set(system, cutoff), seed
            compared += 1
    assert compared >= 2


def _bins_searched_by_ase(system: System, cutoff: float) -> float:
    reciprocal = torch.linalg.pinv(system.cell[0] * system.pbc[0].unsqueeze(1))
    heights = 1 / torch.linalg.vector_norm(reciprocal, dim=0)
    return float((2 * (max(cutoff, 3.0) / heights).ceil() + 1).prod())


@pytest.mark.parametrize("kind", KINDS)
def test_edges_are_sorted_symmetric_and_within_the_cutoff(
    search: NeighborSearch, kind: str
) -> None:
    for seed in SEEDS[:5]:
        system, cutoff = nasty_case(kind, seed)
        edges = search(system, cutoff)
        back = edges.reverse
        assert bool((edges.centers.diff() >= 0).all())
        assert torch.equal(edges.centers[back], edges.others)
        assert torch.equal(edges.others[back], edges.centers)
        assert torch.equal(edges.shifts[back], -edges.shifts)
        vectors = edges.vectors(system)
        assert torch.equal(vectors[back], -vectors)
        assert bool((torch.linalg.vector_norm(vectors, dim=1) < cutoff * (1 + 1e-15)).all())
        itself = (edges.centers == edges.others) & (edges.shifts == 0).all(1)
        assert not bool(itself.any())


@pytest.mark.parametrize("seed", range(5))
def test_batch_equals_singles(search: NeighborSearch, seed: int) -> None:
    kinds = ["triclinic", "open", "rhombohedron", "far_outside", "zero_vectors", "one_atom"]
    singles = [nasty_case(kind, seed)[0] for kind in kinds]
    empty = system_of([], np.eye(3), True)
    singles.insert(seed, empty)
    batch = search(System.cat(singles), 2.5)
    start, edge = 0, 0
    for single in singles:
        alone = search(single, 2.5)
        part = slice(edge, edge + alone.n_edges)
        assert torch.equal(batch.centers[part], alone.centers + start)
        assert torch.equal(batch.others[part], alone.others + start)
        assert torch.equal(batch.shifts[part], alone.shifts)
        assert torch.equal(batch.reverse[part], alone.reverse + edge)
        start, edge = start + single.n_atoms, edge + alone.n_edges
    assert edge == batch.n_edges


@pytest.mark.parametrize("n_shells", range(1, 7))
@pytest.mark.parametrize("repeat", [1, 2])
def test_shells_of_fcc(search: NeighborSearch, n_shells: int, repeat: int) -> None:
    cutoff = 4.0 * np.sqrt((n_shells + 0.5) / 2)
    edges = search(fcc(4.0, repeat), cutoff)
    counts = torch.bincount(edges.centers)
    assert counts.tolist() == [sum(FCC_SHELLS[:n_shells])] * 4 * repeat**3


def test_cutoff_is_strict(search: NeighborSearch) -> None:
    system = system_of([[0.5, 0.25, 0.125]], 2.0 * np.eye(3), True)
    assert search(system, 2.0).n_edges == 0
    assert search(system, np.nextafter(2.0, 3.0)).n_edges == 6


@pytest.mark.parametrize("kind", ["triclinic", "far_outside", "rhombohedron", "open"])
def test_cutoff_next_to_a_distance(search: NeighborSearch, kind: str) -> None:
    for seed in SEEDS[:8]:
        system, _ = nasty_case(kind, seed)
        vectors = brute_force(system, 3.0).vectors(system)
        for distance in (vectors * vectors).sum(1).sqrt()[:3].tolist():
            for cutoff in (distance, np.nextafter(distance, 9.0), np.nextafter(distance, 0.0)):
                assert_same(search(system, cutoff), brute_force(system, cutoff))


def test_lattice_translation_of_an_atom_changes_shifts_only(search: NeighborSearch) -> None:
    system, cutoff = nasty_case("triclinic", 1)
    edges = search(system, cutoff)
    steps = torch.randint(-4, 5, (system.n_atoms, 3), generator=torch.Generator().manual_seed(0))
    moved = copy.copy(system.positions) + steps.to(torch.float64) @ system.cell[0]
    again = search(
        System(moved, system.numbers, system.cell, system.pbc, system.system_index), cutoff
    )
    back = again.shifts + steps[again.others] - steps[again.centers]
    assert as_set(edges) == as_set(Edges(again.centers, again.others, back, again.reverse))


def test_no_atoms(search: NeighborSearch) -> None:
    edges = search(system_of([], np.eye(3), True), 3.0)
    assert edges.n_edges == 0
    assert edges.shifts.shape == (0, 3)


def test_input_is_not_changed(search: NeighborSearch) -> None:
    system, cutoff = nasty_case("batch", 3)
    parts = ("positions", "numbers", "cell", "pbc", "system_index")
    before = [getattr(system, part).clone() for part in parts]
    search(system, cutoff)
    for part, old in zip(parts, before, strict=True):
        assert torch.equal(getattr(system, part), old), part


def test_atoms_far_apart_cost_no_memory(search: NeighborSearch) -> None:
    for far in (1e4, 1e8):
        pairs = [[0, 0, 0], [1, 0, 0], [far, far, far], [far, far, far - 1]]
        assert search(system_of(pairs), 5.0).n_edges == 4
        assert search(system_of(pairs, 1.5 * far * np.eye(3), True), 5.0).n_edges == 4


def test_long_and_thin_boxes(search: NeighborSearch) -> None:
    """Where a library of bins may leave an axis without any."""
    for away in ([1e6, 0, 0], [2e3, 2e3, 0], [0, 3e8, 1.0]):
        assert search(system_of([[0, 0, 0], away]), 5.5).n_edges == 0
    for cell in ([2e3, 2e3, 6.0], [6e5, 6.0, 6.0]):
        found = search(system_of([[0, 0, 0], [1, 0, 0]], np.diag(cell), True), 5.5)
        assert found.n_edges == 2


@pytest.mark.parametrize("cutoff", [2e3, 1e9, 1e300])
def test_too_many_pairs_are_refused(search: NeighborSearch, cutoff: float) -> None:
    with pytest.raises(NeighborError, match=r"about .* pairs within .* Å .* GiB .* shorter cutoff"):
        search(system_of([[0, 0, 0]], np.eye(3), True), cutoff)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_cutoff(search: NeighborSearch, cutoff: float) -> None:
    with pytest.raises(ValueError, match="cutoff: expected a positive finite distance in Å"):
        search(system_of([[0, 0, 0]]), cutoff)


def test_can_be_copied_and_sent(search: NeighborSearch) -> None:
    system, cutoff = nasty_case("triclinic", 0)
    expected = search(system, cutoff)
    assert_same(copy.deepcopy(search)(system, cutoff), expected)
    assert_same(pickle.loads(pickle.dumps(search))(system, cutoff), expected)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=needs_cuda) for n in ("auto", "cell_list", "brute_force")]
)
def test_cuda_equals_the_oracle(name: str) -> None:
    search = make_search(name, device="cuda")
    for kind in KINDS:
        for seed in SEEDS[:10]:
            system, cutoff = nasty_case(kind, seed)
            assert_same(search(system.to("cuda"), cutoff).to("cpu"), oracle(kind, seed))
