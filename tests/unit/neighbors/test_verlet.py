from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ase_pet.data import Edges, System
from ase_pet.errors import NeighborError
from ase_pet.neighbors import VerletSkin, make_search, verlet
from ase_pet.neighbors.brute_force import brute_force
from ase_pet.neighbors.search import within
from ase_pet.neighbors.verlet import closest_missed, two_largest
from tests.neighbor_cases import assert_same, fcc, nasty_case, needs_cuda, system_of

CUTOFF = 3.5


def moved(system: System, displacements: object) -> System:
    return replace(system, positions=system.positions + torch.as_tensor(displacements))


def strained(system: System, strain: np.ndarray) -> System:
    deformation = torch.as_tensor(np.eye(3) + strain)
    return replace(system, positions=system.positions @ deformation, cell=system.cell @ deformation)


@pytest.fixture
def skin() -> VerletSkin:
    found = VerletSkin(brute_force, 0.5)
    found(fcc(4.0), CUTOFF)
    assert found.n_builds == 1
    return found


def shake(size: float, seed: int = 0) -> np.ndarray:
    return size * np.random.default_rng(seed).uniform(-1, 1, (4, 3))


def builds_and_agrees(skin: VerletSkin, system: System, cutoff: float = CUTOFF) -> bool:
    before = skin.n_builds
    assert_same(skin(system, cutoff), brute_force(system, cutoff))
    return skin.n_builds > before


def test_small_moves_reuse_the_list(skin: VerletSkin) -> None:
    for seed in range(5):
        assert not builds_and_agrees(skin, moved(fcc(4.0), shake(0.14, seed)))


def test_vectors_come_with_the_list_to_the_last_bit() -> None:
    for kind in ("triclinic", "outside", "small", "mixed_pbc", "open", "batch"):
        system, cutoff = nasty_case(kind, 2)
        skin = VerletSkin(brute_force, 0.5)
        jitter = torch.as_tensor(0.02 * np.random.default_rng(0).normal(size=(system.n_atoms, 3)))
        wider = strained(system, 0.01 * np.eye(3))
        for step in (system, moved(system, jitter), moved(wider, jitter)):
            edges, vectors = skin.measured(step, cutoff)
            assert torch.equal(vectors, edges.vectors(step))
            assert_same(edges, brute_force(step, cutoff))
        assert skin.n_builds == 1


