from __future__ import annotations

import math

import pytest
import torch
from ase import Atoms, units

from ase_pet.derivatives import evaluate
from ase_pet.potentials.zbl import ZBL
from ase_pet.testing.evaluators import graph_of, potential_evaluator
from ase_pet.testing.paths import largest_jump


def pair(first: str, second: str, r: float) -> Atoms:
    return Atoms([first, second], [[0.0, 0.0, 0.0], [0.0, 0.6 * r, 0.8 * r]])


@pytest.mark.parametrize(("first", "second"), [("H", "H"), ("C", "O"), ("Au", "Si")])
@pytest.mark.parametrize("r", [0.05, 0.3])
def test_below_the_switch_it_is_the_universal_function(first: str, second: str, r: float) -> None:
    atoms = pair(first, second, r)
    z1, z2 = atoms.numbers
    a = 0.8854 * units.Bohr / (z1**0.23 + z2**0.23)
    terms = ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))
    screening = sum(c * torch.exp(torch.tensor(-d * r / a)).item() for c, d in terms)
    expected = units.Hartree * units.Bohr * z1 * z2 / r * screening
    energies = ZBL()(graph_of([atoms], 1.2))
    assert float(energies.sum()) == pytest.approx(expected, rel=1e-6)
    assert float(energies[0]) == pytest.approx(float(energies[1]), rel=1e-14)


def test_it_ends_at_the_cutoff() -> None:
    zbl = ZBL(0.4, 1.1)
    graph = graph_of([pair("C", "O", 1.1 + 1e-9)], 2.0)
    assert graph.n_edges == 2
    assert zbl(graph).tolist() == [0.0, 0.0]
    energies, gradients, *_ = evaluate(zbl, graph_of([pair("C", "O", 0.9)], 2.0))
    assert float(energies.sum()) > 0
    assert float(gradients.abs().max()) > 0


def test_energy_and_forces_are_continuous() -> None:
    jump = largest_jump(
        potential_evaluator(ZBL()), lambda x: pair("H", "C", x), 0.3, 1.3, events=(0.5, 1.2)
    )
    assert jump.energy < 1e-10
    assert jump.forces < 1e-6


@pytest.mark.parametrize(("inner", "cutoff"), [(1.2, 1.2), (1.3, 1.2), (-0.1, 1.0)])
def test_the_switch_needs_a_width(inner: float, cutoff: float) -> None:
    with pytest.raises(ValueError, match="inner: expected 0 <= inner < cutoff"):
        ZBL(inner, cutoff)


def test_screening_and_switch_of_other_codes() -> None:
    zbl = ZBL(
        0.0,
        2.0,
        switch="cosine",
        amplitudes=(0.6, 0.5),
        decays=(2.0, 0.3),
        power=0.3,
        length=0.5,
        coulomb=14.0,
    )
    r = 1.3
    x = r * (6**0.3 + 8**0.3) / 0.5
    screening = 0.6 * math.exp(-2.0 * x) + 0.5 * math.exp(-0.3 * x)
    switch = 0.5 * (1.0 + math.cos(math.pi * r / 2.0))
    energy = float(zbl(graph_of([pair("C", "O", r)], 2.5)).sum())
    assert energy == pytest.approx(14.0 * 48 / r * screening * switch, rel=1e-13)


def test_options_make_the_same_term_again() -> None:
    assert ZBL(0.4, 1.1).options == {"inner": 0.4, "cutoff": 1.1}
    changed = ZBL(0.4, 1.1, power=0.25, switch="cosine")
    assert changed.options.keys() == {"inner", "cutoff", "power", "switch"}
    graph = graph_of([pair("C", "O", 0.7)], 2.0)
    assert torch.equal(ZBL(**changed.options)(graph), changed(graph))
    assert not torch.equal(ZBL(0.4, 1.1)(graph), changed(graph))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"switch": "sharp"}, "switch: expected 'polynomial' or 'cosine', got 'sharp'"),
        ({"amplitudes": (1.0,)}, "decays: expected one for each of 1 amplitudes, got 4"),
        ({"length": float("nan")}, "expected finite parameters"),
    ],
)
def test_options_without_a_meaning_are_refused(option: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZBL(**option)
