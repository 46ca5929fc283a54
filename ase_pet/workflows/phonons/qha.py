"""The quasi-harmonic approximation, by phonopy: a crystal over temperature at constant pressure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from phonopy import QHAResult, run_qha
from phonopy.physical_units import get_physical_units
from rich.console import Console

from ase_pet.units import EV_PER_A3_IN_GPA, THZ_IN_INVERSE_CM
from ase_pet.workflows.output import write_csv, write_figure, write_summary
from ase_pet.workflows.phonons.plots import plot_qha
from ase_pet.workflows.phonons.settings import PhononSettings
from ase_pet.workflows.phonons.volumes import AT_REST, VolumePoint, phonons_at
from ase_pet.workflows.relax import RelaxSettings

#: Relative changes of the volume at which phonons are computed.
CHANGES = (-0.03, -0.015, 0.0, 0.015, 0.03, 0.045, 0.06)
#: cm⁻¹; acoustic modes at Γ may be below 0 by less.
UNSTABLE = -5.0


@dataclass(frozen=True, slots=True, eq=False)
class QHARecord:
    """A crystal over temperature.

    Attributes:
        result: Phonopy's, in eV, Å and K, of the primitive cell.
        points: The crystal at each volume.
        columns: Temperature, volume, thermal expansion (of the volume), heat capacity at constant
            pressure, bulk modulus, Grüneisen parameter, Gibbs energy and entropy of the primitive
            cell, the unit in each name.
    """

    result: QHAResult
    points: list[VolumePoint]
    columns: dict[str, np.ndarray]

    def summary(self) -> dict[str, Any]:
        """What there is at room temperature, as plain numbers."""
        room = int(np.abs(self.columns["temperature_K"] - 300.0).argmin())
        return {
            "volumes_A3": [point.volume for point in self.points],
            "energies_eV": [point.energy for point in self.points],
            "volume_at_0_K_A3": float(self.columns["volume_A3"][0]),
            **{name: float(column[room]) for name, column in self.columns.items()},
        }


def compute_qha(
    atoms: Atoms,
    settings: PhononSettings,
    out_dir: str | Path | None = None,
    *,
    changes: Sequence[float] = CHANGES,
    pressure: float = 0.0,
    eos: str = "vinet",
    at_rest: RelaxSettings | None = AT_REST,
    forces_dir: str | Path | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
) -> QHARecord:
    """Volume, thermal expansion, heat capacity and bulk modulus of a crystal over temperature.

    The folder receives ``qha.csv``, ``qha.png``, ``summary.json`` and a folder with the phonons of
    each volume.

    Args:
        atoms: Relaxed unit cell with a calculator; unchanged.
        settings: Of the phonons; ``max_temperature`` is that of all results.
        out_dir: Folder for the files; nothing is written if None.
        changes: Relative changes of the volume, at least five.
        pressure: GPa.
        eos: Equation of state: ``"vinet"``, ``"birch_murnaghan"`` or ``"murnaghan"``.
        at_rest: How to relax at the changed volumes, which it should keep; not at all if None.
        forces_dir: Folder in which forces are kept, ``out_dir/forces`` by default.
        executor: Who evaluates supercells.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If there are fewer than five volumes, or the structure is no crystal.
        RuntimeError: If a relaxation does not converge, or energies fit no equation of state.
    """
    check_changes(changes)
    out = None if out_dir is None else Path(out_dir)
    if forces_dir is None and out is not None:
        forces_dir = out / "forces"
    points = phonons_at(
        atoms,
        settings,
        sorted(changes),
        out,
        at_rest=at_rest,
        forces_dir=None if forces_dir is None else Path(forces_dir),
        executor=executor,
        console=console,
    )
    _warn_if_unstable(points)
    record = _evaluate(points, settings, pressure, eos)
    _warn_if_outside(record)
    if out is not None:
        write_csv(out / "qha.csv", record.columns)
        write_figure(out / "qha.png", plot_qha(record))
        found = {"pressure_GPa": pressure, "eos": eos, **record.summary()}
        write_summary(out, atoms.calc, settings, found)
    return record


def check_changes(changes: Sequence[float]) -> None:
    """Raise ``ValueError`` unless relative changes of the volume are enough and make sense."""
    if len(set(changes)) < 5 or min(changes) <= -0.5 or max(changes) > 1:
        raise ValueError(
            f"changes: expected five relative volumes or more between -0.5 and 1, got {changes}"
        )


def _evaluate(
    points: list[VolumePoint], settings: PhononSettings, pressure: float, eos: str
) -> QHARecord:
    # Differences take the last temperature, and the last but one at the end of their range.
    temperatures = np.arange(0.0, settings.max_temperature + 25.0, 10.0)
    with warnings.catch_warnings():  # of what is said for all results afterwards
        warnings.filterwarnings("ignore", message="Lattice parameters are extrapolated")
        result = run_qha(
            [point.record.phonon for point in points],
            temperatures,
            internal_energies=[point.energy for point in points],
            mesh=settings.mesh,
            pressure=pressure,
            eos=eos,
            exclude_gamma_acoustic=True,
        )
    if len(result.temperatures) < len(temperatures) - 1:
        raise RuntimeError(
            f"the energies fit no equation of state at {temperatures[len(result.temperatures)]} K; "
            "give a wider range of volumes or a lower max_temperature"
        )
    kept = result.temperatures <= settings.max_temperature
    to_J_per_mol = get_physical_units().EvTokJmol * 1000.0
    columns = {
        "temperature_K": result.temperatures,
        "volume_A3": result.equilibrium_volumes,
        "thermal_expansion_1_per_K": result.thermal_expansion,
        "heat_capacity_P_J_per_K_mol": result.heat_capacity_P.heat_capacities * to_J_per_mol,
        "bulk_modulus_GPa": result.bulk_moduli * EV_PER_A3_IN_GPA,
        "gruneisen": result.gruneisen_parameters,
        "gibbs_energy_eV": result.gibbs_free_energies,
        "entropy_J_per_K_mol": result.entropy_temperature * to_J_per_mol,
    }
    return QHARecord(result, points, {name: column[kept] for name, column in columns.items()})


def _warn_if_unstable(points: list[VolumePoint]) -> None:
    for point in points:
        mesh: Any = point.record.phonon.mesh
        lowest = float(mesh.frequencies.min()) * THZ_IN_INVERSE_CM
        if lowest < UNSTABLE:
            warnings.warn(
                f"the crystal is unstable at {point.volume:.3f} Å³ (a frequency of {lowest:.1f} "
                "cm⁻¹): its free energy leaves such modes out; give volumes at which it is stable",
                stacklevel=3,
            )


def _warn_if_outside(record: QHARecord) -> None:
    volumes = record.columns["volume_A3"]
    outside = (volumes < record.points[0].volume) | (volumes > record.points[-1].volume)
    if outside.any():
        first = record.columns["temperature_K"][outside][0]
        warnings.warn(
            f"from {first:g} K the volume at rest lies outside those computed: results are "
            "extrapolated; give a wider range of volumes",
            stacklevel=3,
        )
