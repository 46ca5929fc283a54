"""Atoms that leave are noticed."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.emt import EMT

from ase_pet.workflows.md import MDSettings, run_md
from ase_pet.workflows.md.watch import gaps


def leaving(speed: float) -> Atoms:
    """A molecule of copper and an atom that runs away from it."""
    atoms = Atoms("Cu3", [[0, 0, 0], [2.2, 0, 0], [7.5, 0, 0]])
    atoms.set_velocities([[0, 0, 0], [0, 0, 0], [speed, 0, 0]])
    atoms.calc = EMT()
    return atoms


def test_an_atom_that_leaves_stops_the_run(tmp_path: Path) -> None:
    settings = MDSettings(steps=200, time_step=2.0, max_gap=8.0, interval=5)
    with pytest.raises(RuntimeError, match=r"atom 2 \(Cu\) is 8\.\d Å away .* beyond max_gap"):
        run_md(leaving(0.2), settings, tmp_path)
    good = ase.io.read(tmp_path / "final.extxyz")
    assert 7.5 < gaps(good)[2] <= 8.0
    assert len(ase.io.read(tmp_path / "md.traj", ":")) > 1


def test_an_atom_that_was_away_may_stay_away() -> None:
    atoms = leaving(0.2)
    record = run_md(atoms, MDSettings(steps=200, time_step=2.0, max_gap=3.0))
    assert record["time_ps"][-1] == pytest.approx(0.4)
    assert gaps(atoms)[2] > 8.0


def test_gaps_are_measured_where_nothing_is_periodic() -> None:
    slab = fcc111("Cu", (2, 2, 2), vacuum=5.0)
    slab.pbc = (True, True, False)
    slab += Atoms("Cu", [slab.positions[-1] + [30.0, 40.0, 7.0]])
    assert gaps(slab)[:-1] == pytest.approx(0.0, abs=1e-9)
    assert gaps(slab)[-1] == pytest.approx(7.0)
    chain = Atoms("Cu2", [[0, 0, 0], [50.0, 3.0, 4.0]], cell=[2.5, 0, 0], pbc=(True, False, False))
    assert gaps(chain) == pytest.approx(5.0)
    water = molecule("H2O")
    assert gaps(water) == pytest.approx(np.sort(water.get_all_distances())[:, 1])
    water.set_cell([10, 10, 10])
    water.pbc = True
    assert not gaps(water).any()
    assert gaps(Atoms("Cu")).tolist() == [0.0]
