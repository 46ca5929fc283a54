"""Figures of group velocities, Grüneisen parameters and the quasi-harmonic approximation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from phonopy.qha.eos import get_eos

from ase_pet.units import EV_IN_MEV, THZ_IN_INVERSE_CM
from ase_pet.workflows.phonons.bands import path_velocities
from ase_pet.workflows.plots import mark_path

if TYPE_CHECKING:
    from ase_pet.workflows.phonons.gruneisen import GruneisenRecord
    from ase_pet.workflows.phonons.harmonic import PhononRecord
    from ase_pet.workflows.phonons.qha import QHARecord

_DOTS = {"linestyle": "none", "marker": ".", "markersize": 2.5}


def plot_velocities(record: PhononRecord) -> Figure:
    """Group velocities along the band path and over the frequency, km/s."""
    figure = Figure(figsize=(9, 4.5), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    bands = record.bands
    for k, velocities in enumerate(path_velocities(bands)):
        speeds = np.linalg.norm(velocities, axis=-1)
        frequencies = bands.frequencies[k] * THZ_IN_INVERSE_CM
        for band in range(speeds.shape[1]):
            color = f"C{band % 10}"
            left.plot(bands.distances[k], speeds[:, band], color=color, **_DOTS)
            right.plot(frequencies[:, band], speeds[:, band], color=color, **_DOTS)
    mark_path(left, bands)
    left.set(ylabel="group velocity, km/s", ylim=(0, None))
    right.set(xlabel="frequency, cm⁻¹")
    return figure


def plot_gruneisen(record: GruneisenRecord) -> Figure:
    """Grüneisen parameters along the band path and, on the mesh, over the frequency."""
    figure = Figure(figsize=(9, 4.5), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    path, mesh = record.path, record.mesh
    for band in np.unique(path["band"]):
        rows = path["band"] == band
        color = f"C{(band - 1) % 10}"
        left.plot(path["distance_1_per_A"][rows], path["gruneisen"][rows], color=color, **_DOTS)
    mark_path(left, record.points[1].record.bands)
    right.plot(mesh["frequency_cm-1"], mesh["gruneisen"], color="0.3", **_DOTS)
    mean = record.mean()
    right.axhline(mean, color="C3", linewidth=1, label=f"mean at 300 K: {mean:.2f}")
    left.set(ylabel="Grüneisen parameter")
    right.set(xlabel="frequency, cm⁻¹")
    right.legend()
    for panel in (left, right):
        panel.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
    return figure


def plot_qha(record: QHARecord) -> Figure:
    """Free energy over the volume, and what follows from it over temperature."""
    figure = Figure(figsize=(11, 6), layout="constrained", dpi=120)
    first, *panels = figure.subplots(2, 3).flat
    _plot_free_energies(first, record)
    columns = record.columns
    heat = columns["heat_capacity_P_J_per_K_mol"]
    warm = heat > 0.05 * heat.max()
    curves = {
        "volume, Å³": columns["volume_A3"],
        "thermal expansion, 10⁻⁶/K": columns["thermal_expansion_1_per_K"] * 1e6,
        "heat capacity $C_P$, J/(K mol)": heat,
        "bulk modulus, GPa": columns["bulk_modulus_GPa"],
        "Grüneisen parameter": columns["gruneisen"],
    }
    for panel, (label, values) in zip(panels, curves.items(), strict=True):
        # It is a ratio of what vanishes at 0 K.
        shown = warm if label.startswith("Grün") else slice(None)
        panel.plot(columns["temperature_K"][shown], values[shown])
        panel.set(xlabel="temperature, K", ylabel=label)
        panel.ticklabel_format(useOffset=False)
    return figure


def _plot_free_energies(panel: Axes, record: QHARecord) -> None:
    """Free energies from their minimum at a few temperatures, with the equation of state."""
    result = record.result
    n_shown = len(record.columns["temperature_K"])
    reached = np.append(result.volumes, result.equilibrium_volumes[:n_shown])
    dense = np.linspace(reached.min(), reached.max(), 101)
    equation = get_eos(result.eos_name)
    for k, row in enumerate(np.linspace(0, n_shown - 1, min(5, n_shown)).astype(int)):
        energy, *_, volume = parameters = result.eos_parameters[row]
        fitted = (equation(dense, parameters) - energy) * EV_IN_MEV
        points = (result.helmholtz_volume[row] - energy) * EV_IN_MEV
        label = f"{result.temperatures[row]:g} K"
        panel.plot(result.volumes, points, "o", color=f"C{k}", markersize=3)
        panel.plot(dense, fitted, color=f"C{k}", linewidth=1, label=label)
        panel.plot(volume, 0.0, "x", color=f"C{k}")
    panel.set(xlabel="volume of the primitive cell, Å³", ylabel="free energy - lowest, meV")
    panel.legend(fontsize="small")
