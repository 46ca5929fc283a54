"""Harmonic phonons through phonopy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from phonopy import Phonopy
from phonopy.file_IO import parse_BORN
from phonopy.harmonic.displacement import estimate_number_of_snapshots
from phonopy.harmonic.dynamical_matrix import NacParams
from phonopy.phonon.band_structure import BandStructure
from phonopy.phonon.dos import TotalDos
from rich.console import Console

from ase_pet.formats.files import remove_leftovers, write_atomically
from ase_pet.units import THZ_IN_INVERSE_CM
from ase_pet.workflows.output import write_csv, write_figure, write_summary
from ase_pet.workflows.phonons.bands import (
    band_columns,
    band_path,
    modes_at_gamma,
    path_velocities,
)
from ase_pet.workflows.phonons.cells import ase_supercells, displaced_phonopy
from ase_pet.workflows.phonons.forces import evaluate_forces
from ase_pet.workflows.phonons.plots import plot_velocities
from ase_pet.workflows.phonons.settings import FORCE_CONSTANTS, PhononSettings
from ase_pet.workflows.phonons.store import Store
from ase_pet.workflows.plots import plot_bands, plot_thermal


@dataclass(frozen=True, slots=True, eq=False)
class PhononRecord:
    """Phonons of a crystal.

    Attributes:
        phonon: Phonopy's object, with force constants, mesh and all that it can do.
        bands: Along seekpath's path; frequencies in THz, group velocities in THz·Å.
        dos: Density of states, per THz.
        thermal: Columns: temperature, free energy, entropy and heat capacity of the primitive
            cell, the unit in each name.
        residual: eV/Å, largest force in the perfect supercell.
        fit_error: eV/Å, root mean square of what the force constants do not reproduce of the
            forces: anharmonic parts, and noise.
        n_supercells: How many displaced supercells there are.
        n_kept: How many supercells, the perfect one included, an earlier run had evaluated.
        seconds: Time that the others took.
        modes: Degenerate modes at Γ with their irreducible representations, if asked for.
    """

    phonon: Phonopy
    bands: BandStructure
    dos: TotalDos
    thermal: dict[str, np.ndarray]
    residual: float
    fit_error: float
    n_supercells: int
    n_kept: int
    seconds: float
    modes: list[dict[str, Any]] | None = None

    @property
    def gamma(self) -> np.ndarray:
        """Frequencies at Γ [n_bands], cm⁻¹; imaginary ones are negative."""
        found = self.phonon.run_qpoints([[0.0, 0.0, 0.0]]).frequencies
        return np.asarray(found)[0] * THZ_IN_INVERSE_CM

    def summary(self) -> dict[str, Any]:
        """Frequencies and thermal properties, as plain numbers."""
        gamma = self.gamma
        bands = np.concatenate(self.bands.frequencies) * THZ_IN_INVERSE_CM
        velocities = np.concatenate(path_velocities(self.bands))
        room = int(np.abs(self.thermal["temperature_K"] - 300.0).argmin())
        return {
            "n_atoms_primitive": len(self.phonon.primitive),
            "n_atoms_supercell": len(self.phonon.supercell),
            "n_supercells": self.n_supercells,
            "n_supercells_of_an_earlier_run": self.n_kept,
            "seconds": self.seconds,
            "residual_force_eV_per_A": self.residual,
            "fit_error_eV_per_A": self.fit_error,
            "gamma_cm-1": gamma.tolist(),
            **({} if self.modes is None else {"modes_at_gamma": self.modes}),
            "acoustic_at_gamma_cm-1": float(np.sort(np.abs(gamma))[:3].max()),
            "lowest_cm-1": float(bands.min()),
            "highest_cm-1": float(bands.max()),
            "highest_group_velocity_km_per_s": float(np.linalg.norm(velocities, axis=-1).max()),
            **{name: float(column[room]) for name, column in self.thermal.items()},
        }


def compute_phonons(
    atoms: Atoms,
    settings: PhononSettings,
    out_dir: str | Path | None = None,
    *,
    forces_dir: str | Path | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
) -> PhononRecord:
    """Compute phonons of a relaxed crystal, with a calculator attached.

    The folder receives ``phonopy_params.yaml`` (displacements, forces and force constants, which
    ``phonopy-load`` opens), ``bands.png``, ``bands.csv``, ``velocities.png``, ``thermal.png``,
    ``thermal.csv`` and ``summary.json``, and in ``forces/`` the forces of each batch of supercells
    as soon as they are there: the same call goes on where a run was killed.

    Example::

        atoms = bulk("Si", a=5.43)
        atoms.calc = PETCalculator("pet-si", dtype="float64")
        relax(atoms, RelaxSettings("lbfgs", fmax=1e-4, cell="full"))
        record = compute_phonons(atoms, PhononSettings(irreps=True), "phonons")
        print(record.gamma, record.phonon.run_qpoints([[0.5, 0.0, 0.5]]).frequencies)

    Args:
        atoms: Unit cell, periodic in three directions; unchanged.
        settings: What to compute.
        out_dir: Folder for the files; nothing is written if None.
        forces_dir: Folder in which forces are kept, ``out_dir/forces`` by default.
        executor: Who evaluates supercells, see ``evaluate_forces``.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If the structure is not periodic in three directions, has a charge or spin of
            which a supercell's does not follow, or the file ``nac`` cannot be read.
    """
    if atoms.calc is None:
        raise ValueError("atoms: no calculator attached; set atoms.calc first")
    phonon = displaced_phonopy(atoms, settings)
    nac = None if settings.nac is None else read_born(settings.nac, phonon, settings.symprec)
    out = None if out_dir is None else Path(out_dir)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        forces_dir = out / "forces" if forces_dir is None else forces_dir
    began = time.perf_counter()
    forces, n_kept = evaluate_forces(
        atoms.calc,
        ase_supercells(phonon, atoms),
        batch_atoms=settings.batch_atoms,
        store=None if forces_dir is None else Store(Path(forces_dir), atoms.calc),
        executor=executor,
        console=console,
    )
    seconds = time.perf_counter() - began
    fit_error = _produce_force_constants(phonon, forces, settings)
    phonon.nac_params = nac
    residual = float(np.linalg.norm(forces[0], axis=1).max())
    spectra = _spectra(phonon, settings)
    modes = modes_at_gamma(phonon) if settings.irreps else None
    record = PhononRecord(
        phonon, *spectra, residual, fit_error, len(forces) - 1, n_kept, seconds, modes
    )
    if out is not None:
        _write(record, settings, atoms.calc, out)
    return record


def read_born(path: Path, phonon: Phonopy, symprec: float) -> NacParams:
    """Born effective charges and dielectric tensor of the primitive cell.

    Args:
        path: File in phonopy's format ``BORN``: the tensors of the atoms that symmetry does not
            give, in the axes of the crystal as it lies.
        phonon: Phonopy's object of the crystal.
        symprec: Å, tolerance of the space group.

    Raises:
        ValueError: If the file is not there or does not fit the crystal.
    """
    try:
        return parse_BORN(phonon.primitive, symprec=symprec, filename=path)
    except Exception as error:
        raise ValueError(
            f"nac: {path} is no BORN file of this crystal; `phonopy-vasp-born` and phonopy's "
            f"manual show how one looks ({error or type(error).__name__})"
        ) from error


def _produce_force_constants(
    phonon: Phonopy, forces: Sequence[np.ndarray], settings: PhononSettings
) -> float:
    """Force constants from the forces of the perfect supercell and of all displaced ones.

    Returns:
        eV/Å, root mean square of what they do not reproduce.

    Raises:
        ValueError: If random displacements are too few.
    """
    perfect = forces[0] if settings.subtract_residual else 0.0
    phonon.forces = found = np.array(forces[1:]) - perfect
    method: Any = FORCE_CONSTANTS[settings.force_constants]
    phonon.produce_force_constants(fc_calculator=method, show_drift=False)
    if settings.symmetrize:
        phonon.symmetrize_force_constants(show_drift=False)
    displaced = np.array([cell.positions for cell in phonon.supercells_with_displacements or []])
    moves = displaced - phonon.supercell.positions
    constants: Any = phonon.force_constants  # [i, j, a, b]
    left = found + np.tensordot(moves, constants, axes=((1, 2), (1, 3)))
    error, size = (float(np.sqrt(np.square(array).mean())) for array in (left, found))
    if settings.n_random is not None and error > 0.5 * size:
        needed = estimate_number_of_snapshots(phonon.supercell, phonon.symmetry)
        raise ValueError(
            f"n_random: {settings.n_random} random displacements do not determine the force "
            f"constants (an error of {error:.2g} eV/Å in forces of {size:.2g} eV/Å); give {needed}"
        )
    return error


def _spectra(
    phonon: Phonopy, settings: PhononSettings
) -> tuple[BandStructure, TotalDos, dict[str, np.ndarray]]:
    """Bands, density of states and thermal properties."""
    qpoints, connections, labels = band_path(phonon.primitive, settings.n_points, settings.symprec)
    bands = phonon.run_band_structure(
        qpoints, with_group_velocities=True, path_connections=connections, labels=labels
    )
    phonon.run_mesh(settings.mesh)
    dos = phonon.run_total_dos()
    thermal = phonon.run_thermal_properties(
        t_max=settings.max_temperature, t_step=10, exclude_gamma_acoustic=True
    )
    columns = {
        "temperature_K": np.asarray(thermal.temperatures),
        "free_energy_kJ_per_mol": np.asarray(thermal.free_energy),
        "entropy_J_per_K_mol": np.asarray(thermal.entropy),
        "heat_capacity_J_per_K_mol": np.asarray(thermal.heat_capacity),
    }
    return bands, dos, columns


def _write(
    record: PhononRecord, settings: PhononSettings, calculator: Calculator, out: Path
) -> None:
    figures = {
        "bands": plot_bands({"": record}),
        "velocities": plot_velocities(record),
        "thermal": plot_thermal(record.thermal),
    }
    tables = {"bands": band_columns(record.bands), "thermal": record.thermal}
    names = ["phonopy_params.yaml", "summary.json", *(f"{name}.png" for name in figures)]
    for name in (*names, *(f"{name}.csv" for name in tables)):
        remove_leftovers(out / name)  # of a run that was killed while it wrote them
    text = str(record.phonon.to_phonopy_yaml(settings={"force_constants": True}))
    write_atomically(out / "phonopy_params.yaml", lambda file: file.write(text.encode()))
    for name, columns in tables.items():
        write_csv(out / f"{name}.csv", columns)
    for name, figure in figures.items():
        write_figure(out / f"{name}.png", figure)
    write_summary(out, calculator, settings, record.summary())
