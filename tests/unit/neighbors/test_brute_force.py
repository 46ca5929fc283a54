import numpy as np
import pytest

from ase_pet.neighbors import brute_force as module
from ase_pet.neighbors.brute_force import brute_force
from tests.neighbor_cases import as_set, assert_same, fcc, nasty_case, system_of


def test_dimer() -> None:
    assert as_set(brute_force(system_of([[0, 0, 0], [0, 0, 1]]), 1.5)) == {
        (0, 1, 0, 0, 0),
        (1, 0, 0, 0, 0),
    }


def test_chain_counts_its_own_images() -> None:
    chain = system_of([[0, 0, 0]], np.diag([1.0, 0, 0]), (True, False, False))
    assert as_set(brute_force(chain, 2.5)) == {(0, 0, s, 0, 0) for s in (-2, -1, 1, 2)}


def test_fcc() -> None:
    assert brute_force(fcc(4.0), 2.9).n_edges == 4 * 12


def test_wrapped_atom() -> None:
    edges = brute_force(system_of([[0, 0, 0], [9.5, 0, 0]], 5.0 * np.eye(3), True), 1.0)
    assert as_set(edges) == {(0, 1, -2, 0, 0), (1, 0, 2, 0, 0)}


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    system, cutoff = nasty_case("dense", 0)
    expected = brute_force(system, cutoff)
    monkeypatch.setattr(module, "CHUNK", 100)
    assert_same(brute_force(system, cutoff), expected)
