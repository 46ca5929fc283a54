"""Figures of ``why_exactness.py``, drawn from what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Colours that the colour-blind can tell apart, and markers.
STYLES = {
    "bare": ("#d55e00", "o"),
    "84 orientations": ("#0072b2", "s"),
    "ECSE": ("#009e73", "D"),
}
Found = dict[str, Any]


def draw_gamma(found: Sequence[Found]) -> Figure:
    """Optical frequencies of the same crystal in many orientations."""
    panels = [(one, cell) for one in found for cell in one["gamma"]["ECSE"]]
    figure, axes = _panels(2, len(panels), height=2.6)
    for (one, cell), column in zip(panels, axes.T, strict=True):
        column[0].set_title(f"{one['case']['crystal']}, {cell} supercell")
        for kind, panel in zip(("raw", "subtracted"), column, strict=True):
            _strips(panel, {way: x[cell][kind] for way, x in _ordered(one["gamma"])})
    axes[0, 0].set_ylabel("forces as they come\nhighest frequency at Γ, cm⁻¹")
    axes[1, 0].set_ylabel("residual forces subtracted\nhighest frequency at Γ, cm⁻¹")
    return figure


def draw_groups(found: Sequence[Found], symprecs: Sequence[float]) -> Figure:
    """How many relaxed crystals have their space group, over the tolerance."""
    figure, axes = _panels(1, len(found), height=3.4)
    for one, panel in zip(found, axes[0], strict=True):
        for shift, (way, outcome) in enumerate(_ordered(one["groups"])):
            right = np.array(outcome["groups"]) == one["case"]["group"]
            colour, marker = STYLES[way]
            share = 100.0 * right.mean(0) + 1.2 * (1 - shift)  # lines do not hide each other
            panel.semilogx(symprecs, share, marker=marker, color=colour, label=way)
        panel.set(xlabel="tolerance, Å", ylim=(-6, 106))
        panel.set_title(f"{one['case']['crystal']}: found to be {one['case']['group']}")
        panel.invert_xaxis()
    axes[0, 0].set_ylabel("relaxed crystals, %")
    axes[0, -1].legend()
    return figure


def draw_rotation(found: Sequence[Found]) -> Figure:
    """Angular momentum and energy of free molecules over time."""
    figure, axes = _panels(2, len(found), height=2.6, sharex="col")
    for one, (top, bottom) in zip(found, axes.T, strict=True):
        for way, run in _ordered(one["rotation"]):
            colour = STYLES[way][0]
            top.semilogy(run["time"][1:], run["momentum"][1:], color=colour, label=way)
            bottom.plot(run["time"], run["energy"], color=colour)
        top.set_title(f"{one['case']['molecule']}, NVE")
        bottom.set(xlabel="time, ps")
    axes[0, 0].set_ylabel("change of the\nangular momentum, ħ")
    axes[1, 0].set_ylabel("change of the\nenergy, meV/atom")
    axes[0, -1].legend()
    return figure


def draw_elastic(found: Sequence[Found], cubic: Any) -> Figure:
    """Elastic constants of the same crystal in many orientations."""
    names = ("$C_{11}$", "$C_{12}$", "$C_{44}$", "largest forbidden")
    figure, axes = _panels(len(found), 4, height=2.9)
    for one, row in zip(found, axes, strict=True):
        parts = {way: cubic(outcome["constants"]) for way, outcome in _ordered(one["elastic"])}
        for k, (name, panel) in enumerate(zip(names, row, strict=True)):
            _strips(panel, {way: part[:, k] for way, part in parts.items()})
            panel.set_title(name)
        row[0].set_ylabel(f"{one['case']['crystal']}, GPa")
    return figure


def _ordered(outcomes: Found) -> list[tuple[str, Any]]:
    """Each way that was tried, always in the same order."""
    return [(way, outcomes[way]) for way in STYLES if way in outcomes]


def _panels(rows: int, columns: int, *, height: float, **shared: Any) -> tuple[Figure, np.ndarray]:
    width = max(3.0 * columns, 4.5)
    figure = Figure(figsize=(width, height * rows), layout="constrained", dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="0.92")
        panel.set_axisbelow(True)
    return figure, axes


def _strips(panel: Axes, values: dict[str, Any]) -> None:
    """One point for each orientation, side by side for each way."""
    for place, (way, x) in enumerate(values.items()):
        colour, marker = STYLES[way]
        offsets = np.linspace(-0.28, 0.28, len(x))
        style = {"marker": marker, "color": colour, "s": 14, "alpha": 0.75, "linewidths": 0}
        panel.scatter(place + offsets, x, **style)
    panel.set(xticks=range(len(values)), xlim=(-0.6, len(values) - 0.4))
    panel.set_xticklabels([way.replace(" ", "\n") for way in values])
    panel.ticklabel_format(axis="y", useOffset=False)
