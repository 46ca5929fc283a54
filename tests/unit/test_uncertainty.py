"""Uncertainties of the last layer are those of exact derivatives of an ensemble."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from ase_pet.data import System
from ase_pet.engine import Engine
from ase_pet.errors import GeometryError
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.potentials.last_layer import LastLayer
from ase_pet.potentials.total import Total
from ase_pet.testing.structures import structures
from ase_pet.uncertainty import Uncertainty, last_layer_uncertainty
from tests.tiny import NEEDS_TORCH_PME, SPECIES, tiny_modern_pet

EVERY = structures(SPECIES)
NET = tiny_modern_pet()
N = NET.n_last_features
A = torch.randn(4 * N, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LAYER = LastLayer(torch.linalg.cholesky(A.T @ A), 0.7, A[:3])


def system(name: str) -> System:
    return system_from_atoms([EVERY[name]])


def displaced(given: System, atom: int, axis: int, by: float) -> System:
    positions = given.positions.clone()
    positions[atom, axis] += by
    return dataclasses.replace(given, positions=positions)


def strained(given: System, i: int, j: int, by: float) -> System:
    deformation = torch.eye(3, dtype=torch.float64)
    deformation[i, j] += 0.5 * by
    deformation[j, i] += 0.5 * by
    positions, cell = given.positions @ deformation, given.cell @ deformation
    return dataclasses.replace(given, positions=positions, cell=cell)


def member_energies(engine: Engine, given: System, layer: LastLayer, kind: str) -> torch.Tensor:
    """Energies whose summed squares are the variance, from features alone."""
    from ase_pet.ecse.projected import project

    graph = engine.graph(given)
    way = engine.way(given.n_atoms, periodic=bool(given.pbc.any()))
    with torch.no_grad():
        return project(engine.total(way).backbone, layer.projections(kind))(graph).sum(0)


@pytest.mark.parametrize("kind", ["llpr", "ensemble"])
@pytest.mark.parametrize(
    ("options", "symmetry"),
    [
        ({}, "O(3)"),
        ({}, None),
        pytest.param({"long_range": True, "smearing": 0.9}, "O(3)", marks=NEEDS_TORCH_PME),
    ],
)
def test_forces_and_stress_are_differences_of_energies(
    options: dict, symmetry: str | None, kind: str
) -> None:
    net = tiny_modern_pet(**options)
    engine = Engine(Total(net), symmetry=symmetry, device="cpu", skin=0.0)
    given, h = system("triclinic"), 1e-5

    def slope(move) -> torch.Tensor:
        above, below = (member_energies(engine, move(s * h), LAYER, kind) for s in (1, -1))
        return (above - below) / (2 * h)

    found = last_layer_uncertainty(engine, LAYER, given, kind, forces=True)
    assert found.energy == pytest.approx(float(member_energies(engine, given, LAYER, kind).norm()))
    for atom in range(2):
        slopes = [slope(lambda x, k=k, i=atom: displaced(given, i, k, x)) for k in range(3)]
        expected = float(torch.stack(slopes).norm())
        assert found.forces[atom] == pytest.approx(expected, rel=1e-6)
    total = sum(
        float(slope(lambda x, i=i, j=j: strained(given, i, j, x)).square().sum())
        for i in range(3)
        for j in range(3)
    )
    volume = float(given.volumes[0])
    assert found.stress == pytest.approx(math.sqrt(total) / volume, rel=1e-6)


def test_direct_forces_do_not_change_it() -> None:
    heads = {"forces_scales": (1.0,) * len(SPECIES)}
    kinds = ("conservative", "direct")
    found = [
        last_layer_uncertainty(
            Engine(Total(tiny_modern_pet(**heads)), device="cpu", forces=forces),
            LAYER,
            system("molecule"),
            "llpr",
            forces=True,
        )
        for forces in kinds
    ]
    assert found[0].energy == found[1].energy
    np.testing.assert_array_equal(found[0].forces, found[1].forces)


def test_without_forces_it_says_the_same_of_energies() -> None:
    engine = Engine(Total(NET), device="cpu")
    short, long = (
        last_layer_uncertainty(engine, LAYER, system("molecule"), "llpr", forces=forces)
        for forces in (False, True)
    )
    assert short.energy == pytest.approx(long.energy, rel=1e-13)
    np.testing.assert_allclose(short.energies, long.energies, rtol=1e-12)
    assert (short.forces, short.stress) == (None, None)
    assert long.stress is None  # no volume
    assert long.forces.shape == (len(EVERY["molecule"]),)
    assert short.per_atom == short.energies.max()


def test_more_projections_than_are_differentiated_together(monkeypatch) -> None:
    engine, given = Engine(Total(NET), device="cpu"), system("molecule")
    whole = last_layer_uncertainty(engine, LAYER, given, "llpr", forces=True)
    monkeypatch.setattr("ase_pet.uncertainty._TOGETHER", 5)
    parts = last_layer_uncertainty(engine, LAYER, given, "llpr", forces=True)
    np.testing.assert_allclose(parts.forces, whole.forces, rtol=1e-12)
    assert parts.energy == pytest.approx(whole.energy, rel=1e-13)


def test_an_atom_alone_has_an_uncertainty_and_no_force() -> None:
    engine = Engine(Total(NET), device="cpu")
    found = last_layer_uncertainty(engine, LAYER, system("atom"), "llpr", forces=True)
    assert found.energy > 0.0
    assert found.forces.tolist() == [0.0]


def test_in_inference_mode() -> None:
    engine, outside = Engine(Total(NET), device="cpu"), system("molecule")
    expected = last_layer_uncertainty(engine, LAYER, outside, "ensemble", forces=True)
    with torch.inference_mode():
        inside = system("molecule")
        found = last_layer_uncertainty(engine, LAYER, inside, "ensemble", forces=True)
    assert np.array_equal(found.forces, expected.forces)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(GeometryError, match="uncertainty: forces: not finite"):
        Uncertainty("llpr", 2, 1.0, np.ones(2), np.array([1.0, np.nan]))


def test_per_atom_of_a_committee() -> None:
    assert Uncertainty("committee", 4, 1.0).per_atom == 0.25
