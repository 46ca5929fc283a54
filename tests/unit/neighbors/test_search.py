import numpy as np
import pytest
import torch

from ase_pet.neighbors.search import (
    Pairs,
    check_cutoff,
    finish,
    no_pairs,
    number_shifts,
    pair_once,
    within,
)
from tests.neighbor_cases import nasty_case, system_of


def shifts_up_to(most: int) -> torch.Tensor:
    axis = torch.arange(-most, most + 1)
    return torch.cartesian_prod(axis, axis, axis)


def test_pair_once_keeps_exactly_one_direction() -> None:
    shifts = shifts_up_to(2)
    zeros = torch.zeros(len(shifts), dtype=torch.int64)
    itself = pair_once(zeros, zeros, shifts)
    assert torch.equal(itself, ~pair_once(zeros, zeros, -shifts) & (shifts != 0).any(1))
    assert bool(pair_once(zeros, zeros + 1, shifts).all())
    assert not bool(pair_once(zeros + 1, zeros, shifts).any())


@pytest.mark.parametrize("n_atoms", [2, 2**30])
def test_shift_numbers_are_lexicographic_and_odd(n_atoms: int) -> None:
    shifts = shifts_up_to(2) * torch.tensor([1, 2, 1])
    codes, n = number_shifts(shifts, n_atoms)
    assert codes.min() == 0
    assert codes.max() == n - 1
    assert bool((codes.diff() > 0).all())
    assert torch.equal(number_shifts(-shifts, n_atoms)[0], n - 1 - codes)


def test_shift_numbers_fit_an_int64_however_far_the_atoms() -> None:
    shifts = torch.tensor([[2**30, -(2**31), 2**30], [0, 0, 1], [2**30, -(2**31), 2**30]])
    codes, n = number_shifts(shifts, 10**6)
    assert n * 10**12 < 2**63
    assert codes.tolist() == [3, 2, 3]
    assert n == 4


def test_finish_decides_orders_and_pairs() -> None:
    system = system_of([[0, 0, 0], [1, 0, 0], [0, 1.5, 0]], 3.0 * np.eye(3), True)
    # In any order and direction, with one pair that is too far away.
    candidates = [(1, 0, 0, 0, 0), (0, 2, 0, -1, 0), (1, 2, 0, 0, 0), (0, 2, 0, 0, 0)]
    table = torch.tensor(candidates)
    edges = finish(system, Pairs(table[:, 0], table[:, 1], table[:, 2:]), 1.6)
    rows = torch.cat([edges.centers[:, None], edges.others[:, None], edges.shifts], 1)
    assert rows.tolist() == [
        [0, 1, 0, 0, 0],
        [0, 2, 0, -1, 0],
        [0, 2, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [2, 0, 0, 0, 0],
        [2, 0, 0, 1, 0],
    ]
    assert edges.reverse.tolist() == [3, 5, 4, 0, 2, 1]


def test_finish_does_not_depend_on_the_order_of_candidates() -> None:
    system, cutoff = nasty_case("dense", 2)
    i, j = torch.triu_indices(system.n_atoms, system.n_atoms, 1)
    shifts = torch.zeros(len(i), 3, dtype=torch.int64)
    expected = finish(system, Pairs(i, j, shifts), cutoff)
    order = torch.randperm(len(i), generator=torch.Generator().manual_seed(1))
    found = finish(system, Pairs(j[order], i[order], shifts), cutoff)
    for part in ("centers", "others", "shifts", "reverse"):
        assert torch.equal(getattr(found, part), getattr(expected, part))


def test_finish_nothing() -> None:
    assert finish(system_of([[0, 0, 0]]), no_pairs(torch.device("cpu")), 1.0).n_edges == 0


def test_within_is_strict() -> None:
    vectors = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, -4.999]], dtype=torch.float64)
    assert within(vectors, 5.0).tolist() == [False, True]


def test_check_cutoff() -> None:
    check_cutoff(1e-3)
    with pytest.raises(ValueError, match=r"cutoff: expected .* got -2"):
        check_cutoff(-2.0)
