"""Relaxation of atoms and cell by ASE's optimisers, with the space group before and after."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import spglib
import spglib.error
from ase import Atoms
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.io import Trajectory
from ase.optimize import FIRE, LBFGS
from ase.optimize.optimize import Optimizer
from rich.console import Console

from ase_pet.interfaces.ase_structures import has_volume
from ase_pet.units import EV_PER_A3_IN_GPA
from ase_pet.workflows.output import write_figure, write_structure, write_summary
from ase_pet.workflows.plots import plot_relaxation
from ase_pet.workflows.progress import Progress

OPTIMIZERS: dict[str, type[Optimizer]] = {"fire": FIRE, "lbfgs": LBFGS}
#: What of the cell may change -> options of the filter.
CELLS: dict[str, dict[str, bool]] = {
    "fixed": {},
    "full": {},
    "isotropic": {"hydrostatic_strain": True},
    "shape": {"constant_volume": True},
}


@dataclass(frozen=True, slots=True)
class RelaxSettings:
    """How to relax.

    Attributes:
        optimizer: ``"fire"`` or ``"lbfgs"``.
        fmax: eV/Å, largest force, and for cells ASE's generalised force, at which to stop.
        steps: Most steps.
        cell: ``"fixed"``, ``"full"``, ``"isotropic"`` or ``"shape"`` (constant volume).
        pressure: GPa, of the surroundings.
        symprec: Å, tolerance of the space group.
        keep_symmetry: Snap a crystal to its space group within ``symprec``, and keep it there.

    Raises:
        ValueError: If a value makes no sense.
    """

    optimizer: str = "fire"
    fmax: float = 0.01
    steps: int = 500
    cell: str = "fixed"
    pressure: float = 0.0
    symprec: float = 1e-5
    keep_symmetry: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", OPTIMIZERS), ("cell", CELLS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}: expected one of {sorted(allowed)}, got {getattr(self, name)!r}"
                )
        for name in ("fmax", "steps", "symprec"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not np.isfinite(self.pressure):
            raise ValueError(f"pressure: expected a finite number of GPa, got {self.pressure}")
        if self.pressure and self.cell not in ("full", "isotropic"):
            raise ValueError(
                f"pressure: {self.pressure} GPa has no effect with cell={self.cell!r}; use "
                "cell='full' or 'isotropic'"
            )


@dataclass(slots=True, eq=False)
class RelaxRecord:
    """Course and outcome of a relaxation.

    Attributes:
        converged: Whether ``fmax`` was reached.
        energies: eV, at each step.
        forces: eV/Å, the largest force at each step.
        volumes: Å³, at each step.
        pressures: GPa, at each step; empty where the cell has no volume.
        space_groups: Before and after, like ``"Fm-3m (225)"``; ``None`` if not periodic in all
            three directions.
        displacements: [n_atoms], Å, how far atoms moved, apart from what the cell did to them all.
        strains: [3], principal strains of the cell, from the largest compression on.
    """

    converged: bool = False
    energies: list[float] = field(default_factory=list)
    forces: list[float] = field(default_factory=list)
    volumes: list[float] = field(default_factory=list)
    pressures: list[float] = field(default_factory=list)
    space_groups: tuple[str | None, str | None] = (None, None)
    displacements: np.ndarray = field(default_factory=lambda: np.zeros(0))
    strains: np.ndarray = field(default_factory=lambda: np.zeros(3))

    @property
    def n_steps(self) -> int:
        """Number of steps taken."""
        return max(len(self.energies) - 1, 0)

    def summary(self) -> dict[str, Any]:
        """Start and end, as plain numbers."""
        found: dict[str, Any] = {
            "converged": self.converged,
            "n_steps": self.n_steps,
            "energy_eV": [self.energies[0], self.energies[-1]],
            "max_force_eV_per_A": [self.forces[0], self.forces[-1]],
            "space_group": list(self.space_groups),
            "largest_displacement_A": float(self.displacements.max(initial=0.0)),
            "rms_displacement_A": float(np.sqrt(np.mean(self.displacements**2))),
        }
        if self.pressures:
            found["volume_A3"] = [self.volumes[0], self.volumes[-1]]
            found["pressure_GPa"] = [self.pressures[0], self.pressures[-1]]
            found["principal_strains"] = self.strains.tolist()
        return found


def space_group(atoms: Atoms, symprec: float = 1e-5) -> str | None:
    """International symbol and number, or ``None``: not a crystal, or none that spglib can find.

    Args:
        atoms: The structure.
        symprec: Å, tolerance.
    """
    if not atoms.pbc.all():
        return None
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    # Where spglib finds none, it raises or warns and returns None, as other packages have set it.
    with warnings.catch_warnings(), suppress(spglib.error.SpglibError):
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.get_spacegroup(cell, symprec=symprec)
        return None if found is None else str(found)
    return None


def relax(
    atoms: Atoms,
    settings: RelaxSettings,
    out_dir: str | Path | None = None,
    *,
    console: Console | None = None,
) -> RelaxRecord:
    """Relax a structure; the atoms, with a calculator attached, are moved.

    The folder receives ``relax.traj`` (written as the run goes), ``relaxed.extxyz``,
    ``relax.png`` and ``summary.json``. Files of an earlier run are left alone until the first
    evaluation has succeeded.

    Args:
        atoms: Structure with a calculator.
        settings: What to do.
        out_dir: Folder for the files; nothing is written if None.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If the cell is to relax, or the symmetry to be kept, but not all three
            directions are periodic.
        ArithmeticError: If an energy or a force is not finite.
    """
    _require_cell(atoms, settings)
    out = None if out_dir is None else Path(out_dir)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    record = RelaxRecord()
    before, start = space_group(atoms, settings.symprec), atoms.copy()
    trajectory: Any = None
    try:
        if settings.keep_symmetry:
            _fix_symmetry(atoms, settings.symprec)
        with Progress(console, settings.optimizer, settings.steps) as progress:
            optimizer = OPTIMIZERS[settings.optimizer](_target(atoms, settings), logfile=None)
            for converged in optimizer.irun(fmax=settings.fmax, steps=settings.steps):
                _note(record, atoms)
                record.converged = bool(converged)
                if out is not None and trajectory is None:
                    trajectory = Trajectory(out / "relax.traj", "w", atoms)
                if trajectory is not None:
                    trajectory.write()
                if record.n_steps:
                    progress.advance(_last(record, settings))
    finally:
        if trajectory is not None:
            trajectory.close()
        atoms.set_constraint(start.constraints)
    record.space_groups = (before, space_group(atoms, settings.symprec))
    record.displacements, record.strains = _moves(start, atoms)
    if out is not None:
        write_structure(out / "relaxed.extxyz", atoms)
        write_figure(out / "relax.png", plot_relaxation(record))
        found = {**record.summary(), "cell_A": atoms.cell.array}
        found["displacements_A"] = record.displacements
        write_summary(out, atoms.calc, settings, found)
    return record


def _require_cell(atoms: Atoms, settings: RelaxSettings) -> None:
    if atoms.calc is None:
        raise ValueError("atoms: no calculator attached; set atoms.calc first")
    if settings.keep_symmetry and atoms.constraints:
        raise ValueError(
            "keep_symmetry: the structure has constraints of its own, which the space group need "
            "not respect; remove them or leave it out"
        )
    if atoms.pbc.all():
        return
    found = f"a structure that is periodic in three directions, got pbc={atoms.pbc.tolist()}"
    if settings.cell != "fixed":
        raise ValueError(
            f"cell: {settings.cell!r} needs {found}; use cell='fixed' or set atoms.pbc"
        )
    if settings.keep_symmetry:
        raise ValueError(f"keep_symmetry: needs {found}; leave it out or set atoms.pbc")


def _fix_symmetry(atoms: Atoms, symprec: float) -> None:
    """Snap a crystal to its space group, and constrain it to stay there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        atoms.set_constraint(FixSymmetry(atoms, symprec))


