import numpy as np
import pytest
import torch

from ase_pet.neighbors.images import Lattice
from ase_pet.neighbors.search import pair_once
from tests.neighbor_cases import nasty_case, system_of

pytest.importorskip("vesin", reason="vesin is not installed")
from ase_pet.neighbors import vesin


def test_each_pair_comes_once() -> None:
    system, cutoff = nasty_case("small", 3)
    i, j, shifts = vesin.candidates(Lattice.of(system), cutoff)
    once = pair_once(i, j, shifts)
    i, j = torch.where(once, i, j), torch.where(once, j, i)
    shifts = torch.where(once.unsqueeze(1), shifts, -shifts)
    table = torch.cat([i[:, None], j[:, None], shifts], 1)
    assert len(table) == len(torch.unique(table, dim=0)) > 0


def test_box_holds_the_atoms_along_open_axes() -> None:
    system = system_of([[-40, 0, 0], [70, 3, 9], [0, 5, 0]], np.eye(3), (False, True, False))
    lattice = Lattice.of(system)
    positions, box = vesin._boxed(lattice, 0, lattice.positions)
    scaled = positions @ torch.linalg.inv(box)
    assert bool(((scaled > -1e-9) & (scaled < 1)).all())
    assert torch.equal(box[1], system.cell[0, 1])


def test_box_of_a_crystal_is_its_cell() -> None:
    system, _ = nasty_case("left_handed", 0)
    lattice = Lattice.of(system)
    positions, box = vesin._boxed(lattice, 0, lattice.positions)
    assert positions is lattice.positions
    assert torch.equal(box, lattice.cell[0])
