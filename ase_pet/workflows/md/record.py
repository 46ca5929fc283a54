"""Thermodynamics of a run: one row every few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms, units

from ase_pet.units import EV_IN_MEV

#: ħ in ASE's units (Å sqrt(eV u)), the unit in which angular momenta are reported.
HBAR = units._hbar * units.J * units.s


class MDRecord:
    """Thermodynamics of a run, one row every ``interval`` steps.

    Attributes:
        n_atoms: Number of atoms.
        periodic: Whether any axis is periodic; angular momentum is then not conserved by nature.
        n_equilibration: How many of the first rows are of the equilibration, which averages and
            drifts leave out.
        rows: Time (ps), potential, kinetic and conserved energy (eV; the conserved one is NaN
            where the thermostat has none), temperature (K), angular momentum about the centre of
            mass (ħ, three components), pressure (GPa, kinetic part included) and volume (Å³; both
            NaN where there are none).
    """

    COLUMNS = (
        "time_ps",
        "potential_eV",
        "kinetic_eV",
        "conserved_eV",
        "temperature_K",
        "angular_momentum_x_hbar",
        "angular_momentum_y_hbar",
        "angular_momentum_z_hbar",
        "pressure_GPa",
        "volume_A3",
    )

    def __init__(self, n_atoms: int, periodic: bool, n_equilibration: int = 0) -> None:
        self.n_atoms = n_atoms
        self.periodic = periodic
        self.n_equilibration = n_equilibration
        self.rows: list[tuple[float, ...]] = []

    def append(self, row: tuple[float, ...]) -> None:
        """Add a row.

        Raises:
            RuntimeError: If a number is not finite that was so far.
        """
        for name, x in zip(self.COLUMNS, row, strict=True):
            if self.rows and name in self.names and not np.isfinite(x):
                raise RuntimeError(f"{name} is not finite at {row[0]:.6g} ps")
        self.rows.append(row)

    def __getitem__(self, column: str) -> np.ndarray:
        """One column [n_rows]."""
        return np.array([row[self.COLUMNS.index(column)] for row in self.rows])

    @property
    def angular_momentum(self) -> np.ndarray:
        """[n_rows, 3], ħ, about the centre of mass."""
        return np.array([row[5:8] for row in self.rows]).reshape(-1, 3)

    @property
    def names(self) -> list[str]:
        """Of the columns that this run has; the first row tells."""
        first = self.rows[0] if self.rows else ()
        return [n for n, x in zip(self.COLUMNS, first, strict=False) if np.isfinite(x)]

    def columns(self) -> dict[str, np.ndarray]:
        """Columns by name, without those that this run does not have."""
        return {name: self[name] for name in self.names}

    def summary(self) -> dict[str, Any]:
        """Averages, drift and, of free atoms, angular momentum after equilibration."""
        there = {name: x[self.n_equilibration :] for name, x in self.columns().items()}
        if not there or not len(there["time_ps"]):
            return {}
        time_ps = there["time_ps"]
        found: dict[str, Any] = {
            "time_ps": float(time_ps[-1] - time_ps[0]),
            "mean_temperature_K": float(there["temperature_K"].mean()),
            "std_temperature_K": float(there["temperature_K"].std()),
            "mean_potential_eV": float(there["potential_eV"].mean()),
        }
        for name in sorted({"pressure_GPa", "volume_A3"} & there.keys()):
            found |= {f"mean_{name}": float(there[name].mean())}
            found |= {f"std_{name}": float((there[name] - there[name][0]).std())}
        if len(time_ps) > 2 and "conserved_eV" in there:
            conserved = there["conserved_eV"] * EV_IN_MEV / self.n_atoms
            slope, start = np.polyfit(time_ps, conserved, 1)
            rest = conserved - (slope * time_ps + start)
            found["drift_meV_per_atom_per_ps"] = float(slope)
            found["fluctuation_meV_per_atom"] = float(rest.std())
        if not self.periodic:
            momentum = self.angular_momentum[self.n_equilibration :]
            change = float(np.linalg.norm(momentum - momentum[0], axis=1).max())
            found["angular_momentum_start_hbar"] = float(np.linalg.norm(momentum[0]))
            found["angular_momentum_change_hbar"] = change
        return found


def measure(
    atoms: Atoms, time_ps: float, conserved: Callable[[], float] | None
) -> tuple[float, ...]:
    """One row of :class:`MDRecord`; NaN stands for what there is not."""
    pressure = volume = float("nan")
    if atoms.pbc.all():
        volume = atoms.get_volume()
        if "stress" in atoms.calc.implemented_properties:
            stress = atoms.get_stress(include_ideal_gas=True)
            pressure = -float(stress[:3].mean()) / units.GPa
    return tuple(
        map(
            float,
            (
                time_ps,
                atoms.get_potential_energy(),
                atoms.get_kinetic_energy(),
                float("nan") if conserved is None else conserved(),
                atoms.get_temperature(),
                *(atoms.get_angular_momentum() / HBAR),
                pressure,
                volume,
            ),
        )
    )
