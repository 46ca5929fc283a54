"""Mode Grüneisen parameters from phonons at three volumes, by phonopy."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from phonopy import PhonopyGruneisen
from phonopy.phonon.thermal_properties import mode_cv
from phonopy.physical_units import get_physical_units
from rich.console import Console

from ase_pet.units import THZ_IN_INVERSE_CM
from ase_pet.workflows.output import write_csv, write_figure, write_summary
from ase_pet.workflows.phonons.bands import band_columns
from ase_pet.workflows.phonons.plots import plot_gruneisen
from ase_pet.workflows.phonons.settings import PhononSettings
from ase_pet.workflows.phonons.volumes import AT_REST, VolumePoint, phonons_at
from ase_pet.workflows.relax import RelaxSettings

#: cm⁻¹; modes below are left out: acoustic ones at Γ have no parameter, and near Γ phonopy, which
#: compares eigenvalues to 1e-4 of its units (0.16 THz), takes them for degenerate.
LOWEST = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class GruneisenRecord:
    r"""Mode Grüneisen parameters :math:`\gamma = -\partial\ln\omega / \partial\ln V`.

    Attributes:
        gruneisen: Phonopy's object.
        points: The crystal at the smaller, its own and the larger volume.
        path: Columns: a row a q-point along the band path and band.
        mesh: Columns: weight, frequency and parameter of each mode on the mesh of q-points.
    """

    gruneisen: PhonopyGruneisen
    points: list[VolumePoint]
    path: dict[str, np.ndarray]
    mesh: dict[str, np.ndarray]

    def mean(self, temperature: float = 300.0) -> float:
        """Mean on the mesh, each mode weighted by its heat capacity at a temperature (K)."""
        to_eV = get_physical_units().THzToEv / THZ_IN_INVERSE_CM
        weights = self.mesh["weight"] * mode_cv(temperature, self.mesh["frequency_cm-1"] * to_eV)
        return float(np.average(self.mesh["gruneisen"], weights=weights))

    def summary(self) -> dict[str, Any]:
        """Volumes and parameters, as plain numbers."""
        values = self.mesh["gruneisen"]
        return {
            "volumes_A3": [point.volume for point in self.points],
            "gruneisen_mean_at_300_K": self.mean(),
            "gruneisen_lowest": float(values.min()),
            "gruneisen_highest": float(values.max()),
        }


def compute_gruneisen(
    atoms: Atoms,
    settings: PhononSettings,
    out_dir: str | Path | None = None,
    *,
    change: float = 0.01,
    at_rest: RelaxSettings | None = AT_REST,
    forces_dir: str | Path | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
) -> GruneisenRecord:
    """Grüneisen parameters of a relaxed crystal.

    The folder receives ``gruneisen.csv``, ``gruneisen.png``, ``summary.json`` and a folder with
    the phonons of each volume.

    Args:
        atoms: Relaxed unit cell with a calculator; unchanged.
        settings: Of the phonons.
        out_dir: Folder for the files; nothing is written if None.
        change: Relative change of the volume, up and down.
        at_rest: How to relax at the changed volumes, which it should keep; not at all if None.
        forces_dir: Folder in which forces are kept, ``out_dir/forces`` by default.
        executor: Who evaluates supercells.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If ``change`` is not between 0 and 0.2, or the structure is no crystal.
        RuntimeError: If a relaxation does not converge.
    """
    check_change(change)
    out = None if out_dir is None else Path(out_dir)
    if forces_dir is None and out is not None:
        forces_dir = out / "forces"
    points = phonons_at(
        atoms,
        settings,
        (-change, 0.0, change),
        out,
        at_rest=at_rest,
        forces_dir=None if forces_dir is None else Path(forces_dir),
        executor=executor,
        console=console,
    )
    record = _evaluate(points)
    if out is not None:
        write_csv(out / "gruneisen.csv", record.path)
        write_figure(out / "gruneisen.png", plot_gruneisen(record))
        found = {"phonons": asdict(settings), **record.summary()}
        write_summary(out, atoms.calc, settings, found)
    return record


def check_change(change: float) -> None:
    """Raise ``ValueError`` unless a relative change of the volume makes sense."""
    if not 0 < change <= 0.2:
        raise ValueError(f"change: expected a relative volume between 0 and 0.2, got {change}")


def _evaluate(points: list[VolumePoint]) -> GruneisenRecord:
    smaller, here, larger = (point.record for point in points)
    found = PhonopyGruneisen(here.phonon, larger.phonon, smaller.phonon)
    with np.errstate(divide="ignore", invalid="ignore"):  # of modes without a frequency
        found.set_band_structure(here.bands.qpoints)
        numbers: Any = here.phonon.mesh_numbers
        found.set_mesh(numbers, is_gamma_center=True)
    _, _, frequencies, _, values = found.get_band_structure()
    path = band_columns(here.bands)
    path = {name: path[name] for name in list(path)[:6]}
    path["frequency_cm-1"] = np.concatenate([f.flatten() for f in frequencies]) * THZ_IN_INVERSE_CM
    path["gruneisen"] = np.concatenate([g.flatten() for g in values])
    on_mesh: Any = found.get_mesh()  # q-points, weights, frequencies, eigenvectors, parameters
    mesh = {
        "weight": np.repeat(on_mesh[1], on_mesh[2].shape[1]),
        "frequency_cm-1": on_mesh[2].flatten() * THZ_IN_INVERSE_CM,
        "gruneisen": on_mesh[4].flatten(),
    }
    return GruneisenRecord(found, points, _with_frequency(path), _with_frequency(mesh))


def _with_frequency(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kept = np.abs(columns["frequency_cm-1"]) > LOWEST
    return {name: column[kept] for name, column in columns.items()}
