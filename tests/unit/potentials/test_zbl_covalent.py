from __future__ import annotations

import pytest
import torch
from ase import Atoms, units

from ase_pet.derivatives import evaluate
from ase_pet.errors import UnknownSpeciesError
from ase_pet.potentials.zbl_covalent import CovalentZBL
from ase_pet.testing.evaluators import graph_of

RADII = {1: 0.31, 6: 0.76, 8: 0.66}


def pair(r: float) -> Atoms:
    return Atoms("CO", [[0.0, 0.0, 0.0], [0.0, 0.6 * r, 0.8 * r]])


def energy_and_force(r: float) -> tuple[float, float]:
    energies, gradients, *_ = evaluate(CovalentZBL(RADII), graph_of([pair(r)], 2.0))
    return float(energies.sum()), float(gradients.norm(dim=1).sum())


def test_energy_force_and_curvature_vanish_at_the_sum_of_the_radii() -> None:
    h = 1e-3
    end = RADII[6] + RADII[8]
    energies = [energy_and_force(end - k * h) for k in (1, 2)]
    # The first term left is of third order: twice the distance, eight times the energy.
    assert energies[1][0] / energies[0][0] == pytest.approx(8.0, rel=0.05)
    assert energies[0][0] < 1e-5
    assert energies[0][1] < 1e-2
    assert energy_and_force(end + 1e-9) == (0.0, 0.0)


def test_close_nuclei_repel_by_the_screened_charges() -> None:
    r = 0.02
    a = 0.46850 / (6**0.23 + 8**0.23)
    terms = ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))
    screening = sum(c * torch.exp(torch.tensor(-d * r / a)).item() for c, d in terms)
    expected = units.Hartree * units.Bohr * 48 / r * screening
    assert energy_and_force(r)[0] == pytest.approx(expected, rel=5e-3)  # less a constant


def test_options_make_it_again() -> None:
    zbl = CovalentZBL(RADII)
    assert zbl.options == {"radii": RADII}
    assert zbl.float().options == {"radii": RADII}
    assert zbl.cutoff == 1.52


def test_what_is_wrong_is_named() -> None:
    for radii in ({6: 0.0}, {6: float("nan")}):
        with pytest.raises(ValueError, match="radii: expected positive finite lengths"):
            CovalentZBL(radii)
    with pytest.raises(UnknownSpeciesError):
        CovalentZBL({6: 0.76})(graph_of([pair(1.0)], 2.0))
