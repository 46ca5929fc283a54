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


@pytest.mark.parametrize("volume", [[80.0, 80.0], [80.0, 81.0]])
def test_a_volume_is_drawn_if_it_changes(volume: list[float]) -> None:
    columns = {name: np.zeros(2) for name in ("time_ps", "potential_eV", "kinetic_eV")}
    columns |= {f"angular_momentum_{axis}_hbar": np.zeros(2) for axis in "xyz"}
    columns |= {"temperature_K": np.zeros(2), "pressure_GPa": np.zeros(2)}
    figure = plot_md({**columns, "volume_A3": np.array(volume)}, 4, periodic=True)
    labels = [panel.get_ylabel() for panel in figure.axes if panel.axison]
    assert "pressure, GPa" in labels
    assert ("volume, Å³" in labels) == (volume[0] != volume[1])


@pytest.mark.parametrize("volumes", [[], [10.0, 10.0, 10.0], [10.0, 11.0, 12.0]])
def test_relaxation(volumes: list[float]) -> None:
    pressures = [3.0, 2.0, 1.0] if volumes else []
    record = RelaxRecord(True, [1.0, 0.5, 0.25], [0.3, 0.1, 0.0], volumes, pressures)
    axes = plot_relaxation(record).axes
    assert len(axes) == (4 if np.ptp(volumes or [0.0]) else 2)
    if len(axes) == 4:
        assert list(axes[3].lines[0].get_ydata()) == pressures
    assert list(axes[0].lines[0].get_ydata()) == [0.75, 0.25, 0.0]
    assert axes[1].get_yscale() == "linear"  # a force of zero has no logarithm


def test_forces_that_are_zero_by_symmetry_are_not_drawn_where_the_cell_moved() -> None:
    record = RelaxRecord(True, [1.0, 0.5], [1e-14, 2e-14], [10.0, 11.0], [1.0, 0.0])
    labels = [panel.get_ylabel() for panel in plot_relaxation(record).axes]
    assert labels == ["energy - end, eV", "volume, Å³", "pressure, GPa"]
    ticks = plot_relaxation(record).axes[0].get_xticks()
    assert (ticks == np.round(ticks)).all()  # there are no half steps
    still = RelaxRecord(True, [1.0], [1e-14], [10.0], [1.0])
    labels = [panel.get_ylabel() for panel in plot_relaxation(still).axes]
    assert labels == ["energy - end, eV", "largest force, eV/Å"]


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
    assert bands.get_ylim() == pytest.approx((0.0, 1.05 * highest))
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
    assert [a.get_ylabel() for a in axes] == ["entropy, J/(K mol)", "free energy, kJ/mol"]
    assert list(axes[0].lines[0].get_ydata()) == [0.0, 1.0, 4.0]
