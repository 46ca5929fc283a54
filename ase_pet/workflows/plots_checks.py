"""Figures of the checks of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ase_pet.workflows.smoothness import Pull


def plot_rotations(errors: Mapping[str, Sequence[float]]) -> Figure:
    """Histogram of the errors of rotated structures.

    Args:
        errors: By the name of a way to evaluate the model: one a rotation, relative.
    """
    figure = Figure(figsize=(6, 3.5), layout="constrained", dpi=120)
    panel = figure.subplots()
    # Errors of exactly zero are drawn where rounding would be.
    shown = {name: np.maximum(values, 1e-18) for name, values in errors.items()}
    every = np.log10(np.concatenate(list(shown.values())))
    bins = 10.0 ** np.arange(np.floor(every.min()), np.ceil(every.max()) + 0.26, 0.25)
    for name, values in shown.items():
        panel.hist(values, bins=bins.tolist(), label=name, alpha=0.7)
    panel.set(xscale="log", xlabel="largest deviation of a force, relative", ylabel="rotations")
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend()
    return figure


def plot_pulls(pulls: Mapping[str, Pull]) -> Figure:
    """Energy and force on an atom that is pulled through the cutoff of another."""
    figure = Figure(figsize=(8, 3.5), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2)
    for name, pull in pulls.items():
        left.plot(pull.distances, pull.energies - pull.energies[-1], ".-", label=name)
        right.plot(pull.distances, pull.forces, ".-", label=name)
    left.set(ylabel="energy - end, eV")
    right.set(ylabel="force along the pull, eV/Å")
    some = next(iter(pulls.values()))
    first, second = some.pair
    for panel in (left, right):
        panel.axvline(some.cutoff, color="0.6", linestyle=":", label="cutoff")
        panel.set(xlabel=f"distance of atoms {first} and {second}, Å")
        panel.legend()
    return figure
