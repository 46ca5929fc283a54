from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ase_pet.data import System
from ase_pet.errors import GeometryError


def two_atoms(**changes: torch.Tensor) -> System:
    values = {
        "positions": torch.tensor([[0.0, 0.0, 0.0], [9.0, -4.0, 0.5]], dtype=torch.float64),
        "numbers": torch.tensor([6, 1]),
        "cell": 3.0 * torch.eye(3, dtype=torch.float64)[None],
        "pbc": torch.tensor([[True, True, False]]),
        "system_index": torch.zeros(2, dtype=torch.int64),
    }
    return System(**{**values, **changes})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("positions", torch.zeros(2, 2, dtype=torch.float64), r"positions: .*\[n, 3\].*\[2, 2\]"),
        ("positions", torch.zeros(2, 3), "positions: expected dtype torch.float64"),
        ("numbers", torch.zeros(3, dtype=torch.int64), "numbers: expected shape"),
        ("numbers", torch.zeros(2, dtype=torch.int32), "numbers: expected dtype torch.int64"),
        ("cell", torch.zeros(3, 3, dtype=torch.float64), r"cell: expected shape \[n, 3, 3\]"),
        ("pbc", torch.ones(1, 3), "pbc: expected dtype torch.bool"),
        ("pbc", torch.ones(2, 3, dtype=torch.bool), r"pbc: expected shape \[1, 3\]"),
        ("system_index", torch.tensor([1, 0]), "system_index: expected sorted"),
        ("system_index", torch.tensor([0, 1]), "system_index: .* from 0 to 0"),
        ("system_index", torch.tensor([-1, 0]), "system_index: expected sorted"),
        ("system_index", torch.tensor([1, -1]), "system_index: expected sorted"),
    ],
)
def test_wrong_arguments_are_named(name: str, value: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two_atoms(**{name: value})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_positions_and_cell_must_be_finite(bad: float) -> None:
    positions = two_atoms().positions.clone()
    positions[1, 2] = bad
    with pytest.raises(GeometryError, match=r"positions: atom 1 is .*not finite"):
        two_atoms(positions=positions)
    cell = two_atoms().cell.clone()
    cell[0, 2, 2] = bad
    with pytest.raises(GeometryError, match="cell: not finite"):
        two_atoms(cell=cell)


def test_positions_and_cell_must_be_where_float64_resolves_distances() -> None:
    with pytest.raises(GeometryError, match=r"atom 0 is .*more than 1e\+09 Å"):
        two_atoms(positions=two_atoms().positions + 2e9)
    with pytest.raises(GeometryError, match=r"cell: .*beyond 1e\+09 Å"):
        two_atoms(cell=two_atoms().cell * 1e9)


def test_errors_name_the_structure_of_a_batch() -> None:
    bad = System.cat([two_atoms(), two_atoms()])
    positions = bad.positions.clone()
    positions[3, 1] = float("nan")
    with pytest.raises(GeometryError, match="atom 1 of structure 1 "):
        System(positions, bad.numbers, bad.cell, bad.pbc, bad.system_index)
    assert bad.structure_of(3) == (1, 2)
    cell = bad.cell.clone()
    cell[1, 1] = cell[1, 0]
    with pytest.raises(GeometryError, match="lattice vectors of structure 1 "):
        System(bad.positions, bad.numbers, cell, bad.pbc, bad.system_index)


def test_moving_to_where_it_is_copies_nothing() -> None:
    system = two_atoms()
    assert system.to("cpu") is system


@pytest.mark.parametrize("rows", [[1, 1, 0], [2, 0, 0], [0, 0, 0]])
def test_a_periodic_cell_needs_independent_vectors(rows: list[int]) -> None:
    vectors = torch.stack([k * torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64) for k in rows])
    with pytest.raises(GeometryError, match="cell: the periodic lattice vectors are zero"):
        two_atoms(cell=vectors[None])