def _moves(start: Atoms, end: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """How far atoms moved beside the deformation of the cell, Å, and its principal strains."""
    deformation = np.eye(3)
    if has_volume(start):
        deformation = np.linalg.solve(start.cell.array, end.cell.array)
    moved = end.positions - start.positions @ deformation
    strains = np.linalg.svd(deformation, compute_uv=False)[::-1] - 1.0
    return np.linalg.norm(moved, axis=1), strains


def _target(atoms: Atoms, settings: RelaxSettings) -> Any:
    """What the optimiser moves: the atoms, or the atoms and their cell."""
    if settings.cell == "fixed":
        return atoms
    pressure = settings.pressure / EV_PER_A3_IN_GPA
    return FrechetCellFilter(atoms, scalar_pressure=pressure, **CELLS[settings.cell])


def _last(record: RelaxRecord, settings: RelaxSettings) -> str:
    """Where a relaxation is."""
    shown = f"{record.energies[-1]:.4f} eV, {record.forces[-1]:.4f} eV/Å"
    pressed = settings.cell != "fixed" and record.pressures
    return f"{shown}, {record.pressures[-1]:.3f} GPa" if pressed else shown


def _note(record: RelaxRecord, atoms: Atoms) -> None:
    energy, force = atoms.get_potential_energy(), np.linalg.norm(atoms.get_forces(), axis=1).max()
    if not np.isfinite([energy, force]).all():
        raise ArithmeticError("the model gives an energy or forces that are not finite numbers")
    record.energies.append(float(energy))
    record.forces.append(float(force))
    if has_volume(atoms) and "stress" in atoms.calc.implemented_properties:
        record.volumes.append(float(atoms.get_volume()))
        stress = atoms.get_stress()[:3].mean()
        record.pressures.append(float(-stress * EV_PER_A3_IN_GPA))
