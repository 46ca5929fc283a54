from __future__ import annotations

import pytest
import torch
from ase import Atoms

from ase_pet.data import Graph, Space
from ase_pet.errors import GeometryError
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.testing.evaluators import graph_of

CELL = [[3.0, 0.5, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 5.0]]
BOXED = Atoms("HO", [[0.1, 0.2, 0.3], [9.0, 1.0, 1.0]], cell=CELL)


def test_finite_structures_have_no_cell() -> None:
    crystal = BOXED.copy()
    crystal.pbc = True
    system = system_from_atoms([BOXED, crystal])
    space = Space.of(system)
    assert torch.equal(space.positions, system.positions)
    assert space.cell.tolist() == [[[0.0] * 3] * 3, CELL]
    assert space.sites.tolist() == [0, 1, 2, 3]
    assert not space.exact


@pytest.mark.parametrize("pbc", [[True, True, False], [False, False, True]])
def test_slabs_and_chains_are_refused(pbc: list[bool]) -> None:
    slab = BOXED.copy()
    slab.pbc = pbc
    with pytest.raises(GeometryError, match=rf"all three axes or none, got \[{pbc[0]}, .*vacuum"):
        graph_of([BOXED, slab], 2.0, whole=True)
    assert graph_of([BOXED, slab], 2.0).space is None


def test_copies_stand_at_the_same_sites() -> None:
    space = Space.of(system_from_atoms([BOXED])).copied(torch.tensor([0, 1, 0, 1]), 2)
    assert space.sites.tolist() == [0, 1, 0, 1, -1, -1]
    assert len(space.positions) == 2
    assert space.exact


def test_shapes_are_checked() -> None:
    graph = graph_of([BOXED], 2.0, whole=True)
    fields = {name: getattr(graph, name) for name in Graph.__slots__}
    cell = graph.space.cell
    for sites, cells in ((torch.arange(3), cell), (torch.arange(2), cell.repeat(2, 1, 1))):
        wrong = Space(graph.space.positions, cells, sites)
        with pytest.raises(ValueError, match=r"(sites|cell): expected shape"):
            Graph(**{**fields, "space": wrong})
    with pytest.raises(ValueError, match="positions: expected dtype"):
        Space(graph.space.positions.float(), graph.space.cell, graph.space.sites)
