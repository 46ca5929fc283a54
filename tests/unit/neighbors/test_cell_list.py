import pytest
import torch

from ase_pet.neighbors import cell_list, make_search
from ase_pet.neighbors.cell_list import members
from tests.neighbor_cases import KINDS, assert_same, nasty_case


@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_members_of_stretches(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(cell_list, "PAIRS_AT_ONCE", at_once)
    first = torch.tensor([[4, 0], [2, 9], [1, 1], [30, 20]])
    counts = torch.tensor([[2, 1], [0, 0], [0, 3], [10, 2]])
    parts = list(members(first, counts))
    row = torch.cat([row for row, _ in parts]).tolist()
    member = torch.cat([member for _, member in parts]).tolist()
    assert row == [0] * 3 + [2] * 3 + [3] * 12
    assert member == [4, 5, 0, 1, 2, 3, *range(30, 40), 20, 21]
    assert (len(parts) > 1) == (at_once < 18)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_and_wide_columns_do_not_matter(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    system, cutoff = nasty_case(kind, 11)
    search = make_search("cell_list")
    expected = search(system, cutoff)
    monkeypatch.setattr(cell_list, "PAIRS_AT_ONCE", 50)
    monkeypatch.setattr(cell_list, "ATOMS_AT_ONCE", 3)
    monkeypatch.setattr(cell_list, "MOST_COLUMNS", 3)
    monkeypatch.setattr(cell_list, "MOST_SLICES", 2)
    assert_same(search(system, cutoff), expected)


def test_candidates_stay_a_small_multiple_of_the_pairs() -> None:
    torch.manual_seed(0)
    system, _ = nasty_case("dense", 1)
    lattice = cell_list.Lattice.of(system)
    images = cell_list.Images.within(lattice, 2.0)
    columns = cell_list.Columns.of(lattice, images, 2.0)
    _, counts = columns.stretches(lattice.positions, lattice.system_index)
    pairs = 2 * len(cell_list.candidates(lattice, 2.0).centers)
    assert pairs < int(counts.sum()) < 4 * pairs