def test_another_thread_may_ask_in_the_middle(
    skin: VerletSkin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers that two evaluations shared would give the one the vectors of the other."""
    here, there = (moved(fcc(4.0), shake(0.05, seed)) for seed in (1, 2))
    found = []

    def interrupted(vectors: Tensor, *rest: Any) -> Tensor:
        monkeypatch.setattr(verlet, "within", within)
        with ThreadPoolExecutor(1) as other:
            found.append(other.submit(skin.measured, there, CUTOFF).result())
        return within(vectors, *rest)

    monkeypatch.setattr(verlet, "within", interrupted)
    found.append(skin.measured(here, CUTOFF))
    for system, (edges, vectors) in zip((there, here), found, strict=True):
        assert torch.equal(vectors, edges.vectors(system))
        assert_same(edges, brute_force(system, CUTOFF))


def test_indices_are_gathered_again_only_if_other_pairs_are_within(skin: VerletSkin) -> None:
    first = skin(fcc(4.0), CUTOFF)
    assert skin(moved(fcc(4.0), shake(0.05)), CUTOFF) is first
    stretched = strained(fcc(4.0), 0.25 * np.eye(3))  # neighbours from 2.83 to 3.54 Å
    assert skin(stretched, CUTOFF).n_edges == 0
    assert first.n_edges == 48
    assert skin.n_builds == 1


def test_lists_made_in_inference_mode_serve_outside() -> None:
    skin = VerletSkin(brute_force, 0.5)
    with torch.inference_mode():
        skin(fcc(4.0), CUTOFF)
    edges, vectors = skin.measured(moved(fcc(4.0), shake(0.05)), CUTOFF)
    vectors.requires_grad_(True).index_select(0, edges.reverse).sum().backward()
    assert skin.n_builds == 1


def test_no_edge_within_the_cutoff_from_the_start() -> None:
    skin = VerletSkin(brute_force, 0.5)
    edges, vectors = skin.measured(fcc(5.0), CUTOFF)
    assert (edges.n_edges, vectors.shape) == (0, (0, 3))
    assert brute_force(fcc(5.0), CUTOFF + 0.5).n_edges == 48


def test_large_moves_rebuild_it(skin: VerletSkin) -> None:
    far = np.zeros((4, 3))
    far[1, 0] = 0.6
    assert builds_and_agrees(skin, moved(fcc(4.0), far))


def test_one_atom_may_move_further_than_half_the_skin(skin: VerletSkin) -> None:
    one = np.zeros((4, 3))
    one[2, 1] = 0.36  # 0.27 from the mean, the others 0.09
    assert not builds_and_agrees(skin, moved(fcc(4.0), one))


def test_drift_of_all_atoms_does_not_count(skin: VerletSkin) -> None:
    assert not builds_and_agrees(skin, moved(fcc(4.0), np.full((4, 3), 17.3)))


def test_homogeneous_strain_counts_only_as_far_as_it_shrinks(skin: VerletSkin) -> None:
    assert not builds_and_agrees(skin, strained(fcc(4.0), np.diag([0.3, 0.1, 0.0])))
    assert not builds_and_agrees(skin, strained(fcc(4.0), np.diag([-0.12, 0.1, 0.0])))
    assert builds_and_agrees(skin, strained(fcc(4.0), np.diag([-0.13, 0.1, 0.0])))


def test_compressing_a_small_cell_misses_nothing() -> None:
    skin = VerletSkin(brute_force, 1.0)
    atom = system_of([[0, 0, 0]], 2.0 * np.eye(3), True)
    for scale in np.linspace(1.0, 0.5, 51):
        builds_and_agrees(skin, replace(atom, cell=atom.cell * scale))
    assert 1 < skin.n_builds < 20


def test_wrapping_an_atom_rebuilds(skin: VerletSkin) -> None:
    wrapped = moved(fcc(4.0), [[4.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert builds_and_agrees(skin, wrapped)


def test_rotating_the_crystal_reuses(skin: VerletSkin) -> None:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    assert not builds_and_agrees(skin, strained(fcc(4.0), turn - np.eye(3)))


def test_change_of_anything_else_rebuilds(skin: VerletSkin) -> None:
    system = fcc(4.0)
    other_numbers = replace(system, numbers=system.numbers + 1)
    assert builds_and_agrees(skin, other_numbers)
    slab = replace(other_numbers, pbc=torch.tensor([[True, True, False]]))
    assert builds_and_agrees(skin, slab)
    two = System.cat([slab, slab])
    assert builds_and_agrees(skin, two)
    regrouped = replace(two, system_index=torch.tensor([0] * 3 + [1] * 5))
    assert builds_and_agrees(skin, regrouped)
    assert builds_and_agrees(skin, regrouped, 3.0)
    assert not builds_and_agrees(skin, regrouped, 3.0)


def test_moving_atoms_in_place_is_noticed(skin: VerletSkin) -> None:
    system = fcc(4.0)
    assert builds_and_agrees(skin, system, 3.0)  # this very object is the reference now
    system.positions[1] += 0.8
    assert builds_and_agrees(skin, system, 3.0)
    system.cell.mul_(0.8)
    assert builds_and_agrees(skin, system, 3.0)
    system.numbers.add_(1)
    assert builds_and_agrees(skin, system, 3.0)


def test_unused_vectors_of_open_axes_do_not_matter() -> None:
    skin = VerletSkin(brute_force, 0.5)
    rod = system_of([[0, 0, 0], [1, 0.5, 0.5]], np.diag([2.0, 0, 0]), (True, False, False))
    skin(rod, CUTOFF)
    changed = rod.cell.clone()
    changed[0, 1:] = 7.0
    assert not builds_and_agrees(skin, replace(rod, cell=changed))
    longer = strained(rod, np.diag([0.5, 0, 0]))
    changed[0, 0] = longer.cell[0, 0]
    assert not builds_and_agrees(skin, replace(longer, cell=changed))


def test_batch_is_as_good_as_its_worst_structure() -> None:
    skin = VerletSkin(make_search("cell_list"), 0.5)
    still = fcc(4.0)
    skin(System.cat([still, still]), CUTOFF)
    small, large = moved(still, shake(0.1)), moved(still, shake(1.0))
    assert not builds_and_agrees(skin, System.cat([small, still]))
    assert builds_and_agrees(skin, System.cat([still, large]))


def test_no_skin_builds_every_time() -> None:
    skin = VerletSkin(brute_force, 0.0)
    assert builds_and_agrees(skin, fcc(4.0))
    assert builds_and_agrees(skin, fcc(4.0))


def test_failed_build_leaves_no_stale_list(skin: VerletSkin) -> None:
    def fail(system: System, cutoff: float) -> Edges:
        raise NeighborError("no memory")

    good, skin.search = skin.search, fail
    with pytest.raises(NeighborError):
        skin(fcc(4.0), CUTOFF + 1)
    skin.search = good
    assert builds_and_agrees(skin, fcc(4.0))


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_bad_skin(bad: float) -> None:
    with pytest.raises(ValueError, match="skin: expected a finite distance of 0 Å or more"):
        VerletSkin(brute_force, bad)


def test_two_largest() -> None:
    values = torch.tensor([3.0, 1.0, 3.0, 2.0, 5.0])
    first, second = two_largest(values, torch.tensor([0, 0, 0, 2, 2]), 4)
    assert first.tolist() == [3, 0, 5, 0]
    assert second.tolist() == [3, 0, 2, 0]


@pytest.mark.parametrize("seed", range(20))
def test_no_pair_comes_closer_than_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    old = system_of(8 * rng.random((12, 3)), 4 * np.eye(3), rng.random(3) < 0.5)
    new = strained(moved(old, 0.2 * rng.normal(size=(12, 3))), 0.1 * rng.normal(size=(3, 3)))
    table = brute_force(old, 9.0)
    before = torch.linalg.vector_norm(table.vectors(old), dim=1)
    after = torch.linalg.vector_norm(table.vectors(new), dim=1)
    for radius in (2.0, 4.0, 6.0):
        bound = float(closest_missed(old, new, radius))
        assert float(after[before >= radius].min()) >= bound
    assert bound > 0


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_cuda)])
def test_change_of_device_rebuilds(skin: VerletSkin, device: str) -> None:
    before = skin.n_builds
    assert_same(skin(fcc(4.0).to(device), CUTOFF).to("cpu"), brute_force(fcc(4.0), CUTOFF))
    assert skin.n_builds == before + 1
