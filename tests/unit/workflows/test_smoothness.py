"""Jumps at the cutoff are found, and none where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list

from ase_pet.workflows import smoothness
from ase_pet.workflows.plots_checks import plot_pulls, plot_rotations
from ase_pet.workflows.smoothness import pull_through_cutoff

CUTOFF = 4.0


class Pairs(LennardJones):
    """ASE's Lennard-Jones potential, with or without a step of the energy at its cutoff."""

    def __init__(self, step: float = 0.0, **options: Any) -> None:
        super().__init__(sigma=2.2, epsilon=0.3, rc=CUTOFF, **options)
        self.step = step

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes or ["positions"])
        self.results["energy"] += self.step * len(neighbor_list("i", atoms, CUTOFF))


TRIMER = Atoms("Cu3", [[0, 0, 0], [2.5, 0, 0], [0, 2.6, 0]])


@pytest.mark.parametrize("atoms", [TRIMER, bulk("Cu")])
def test_jumps_of_energy_and_force_are_told_apart(atoms: Atoms) -> None:
    smooth = pull_through_cutoff(Pairs(smooth=True, ro=3.0), atoms, CUTOFF)
    assert smooth.jumps.energy < 1e-13
    assert smooth.jumps.forces < 1e-9
    broken = pull_through_cutoff(Pairs(), atoms, CUTOFF)
    assert broken.jumps.energy < 1e-11
    assert broken.jumps.forces > 1e-4
    stepped = pull_through_cutoff(Pairs(1e-6, smooth=True, ro=3.0), atoms, CUTOFF)
    assert stepped.jumps.energy > 1e-7
    assert stepped.jumps.forces < 1e-9


def test_the_atom_nearest_to_the_cutoff_is_pulled_through_it() -> None:
    atoms = Atoms("Cu4", [[0, 0, 0], [0, 2.5, 0], [3.8, 0, 0], [0, 0, 5.5]])
    before = atoms.positions.copy()
    pull = pull_through_cutoff(Pairs(), atoms, CUTOFF)
    assert pull.pair == (0, 2)
    assert pull.distances[0] == 3.75
    assert pull.distances[-1] == 4.25
    assert (np.diff(pull.distances) > 0.0).all()
    inside = pull.distances < 4.0
    slopes = np.diff(pull.energies[inside]) / np.diff(pull.distances[inside])
    middle = 0.5 * (pull.forces[inside][1:] + pull.forces[inside][:-1])
    wide = np.diff(pull.distances[inside]) > 1e-3
    assert np.allclose(slopes[wide], -middle[wide], atol=1e-2)
    assert (atoms.positions == before).all()


def test_far_atoms_come_near() -> None:
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 9.0]])
    pull = pull_through_cutoff(Pairs(), atoms, CUTOFF)
    slope = 0.3 * 4 * (12 * (2.2 / 4) ** 12 - 6 * (2.2 / 4) ** 6) / 4
    assert pull.jumps.forces == pytest.approx(abs(slope), rel=1e-6)


def test_of_many_atoms_those_around_the_pair_are_pulled(monkeypatch) -> None:
    monkeypatch.setattr(smoothness, "_MOST_ATOMS", 16)
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=0)
    calculator, sizes = Pairs(), []
    calculate = calculator.calculate
    monkeypatch.setattr(
        calculator, "calculate", lambda one, *a, **k: sizes.append(len(one)) or calculate(one, *a)
    )
    pull = pull_through_cutoff(calculator, atoms, CUTOFF)
    assert set(sizes) == {16}
    assert pull.n_atoms == 16
    assert atoms.get_distance(*pull.pair, mic=True) == pytest.approx(CUTOFF, abs=0.6)
    assert pull.jumps.forces > 1e-4
    assert pull_through_cutoff(Pairs(), bulk("Cu"), CUTOFF).n_atoms == 8


def test_nothing_to_pull() -> None:
    assert pull_through_cutoff(Pairs(), Atoms("Cu"), CUTOFF) is None
    assert pull_through_cutoff(Pairs(), TRIMER, np.inf) is None


def test_pictures_show_each_way_and_the_cutoff() -> None:
    pull = pull_through_cutoff(Pairs(), bulk("Cu"), CUTOFF)
    figure = plot_pulls({"bare": pull, "symmetrized": pull})
    for panel in figure.axes:
        assert [line.get_label() for line in panel.lines] == ["bare", "symmetrized", "cutoff"]
    figure = plot_rotations({"bare": [1e-2, 2e-2, 0.1], "symmetrized": [0.0, 1e-15]})
    (panel,) = figure.axes
    assert sum(patch.get_height() for patch in panel.patches) == 5
    ticks = plot_rotations({"bare": [1e-2, 1e-1]}).axes[0].get_yticks()
    assert (ticks == np.round(ticks)).all()
