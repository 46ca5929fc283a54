"""Figures show what they were given."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from ase_pet.units import EV_IN_MEV, THZ_IN_INVERSE_CM
from ase_pet.workflows.md import MDRecord
from ase_pet.workflows.phonons import PhononSettings, compute_phonons
from ase_pet.workflows.plots import plot_bands, plot_md, plot_relaxation, plot_thermal
from ase_pet.workflows.relax import RelaxRecord


@pytest.mark.parametrize("conserved", [2.0, float("nan")])
def test_md(conserved: float) -> None:
    record = MDRecord(4, periodic=True)
    record.rows = [(t, -t, 2.0 + t, conserved, 300.0, 1.0, 2.0, 3.0) for t in (0.0, 0.1, 0.2)]
    figure = plot_md(record.columns(), record.n_atoms, periodic=record.periodic)
    energies, temperature, third, momentum = figure.axes
    assert energies.lines[0].get_ydata() == pytest.approx([0.0, -25.0, -50.0])
    assert pytest.approx(energies.lines[1].get_ydata()[-1]) == EV_IN_MEV / 4 * 0.2
    assert list(temperature.lines[0].get_ydata()) == [300.0] * 3
    assert len(third.lines) == (1 if np.isfinite(conserved) else 0)
    assert [line.get_ydata()[0] for line in momentum.lines] == [1.0, 2.0, 3.0]
    assert "not conserved" in momentum.get_title()


@pytest.mark.parametrize("volumes", [[], [10.0, 10.0, 10.0], [10.0, 11.0, 12.0]])
def test_relaxation(volumes: list[float]) -> None:
    record = RelaxRecord(True, [1.0, 0.5, 0.25], [0.3, 0.1, 0.0], volumes)
    axes = plot_relaxation(record).axes
    assert len(axes) == (3 if np.ptp(volumes or [0.0]) else 2)
    assert list(axes[0].lines[0].get_ydata()) == [0.75, 0.25, 0.0]
    assert axes[1].get_yscale() == "linear"  # a force of zero has no logarithm


def test_bands_and_dos_share_their_frequencies() -> None:
    atoms = bulk("Cu")
    atoms.calc = EMT()
    settings = PhononSettings(supercell=(2, 2, 2), mesh=10.0, n_points=5)
    record = compute_phonons(atoms, settings)
    bands, dos = plot_bands({"a": record, "b": record}).axes
    assert [text.get_text() for text in dos.get_legend().get_texts()] == ["a", "b"]
    drawn = np.concatenate([line.get_ydata() for line in bands.lines])
    highest = np.concatenate(record.bands.frequencies).max() * THZ_IN_INVERSE_CM
    assert drawn.max() == pytest.approx(highest)
    x, y = dos.lines[0].get_data()
    assert np.trapezoid(x, y) == pytest.approx(3.0, rel=0.05)  # three modes of one atom
    ticks = [text.get_text() for text in bands.get_xticklabels()]
    assert ticks[0] == "$\\Gamma$"
    assert ticks[2] == "$\\mathrm{U}$|$\\mathrm{K}$"
    assert len(ticks) == len(bands.get_xticks())
    assert plot_bands({"": record}).axes[1].get_legend() is None


def test_thermal() -> None:
    columns = {"temperature_K": np.arange(3.0), "entropy_J_per_K_mol": np.arange(3.0) ** 2}
    columns["free_energy_kJ_per_mol"] = -np.arange(3.0)
    axes = plot_thermal(columns).axes
    assert [a.get_ylabel() for a in axes] == ["entropy J per K mol", "free energy kJ per mol"]
    assert list(axes[0].lines[0].get_ydata()) == [0.0, 1.0, 4.0]
