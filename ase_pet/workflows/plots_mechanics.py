"""Figures of the mechanics of crystals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ase_pet.units import EV_IN_MEV
from ase_pet.workflows.stiffness import Stiffness

if TYPE_CHECKING:
    from ase_pet.workflows.elastic import ElasticRecord
    from ase_pet.workflows.eos import EOSRecord


def plot_eos(record: EOSRecord) -> Figure:
    """Energies over volumes, with the equation that was fitted."""
    figure = Figure(figsize=(5, 3.5), layout="constrained", dpi=120)
    panel = figure.subplots()

    def relative(energies: np.ndarray) -> np.ndarray:
        return (energies - record.E0) * EV_IN_MEV / record.n_atoms

    dense = np.linspace(record.volumes[0], record.volumes[-1], 200)
    panel.plot(record.volumes / record.n_atoms, relative(record.energies), "o", label="energies")
    panel.plot(dense / record.n_atoms, relative(record.curve(dense)), "-", label=record.form)
    panel.axvline(record.V0 / record.n_atoms, color="0.6", linestyle=":")
    panel.set(xlabel="volume, Å³/atom", ylabel="energy - E0, meV/atom")
    panel.set_title(f"B0 = {record.B0:.4g} GPa, B' = {record.B1:.3g}", fontsize="medium")
    panel.legend()
    return figure


def plot_young(record: ElasticRecord) -> Figure:
    """Young's modulus in three planes of the conventional cell, GPa."""
    figure = Figure(figsize=(10, 3.8), layout="constrained", dpi=120)
    angle = np.linspace(0.0, 2.0 * np.pi, 361)
    tensors = {"clamped ions": record.clamped, "relaxed ions": record.relaxed}
    for k, axes in enumerate(("xy", "yz", "zx")):
        panel = figure.add_subplot(1, 3, k + 1, projection="polar")
        directions = np.zeros((len(angle), 3))
        directions[:, k], directions[:, (k + 1) % 3] = np.cos(angle), np.sin(angle)
        for (name, tensor), line in zip(tensors.items(), ("-", "--"), strict=True):
            if tensor is not None and tensor.stable:
                along = Stiffness(record.conventional(tensor)).young(directions)
                panel.plot(angle, along, line, label=name if k == 0 else None)
        panel.set_title(f"Young's modulus in {axes}, GPa", fontsize="medium")
        panel.yaxis.set_major_locator(MaxNLocator(4))
    figure.legend(loc="outside lower center", ncols=2)
    return figure
