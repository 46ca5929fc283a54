from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.errors import GeometryError
from ase_pet.potentials import electrostatics
from ase_pet.potentials.electrostatics import Electrostatics
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.tiny import NEEDS_TORCH_PME, SPECIES

pytestmark = NEEDS_TORCH_PME

EVERY = structures(SPECIES)
CRYSTALS = ["bulk", "triclinic", "left_handed", "one_atom_cell"]


def make(**options: float) -> Electrostatics:
    values = {"exclusion": 2.6, "smearing": 0.9, "spacing": 0.8, "n_nodes": 5}
    return Electrostatics(**{**values, **options})


def whole(*names: str, exact: bool = True) -> Graph:
    graph = graph_of([EVERY[name] for name in names], 2.6, whole=True)
    return replace(graph, space=replace(graph.space, exact=exact))


def charges(n_atoms: int, n_channels: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(n_atoms, n_channels, dtype=torch.float64)


def test_two_atoms() -> None:
    for r, faded in ((1.3, 0.5), (3.0, 0.0)):
        graph = graph_of([Atoms("HO", [[0, 0, 0], [0, 0, r]])], 2.6, whole=True)
        q = torch.tensor([[1.0], [-3.0]], dtype=torch.float64)
        expected = 0.5 * (1.0 - faded) / r * q.flip(0)
        torch.testing.assert_close(make()(q, graph), expected, rtol=1e-14, atol=0)


def test_madelung_constant_of_rock_salt() -> None:
    """Narrow charges that see each other at any distance: 2 V d = 1.747564594633."""
    atoms = bulk("CO", "rocksalt", a=4.0)
    graph = graph_of([atoms], 1e-3, whole=True)
    graph = replace(graph, space=replace(graph.space, exact=True))
    q = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    found = make(exclusion=1e-3, smearing=0.28)(q, graph)
    torch.testing.assert_close(-2.0 * 2.0 * found * q, 1.747564594633 + 0 * q, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_sum_over_waves_is_that_of_torch_pme(name: str) -> None:
    from torchpme import CoulombPotential, EwaldCalculator

    graph = whole(name)
    q = charges(graph.n_atoms, 3)
    potential = CoulombPotential(smearing=0.9, exclusion_radius=2.6)
    theirs = EwaldCalculator(potential, lr_wavelength=0.36, full_neighbor_list=True)
    pairs, lengths = torch.stack([graph.centers, graph.others], 1), graph.vectors.norm(dim=1)
    expected = theirs(q, graph.space.cell[0], graph.space.positions, pairs, lengths)
    torch.testing.assert_close(make()(q, graph), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "tolerance"), [("bulk", 1e-4), ("triclinic", 1e-2)])
def test_the_mesh_is_near_and_its_own(name: str, tolerance: float) -> None:
    q = charges(len(EVERY[name]), 2)
    exact, mesh = (make()(q, whole(name, exact=kind)) for kind in (True, False))
    assert 1e-10 < float((exact - mesh).abs().max()) < tolerance
    finer = make(spacing=0.4)(q, whole(name, exact=False))
    assert float((finer - mesh).abs().max()) > 1e-10
    fewer = make(n_nodes=3)(q, whole(name, exact=False))
    assert float((fewer - mesh).abs().max()) > 1e-10


@pytest.mark.parametrize("exact", [True, False])
def test_many_channels_and_few_are_the_same(exact: bool) -> None:
    graph = whole("bulk", "molecule", "triclinic", exact=exact)
    many = charges(graph.n_atoms, 9)
    found = make()(many, graph)
    for c in range(9):
        one = make()(many[:, c : c + 1], graph)
        torch.testing.assert_close(found[:, c : c + 1], one, rtol=0, atol=1e-13)


def test_copies_see_their_own_charges_and_carriers_none() -> None:
    graph = whole("triclinic")
    n, q = graph.n_atoms, charges(2 * graph.n_atoms + 2, 4)
    shift = torch.cat([torch.zeros_like(graph.centers), torch.full_like(graph.centers, n)])
    copies = Graph(
        torch.cat([graph.numbers, graph.numbers, graph.numbers[:2]]),
        torch.zeros(2 * n + 2, dtype=torch.int64),
        1,
        graph.centers.repeat(2) + shift,
        graph.others.repeat(2) + shift,
        graph.reverse.repeat(2) + (shift > 0) * graph.n_edges,
        graph.vectors.repeat(2, 1),
        space=graph.space.copied(torch.arange(n).repeat(2), 2),
    )
    found = make()(q, copies)
    for k in range(2):
        own = slice(k * n, k * n + n)
        torch.testing.assert_close(found[own], make()(q[own], graph), rtol=0, atol=1e-13)
    assert float(found[2 * n :].abs().max()) == 0.0


def test_blocks_of_waves_change_neither_values_nor_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results: list[tuple[Any, ...]] = []
    for block in (10**7, 300):
        monkeypatch.setattr(electrostatics, "_BLOCK", block)
        graph = whole("bulk")
        graph = replace(graph, space=graph.space.leaf())
        found = make()(charges(graph.n_atoms, 3), graph)
        leaves = (graph.space.positions, graph.space.cell)
        results.append((found.detach(), *torch.autograd.grad(found.square().sum(), leaves)))
    for a, b in zip(*results, strict=True):
        assert float(a.abs().max()) > 1e-4
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_a_lone_charge_sees_its_images_and_the_background() -> None:
    """Potential at a site of a simple cubic lattice of points: -2.837297479 / a."""
    graph = graph_of([Atoms("H", cell=[4.0, 4.0, 4.0], pbc=True)], 1e-3, whole=True)
    graph = replace(graph, space=replace(graph.space, exact=True))
    q = torch.ones(1, 1, dtype=torch.float64)
    found = float(make(exclusion=1e-3, smearing=0.3)(q, graph))
    assert 2.0 * found == pytest.approx(-2.837297479 / 4.0, abs=1e-8)


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    q = torch.ones(1, 1, dtype=torch.float64)
    huge = graph_of([Atoms("H", cell=[300.0, 300.0, 300.0], pbc=True)], 2.6, whole=True)
    huge = replace(huge, space=replace(huge.space, exact=True))
    with pytest.raises(GeometryError, match=r"cell: 2.7e\+07 Å³ are too much .*pbc=False"):
        make()(q, huge)
    with pytest.raises(ValueError, match="whole=True"):
        make()(q, graph_of([Atoms("H")], 2.6))
    monkeypatch.setattr(electrostatics, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'ase_pet\[long-range\]'"):
        make()
