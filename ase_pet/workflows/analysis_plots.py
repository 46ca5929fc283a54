"""Figures of what a trajectory says."""

from __future__ import annotations

from matplotlib.figure import Figure

from ase_pet.units import THZ_IN_INVERSE_CM
from ase_pet.workflows.analysis import MSD, RDF, VDOS


def plot_rdf(rdf: RDF) -> Figure:
    """Radial distribution functions over the distance, each on a scale of its own."""
    n_rows = len(rdf.g)
    figure = Figure(figsize=(6, max(4, 1.7 * n_rows)), layout="constrained", dpi=120)
    panels = figure.subplots(n_rows, 1, sharex=True, squeeze=False)[:, 0]
    for k, (panel, (name, g)) in enumerate(zip(panels, rdf.g.items(), strict=True)):
        panel.plot(rdf.distances, g, color=f"C{k}", label=name)
        panel.axhline(1.0, color="0.6", linewidth=0.8)
        panel.set(ylabel="g", xlim=(0, None), ylim=(0, None))
        panel.legend()
    panels[-1].set(xlabel="distance, Å")
    return figure


def plot_msd(msd: MSD) -> Figure:
    """Mean squared displacements over the lag; where lines were fitted is shaded."""
    figure = Figure(figsize=(6, 4), layout="constrained", dpi=120)
    panel = figure.subplots()
    shown = msd.times <= 2.0 * msd.window[1]
    for name, values in msd.msd.items():
        best, error = msd.diffusion[name]
        label = f"{name}: D = ({best:.2g} ± {error:.1g}) cm²/s"
        panel.plot(msd.times[shown], values[shown], label=label)
    panel.axvspan(*msd.window, color="0.93")
    panel.set(xlabel="time, ps", ylabel="mean squared displacement, Å²", xlim=(0, None))
    panel.legend()
    return figure


def plot_vdos(vdos: VDOS) -> Figure:
    """Vibrational density of states over the wavenumber."""
    figure = Figure(figsize=(6, 4), layout="constrained", dpi=120)
    panel = figure.subplots()
    for name, dos in vdos.dos.items():
        panel.plot(vdos.frequencies * THZ_IN_INVERSE_CM, dos / THZ_IN_INVERSE_CM, label=name)
    panel.set(xlabel="wavenumber, cm⁻¹", ylabel="VDOS, states/cm⁻¹", xlim=(0, None), ylim=(0, None))
    panel.legend()
    return figure