@pytest.mark.parametrize("seed", range(4))
def test_thin_cells_are_refused_where_a_decomposition_refuses_them(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    turn, other = (
        torch.linalg.qr(torch.randn(3, 3, generator=draw, dtype=torch.float64))[0] for _ in range(2)
    )
    for size in (1e-3, 1.0, 1e4):
        for exponent in range(-13, 1):
            singular = size * torch.tensor([1.0, 0.3, 3.3 * 10.0**exponent], dtype=torch.float64)
            cell = (turn * singular @ other)[None]
            if float(singular.min()) > 1e-10 * max(1.0, size):
                assert two_atoms(cell=cell, pbc=torch.ones(1, 3, dtype=torch.bool)).n_atoms == 2
            else:
                with pytest.raises(GeometryError, match="linearly dependent"):
                    two_atoms(cell=cell, pbc=torch.ones(1, 3, dtype=torch.bool))


def test_atoms_are_counted_by_structure() -> None:
    empty = two_atoms(
        positions=torch.zeros(0, 3, dtype=torch.float64),
        numbers=torch.zeros(0, dtype=torch.int64),
        system_index=torch.zeros(0, dtype=torch.int64),
    )
    assert (two_atoms().counts, empty.counts) == ([2], [0])
    assert System.cat([two_atoms(), empty, two_atoms()]).counts == [2, 0, 2]


def test_vectors_of_axes_that_are_not_periodic_do_not_matter() -> None:
    cell = torch.zeros(1, 3, 3, dtype=torch.float64)
    cell[0, 1] = torch.tensor([0.0, 2.0, 1.0])
    system = two_atoms(cell=cell, pbc=torch.tensor([[False, True, False]]))
    assert float(system.volumes) == 0.0
    assert two_atoms(cell=0 * cell, pbc=torch.zeros(1, 3, dtype=torch.bool)).n_systems == 1


def test_a_very_thin_cell_is_a_cell() -> None:
    cell = torch.diag(torch.tensor([1e3, 1e3, 1e-3], dtype=torch.float64))[None]
    assert float(two_atoms(cell=cell).volumes) == pytest.approx(1e3)


def test_cells_that_are_flat_but_for_rounding_have_no_volume() -> None:
    cell = [[0.1, 0.2, 0.3], [0.3, 0.6, 0.9], [1.0, 0.0, 0.7]]
    flat = torch.tensor([cell], dtype=torch.float64)
    assert float(two_atoms(cell=flat, pbc=torch.zeros(1, 3, dtype=torch.bool)).volumes) == 0.0


def test_a_copy_has_memory_of_its_own() -> None:
    charge = torch.ones(1, dtype=torch.float64)
    system = two_atoms(charge=charge)
    copied = system.copy()
    system.positions.add_(1.0)
    charge.zero_()
    assert torch.equal(copied.positions + 1.0, system.positions)
    assert (float(copied.charge), copied.spin) == (1.0, None)


def test_volumes_of_left_handed_cells_are_positive() -> None:
    system = two_atoms(cell=-2.0 * torch.eye(3, dtype=torch.float64)[None])
    assert float(system.volumes) == pytest.approx(8.0)


def test_cat_numbers_the_structures_in_order() -> None:
    one, two = two_atoms(), two_atoms(pbc=torch.tensor([[False, False, False]]))
    empty = System(
        one.positions[:0],
        one.numbers[:0],
        one.cell,
        one.pbc,
        one.system_index[:0],
    )
    joined = System.cat([one, empty, two, System.cat([one, two])])
    assert joined.system_index.tolist() == [0, 0, 2, 2, 3, 3, 4, 4]
    assert joined.n_systems == 5
    assert joined.n_atoms == 8
    assert joined.pbc[:, 0].tolist() == [True, True, False, True, False]
    with pytest.raises(ValueError, match="at least one System"):
        System.cat([])


def test_a_system_cannot_be_changed_by_accident() -> None:
    system = two_atoms()
    with pytest.raises(AttributeError):
        system.positions = system.positions + 1.0
    assert replace(system, numbers=torch.tensor([8, 8])).numbers.tolist() == [8, 8]
    assert torch.equal(system.to("cpu").positions, system.positions)


def test_charge_and_spin_are_joined_with_their_defaults() -> None:
    charged = two_atoms(charge=torch.tensor([2.0], dtype=torch.float64))
    high = two_atoms(spin=torch.tensor([3.0], dtype=torch.float64))
    joined = System.cat([two_atoms(), charged, high])
    assert joined.charge.tolist() == [0.0, 2.0, 0.0]
    assert joined.spin.tolist() == [1.0, 1.0, 3.0]
    assert System.cat([two_atoms(), two_atoms()]).charge is None
    with pytest.raises(ValueError, match=r"spin: expected shape \[1\], got \[2\]"):
        two_atoms(spin=torch.ones(2, dtype=torch.float64))


def test_structures_are_selected_with_all_that_belongs_to_them() -> None:
    charged = two_atoms(charge=torch.tensor([2.0], dtype=torch.float64))
    oxygen = two_atoms(numbers=torch.tensor([8, 8]))
    joined = System.cat([two_atoms(), oxygen, charged])
    found = joined.select([1, 2])
    assert found.numbers.tolist() == [8, 8, 6, 1]
    assert found.system_index.tolist() == [0, 0, 1, 1]
    assert (found.n_systems, found.charge.tolist(), found.spin) == (2, [0.0, 2.0], None)
    assert joined.select([0, 1, 2]) is joined
