"""Molecular dynamics by ASE's integrators, watched at every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import Trajectory
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from rich.console import Console

from ase_pet.units import EV_IN_MEV
from ase_pet.workflows.output import write_csv, write_figure, write_structure, write_summary
from ase_pet.workflows.plots import plot_md
from ase_pet.workflows.progress import Progress

DYNAMICS = ("nve", "langevin", "bussi", "nose-hoover")
#: ħ in ASE's units (Å sqrt(eV u)), the unit in which angular momenta are reported.
HBAR = units._hbar * units.J * units.s


@dataclass(frozen=True, slots=True)
class MDSettings:
    """How to run molecular dynamics.

    Attributes:
        dynamics: ``"nve"`` (velocity Verlet), or a thermostat: ``"langevin"``, ``"bussi"``
            (stochastic velocity rescaling), ``"nose-hoover"`` (chain).
        steps: Number of time steps.
        time_step: fs.
        temperature: K, of the thermostat and of the velocities that atoms at rest are given;
            ``None`` is for "nve" from the velocities that the atoms have.
        damping: fs, relaxation time of the thermostat.
        interval: Steps between two records; of shorter runs, start and end are recorded.
        seed: Of velocities and thermostat, at least 0.
        max_temperature: K; beyond it the run stops as unstable.

    Raises:
        ValueError: If a value makes no sense.
    """

    dynamics: str = "nve"
    steps: int = 1000
    time_step: float = 1.0
    temperature: float | None = None
    damping: float = 100.0
    interval: int = 10
    seed: int = 0
    max_temperature: float = 10_000.0

    def __post_init__(self) -> None:
        if self.dynamics not in DYNAMICS:
            raise ValueError(f"dynamics: expected one of {DYNAMICS}, got {self.dynamics!r}")
        for name in ("steps", "time_step", "damping", "interval", "max_temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}")
        if self.temperature is None and self.dynamics != "nve":
            raise ValueError(f"temperature: {self.dynamics!r} needs one in K, got None")
        if self.temperature is not None and not 0 < self.temperature < self.max_temperature:
            raise ValueError(
                f"temperature: expected 0 < temperature < {self.max_temperature} K "
                f"(max_temperature), got {self.temperature}"
            )


class MDRecord:
    """Thermodynamics of a run, one row every ``interval`` steps.

    Attributes:
        n_atoms: Number of atoms.
        periodic: Whether any axis is periodic; angular momentum is then not conserved by nature.
        rows: Time (ps), potential, kinetic and conserved energy (eV; the conserved one is NaN
            where the thermostat has none), temperature (K), angular momentum about the centre of
            mass (ħ, three components).
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
    )

    def __init__(self, n_atoms: int, periodic: bool) -> None:
        self.n_atoms = n_atoms
        self.periodic = periodic
        self.rows: list[tuple[float, ...]] = []

    def __getitem__(self, column: str) -> np.ndarray:
        """One column [n_rows]."""
        return np.array([row[self.COLUMNS.index(column)] for row in self.rows])

    @property
    def angular_momentum(self) -> np.ndarray:
        """[n_rows, 3], ħ, about the centre of mass."""
        return np.array([row[5:8] for row in self.rows]).reshape(-1, 3)

    def columns(self) -> dict[str, np.ndarray]:
        """All columns by name; the conserved energy is left out where there is none."""
        found = {name: self[name] for name in self.COLUMNS}
        if not np.isfinite(found["conserved_eV"]).all():
            del found["conserved_eV"]
        return found

    def summary(self) -> dict[str, Any]:
        """Averages, drift and conservation, as plain numbers."""
        time_ps, temperature = self["time_ps"], self["temperature_K"]
        found: dict[str, Any] = {
            "time_ps": float(time_ps[-1] - time_ps[0]),
            "mean_temperature_K": float(temperature.mean()),
            "std_temperature_K": float(temperature.std()),
            "mean_potential_eV": float(self["potential_eV"].mean()),
        }
        conserved = self["conserved_eV"] * EV_IN_MEV / self.n_atoms
        if len(time_ps) > 2 and np.isfinite(conserved).all():
            slope, start = np.polyfit(time_ps, conserved, 1)
            rest = conserved - (slope * time_ps + start)
            found["drift_meV_per_atom_per_ps"] = float(slope)
            found["fluctuation_meV_per_atom"] = float(rest.std())
        momentum = self.angular_momentum
        change = float(np.linalg.norm(momentum - momentum[0], axis=1).max())
        found["angular_momentum_start_hbar"] = float(np.linalg.norm(momentum[0]))
        found["angular_momentum_change_hbar"] = change
        return found


