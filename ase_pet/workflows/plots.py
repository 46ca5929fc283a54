"""Figures of the workflows; nothing here needs a display."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ase_pet.units import EV_IN_MEV, THZ_IN_INVERSE_CM

if TYPE_CHECKING:
    from phonopy.phonon.band_structure import BandStructure

    from ase_pet.workflows.phonons import PhononRecord
    from ase_pet.workflows.relax import RelaxRecord

#: eV/Å; forces below are zero but for rounding.
_ROUNDING = 1e-8
_UNITS = {"_kJ_per_mol": ", kJ/mol", "_J_per_K_mol": ", J/(K mol)"}


def plot_md(columns: Mapping[str, np.ndarray], n_atoms: int, *, periodic: bool) -> Figure:
    """Energies, temperature, conserved energy, angular momentum, pressure and volume over time.

    Args:
        columns: Columns of :class:`~ase_pet.workflows.md.MDRecord`.
        n_atoms: Number of atoms, by which energies are divided.
        periodic: Whether any axis is periodic; angular momentum is then not conserved by nature.
    """
    more = [name for name in ("pressure_GPa", "volume_A3") if name in columns]
    if more and np.ptp(columns[more[-1]]) == 0.0:  # a volume that is kept
        del more[-1]
    n_rows = 3 if more else 2
    figure = Figure(figsize=(8, 3 * n_rows), layout="constrained", dpi=120)
    panels = figure.subplots(n_rows, 2, sharex=True).flat
    t = columns["time_ps"]

    def relative(name: str) -> np.ndarray:
        return (columns[name] - columns[name][0]) * EV_IN_MEV / n_atoms

    panels[0].plot(t, relative("potential_eV"), label="potential")
    panels[0].plot(t, relative("kinetic_eV"), label="kinetic")
    panels[0].set(ylabel="energy - start, meV/atom")
    panels[0].legend()
    panels[1].plot(t, columns["temperature_K"], color="C3")
    panels[1].set(ylabel="temperature, K")
    if "conserved_eV" in columns:
        panels[2].plot(t, relative("conserved_eV"), color="C2")
        panels[2].set(ylabel="conserved energy - start, meV/atom")
    else:
        note = "this thermostat has\nno conserved energy"
        panels[2].text(0.5, 0.5, note, ha="center", transform=panels[2].transAxes)
        panels[2].set(yticks=[])
    for axis in "xyz":
        panels[3].plot(t, columns[f"angular_momentum_{axis}_hbar"], label=axis)
    panels[3].set(ylabel="angular momentum, ħ")
    if periodic:
        panels[3].set_title("not conserved in a periodic cell", fontsize="small")
    panels[3].legend()
    labels = {"pressure_GPa": "pressure, GPa", "volume_A3": "volume, Å³"}
    for k, name in enumerate(more):
        panels[4 + k].plot(t, columns[name], color=f"C{4 + k}")
        panels[4 + k].set(ylabel=labels[name])
    if len(more) == 1:
        panels[5].set_axis_off()
    for panel in panels[-2:]:
        panel.set(xlabel="time, ps")
    return figure


def plot_relaxation(record: RelaxRecord) -> Figure:
    """Energy and largest force over the steps and, where the cell changed, volume and pressure.

    Forces that are zero by symmetry are left out where something else moved.
    """
    forces = np.array(record.forces)
    curves = [("energy - end, eV", np.array(record.energies) - record.energies[-1], "linear")]
    moved = np.ptp(record.volumes or [0.0]) > 0
    if forces.max() > _ROUNDING or not moved:
        curves.append(("largest force, eV/Å", forces, "log"))
    if moved:
        curves.append(("volume, Å³", np.array(record.volumes), "linear"))
        curves.append(("pressure, GPa", np.array(record.pressures), "linear"))
    figure = Figure(figsize=(4 * len(curves), 3.5), layout="constrained", dpi=120)
    for panel, (label, values, scale) in zip(figure.subplots(1, len(curves)), curves, strict=True):
        panel.plot(values, ".-")
        panel.set(xlabel="step", ylabel=label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        if (values > 0).all():
            panel.set_yscale(scale)
    return figure


def plot_bands(phonons: Mapping[str, PhononRecord]) -> Figure:
    """Phonon bands beside the density of states, in cm⁻¹.

    Args:
        phonons: By their names in the legend; all on one band path, the first one's.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    for k, (name, record) in enumerate(phonons.items()):
        # Later ones are thinner and broken, so that what lies on top of each other is seen.
        line = ("-", "--", "-.", ":")[k % 4]
        bands, style = (
            record.bands,
            {"color": f"C{k}", "linestyle": line, "linewidth": max(2 - 0.3 * k, 0.5)},
        )
        for x, frequencies in zip(bands.distances, bands.frequencies, strict=True):
            left.plot(x, frequencies * THZ_IN_INVERSE_CM, **style)
        density = np.asarray(record.dos.dos) / THZ_IN_INVERSE_CM
        right.plot(density, record.dos.frequency_points * THZ_IN_INVERSE_CM, **style, label=name)
    drawn = np.concatenate([line.get_ydata() for line in left.lines])
    lowest, highest = 1.05 * min(drawn.min(), 0.0), 1.05 * drawn.max()
    imaginary = lowest < -0.01 * highest
    left.set(ylabel="frequency, cm⁻¹", ylim=(lowest if imaginary else 0.0, highest))
    mark_path(left, next(iter(phonons.values())).bands)
    right.set(xlabel="DOS, states/cm⁻¹", xlim=(0, None))
    for panel in (left, right):
        panel.axhline(0.0, color="0.6", linewidth=0.8)
    if any(phonons):
        right.legend()
    return figure


def mark_path(panel: Axes, bands: BandStructure) -> None:
    """Vertical lines and labels at the corners of the band path."""
    labels = iter(bands.labels or [])
    ticks, names = [bands.distances[0][0]], [next(labels, "")]
    segments = list(zip(bands.distances, bands.path_connections, strict=True))
    for k, (x, connected) in enumerate(segments):
        ticks.append(x[-1])
        names.append(next(labels, ""))
        if not connected and k + 1 < len(segments):
            names[-1] += "|" + next(labels, "")
    for tick in ticks:
        panel.axvline(tick, color="0.8", linewidth=0.8)
    panel.set(xticks=ticks, xticklabels=names, xlim=(ticks[0], ticks[-1]))


def plot_thermal(columns: Mapping[str, np.ndarray]) -> Figure:
    """Free energy, entropy and heat capacity over temperature.

    Args:
        columns: ``temperature_K`` and what to draw over it, the unit in each name.
    """

    def label(name: str) -> str:
        for ending, unit in _UNITS.items():
            name = name.replace(ending, unit)
        return name.replace("_", " ")

    figure = Figure(figsize=(10, 3.2), layout="constrained", dpi=120)
    figure.suptitle("per mole of primitive cells", fontsize="medium")
    names = [name for name in columns if name != "temperature_K"]
    for panel, name in zip(figure.subplots(1, len(names)), names, strict=True):
        panel.plot(columns["temperature_K"], columns[name])
        panel.set(xlabel="temperature, K", ylabel=label(name))
    return figure