def run_md(
    atoms: Atoms,
    settings: MDSettings,
    out_dir: str | Path | None = None,
    *,
    console: Console | None = None,
) -> MDRecord:
    """Run molecular dynamics; the atoms, with a calculator attached, are moved.

    The folder receives ``md.traj`` (written as the run goes), ``md.csv``, ``md.png``,
    ``final.extxyz`` (positions and velocities, from which another run can start) and
    ``summary.json``, also when the run is interrupted or fails. Files of an earlier run are left
    alone until the first evaluation has succeeded.

    Args:
        atoms: Structure with a calculator.
        settings: What to run.
        out_dir: Folder for the files; nothing is written if None.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If there is no calculator, or the atoms are at rest and no temperature is given.
        RuntimeError: If energy, forces or temperature run away; ``final.extxyz`` then holds the
            last good structure, if there is one.
    """
    if atoms.calc is None:
        raise ValueError("atoms: no calculator attached; set atoms.calc first")
    rng = np.random.default_rng(settings.seed)
    if settings.temperature is not None and not atoms.get_momenta().any():
        thermalize_momenta(atoms, settings.temperature, exact_temperature=True, rng=rng)
        if len(atoms) > 1:
            Stationary(atoms)
    if not atoms.get_momenta().any():
        raise ValueError(
            "atoms: at rest; give a temperature in K (--temperature on the command line) or "
            "velocities"
        )
    out = None if out_dir is None else Path(out_dir)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    dynamics, conserved = _integrator(atoms, settings, rng)
    record = MDRecord(len(atoms), bool(atoms.pbc.any()))
    good = atoms.copy()
    status, began = "failed", time.perf_counter()
    trajectory: Any = None
    try:
        with Progress(console, settings.dynamics, settings.steps) as progress:
            for step, _ in enumerate(dynamics.irun(settings.steps)):
                _check(atoms, settings, step)
                good.positions, good.cell = atoms.positions, atoms.cell
                good.set_momenta(atoms.get_momenta())
                if out is not None and trajectory is None:
                    trajectory = Trajectory(out / "md.traj", "w", atoms)
                if step % min(settings.interval, settings.steps) == 0:
                    record.rows.append(_row(atoms, dynamics, conserved))
                    if trajectory is not None:
                        trajectory.write()
                if step:
                    progress.advance(f"{atoms.get_temperature():.0f} K")
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except (ValueError, RuntimeError) as error:
        kept = ""
        if out is not None and record.rows:
            kept = f"The last good structure is in {out / 'final.extxyz'}. "
        raise RuntimeError(
            f"molecular dynamics stopped after step {dynamics.nsteps}: {error}. {kept}"
            "Try a shorter time_step or relax the structure first"
        ) from error
    finally:
        if trajectory is not None:
            trajectory.close()
        if out is not None and record.rows:
            seconds = time.perf_counter() - began
            timing = {"n_steps": dynamics.nsteps, "seconds": seconds, "status": status}
            write_structure(out / "final.extxyz", good)
            write_csv(out / "md.csv", record.columns())
            write_figure(
                out / "md.png", plot_md(record.columns(), record.n_atoms, periodic=record.periodic)
            )
            write_summary(out, atoms.calc, settings, {**timing, **record.summary()})
    return record


def _integrator(
    atoms: Atoms, settings: MDSettings, rng: np.random.Generator
) -> tuple[MolecularDynamics, Callable[[], float] | None]:
    """ASE's integrator, and the energy that it ought to conserve."""
    step, damping = settings.time_step * units.fs, settings.damping * units.fs
    kelvin = settings.temperature
    if settings.dynamics == "langevin":
        # ASE's fixcm does not sample the canonical ensemble; the centre of mass is left free.
        friction = 1.0 / damping
        langevin = Langevin(
            atoms, step, temperature_K=kelvin, friction=friction, fixcm=False, rng=rng
        )
        return langevin, None
    if settings.dynamics == "bussi":
        bussi = Bussi(atoms, step, temperature_K=kelvin, taut=damping, rng=rng)
        return bussi, lambda: atoms.get_total_energy() - bussi.transferred_energy
    if settings.dynamics == "nose-hoover":
        chain = NoseHooverChainNVT(atoms, step, temperature_K=float(kelvin or 0.0), tdamp=damping)
        return chain, chain.get_conserved_energy
    return VelocityVerlet(atoms, step), atoms.get_total_energy


def _check(atoms: Atoms, settings: MDSettings, step: int) -> None:
    energy, temperature = atoms.get_potential_energy(), atoms.get_temperature()
    if not (np.isfinite(energy) and np.isfinite(atoms.get_forces()).all()):
        raise RuntimeError(f"energy or forces are not finite at step {step}")
    if not temperature <= settings.max_temperature:
        raise RuntimeError(
            f"the temperature is {temperature:.4g} K at step {step}, beyond max_temperature "
            f"({settings.max_temperature:.4g} K)"
        )


def _row(
    atoms: Atoms, dynamics: MolecularDynamics, conserved: Callable[[], float] | None
) -> tuple[float, ...]:
    return (
        dynamics.get_time() / (1000.0 * units.fs),
        atoms.get_potential_energy(),
        atoms.get_kinetic_energy(),
        float("nan") if conserved is None else conserved(),
        atoms.get_temperature(),
        *(atoms.get_angular_momentum() / HBAR).tolist(),
    )
