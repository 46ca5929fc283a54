"""Energy over volume, and the equation of state that ASE fits to it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.eos
import numpy as np
from ase import Atoms
from ase.eos import EquationOfState
from rich.console import Console
from scipy.optimize import OptimizeWarning

from ase_pet.units import EV_IN_MEV, EV_PER_A3_IN_GPA
from ase_pet.workflows.batches import evaluate_all
from ase_pet.workflows.crystal import require_crystal
from ase_pet.workflows.output import write_csv, write_figure, write_summary
from ase_pet.workflows.plots_mechanics import plot_eos
from ase_pet.workflows.progress import Progress
from ase_pet.workflows.relax import RelaxSettings, relax

#: Those of ASE whose parameters are E0, B0, B' and V0.
FORMS = (
    "birchmurnaghan", "birch", "murnaghan", "vinet", "pouriertarantola", "anton-schmidt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EOSSettings:
    """Which volumes, and what is fitted.

    Attributes:
        form: One of :data:`FORMS`.
        n_volumes: How many, at least 5.
        change: Of the volume, at most, relative to that of the structure given.
        relax_atoms: Relax atoms at each volume; the shape of the cell is kept.
        fmax: eV/Å, of these relaxations.
        steps: Most steps of each.

    Raises:
        ValueError: If a value makes no sense.
    """

    form: str = "birchmurnaghan"
    n_volumes: int = 11
    change: float = 0.06
    relax_atoms: bool = True
    fmax: float = 1e-3
    steps: int = 500

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form: expected one of {FORMS}, got {self.form!r}")
        if self.n_volumes < 5:
            raise ValueError(f"n_volumes: expected 5 or more, got {self.n_volumes}")
        if not 0 < self.change < 0.5:
            raise ValueError(f"change: expected more than 0 and less than 0.5, got {self.change}")
        RelaxSettings(fmax=self.fmax, steps=self.steps)


@dataclass(frozen=True, slots=True, eq=False)
class EOSRecord:
    """An equation of state.

    Attributes:
        n_atoms: Of the cell.
        volumes: [n_volumes], Å³.
        energies: [n_volumes], eV.
        form: One of :data:`FORMS`.
        V0: Å³, volume of least energy.
        E0: eV, the energy there.
        B0: GPa, bulk modulus there.
        B1: Its derivative by the pressure there.
    """

    n_atoms: int
    volumes: np.ndarray
    energies: np.ndarray
    form: str
    V0: float
    E0: float
    B0: float
    B1: float

    def curve(self, volumes: np.ndarray) -> np.ndarray:
        """Energies by the equation, eV, at any volumes, Å³."""
        equation = getattr(ase.eos, self.form.replace("-", "_"))
        found = equation(volumes, self.E0, self.B0 / EV_PER_A3_IN_GPA, self.B1, self.V0)
        return np.asarray(found)

    def summary(self) -> dict[str, Any]:
        """Parameters and the error of the fit, as plain numbers."""
        rest = (self.energies - self.curve(self.volumes)) * EV_IN_MEV / self.n_atoms
        return {
            "V0_A3": self.V0,
            "V0_A3_per_atom": self.V0 / self.n_atoms,
            "E0_eV": self.E0,
            "E0_eV_per_atom": self.E0 / self.n_atoms,
            "B0_GPa": self.B0,
            "B0_derivative": self.B1,
            "rms_of_fit_meV_per_atom": float(np.sqrt(np.mean(rest**2))),
        }


def compute_eos(
    atoms: Atoms,
    settings: EOSSettings,
    out_dir: str | Path | None = None,
    *,
    console: Console | None = None,
) -> EOSRecord:
    """Scale a crystal to several volumes, evaluate it, and fit an equation of state.

    The folder receives ``eos.csv``, ``eos.png`` and ``summary.json``.

    Args:
        atoms: Crystal near its equilibrium, with a calculator; unchanged.
        settings: What to do.
        out_dir: Folder for the files; nothing is written if None.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If the structure is no crystal, or has no least energy among the volumes.
        RuntimeError: If atoms do not relax at a volume.
    """
    if atoms.calc is None:
        raise ValueError("atoms: no calculator attached; set atoms.calc first")
    require_crystal(atoms, "an equation of state needs")
    factors = 1.0 + np.linspace(-settings.change, settings.change, settings.n_volumes)
    scaled = [_scaled(atoms, factor) for factor in factors]
    if settings.relax_atoms:
        energies = _relaxed_energies(scaled, settings, console)
    else:
        found = evaluate_all(atoms.calc, scaled, ["energy"], label="volumes", console=console)
        energies = np.array([one["energy"] for one in found])
    record = fit(np.array([one.get_volume() for one in scaled]), energies, len(atoms), settings)
    if out_dir is not None:
        out = Path(out_dir)
        out.mkdir(parents=True, exist_ok=True)
        columns = {
            "volume_A3": record.volumes,
            "energy_eV": energies,
            "fit_eV": record.curve(record.volumes),
        }
        write_csv(out / "eos.csv", columns)
        write_figure(out / "eos.png", plot_eos(record))
        write_summary(out, atoms.calc, settings, record.summary())
    return record


def fit(
    volumes: np.ndarray, energies: np.ndarray, n_atoms: int, settings: EOSSettings
) -> EOSRecord:
    """Fit an equation of state.

    Args:
        volumes: [n_volumes], Å³, ascending.
        energies: [n_volumes], eV.
        n_atoms: Of the cell.
        settings: Which equation.

    Raises:
        ValueError: If the least energy is not between the first and the last volume.
    """
    advice = "give a structure whose cell is relaxed, or a larger change of the volume"
    if not 0 < energies.argmin() < len(energies) - 1:
        raise ValueError(
            f"atoms: the energy has no minimum between {volumes[0]:.4g} and {volumes[-1]:.4g} Å³; "
            f"{advice}"
        )
    equation = EquationOfState(volumes, energies, settings.form)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OptimizeWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # on the way to the minimum
        try:
            V0, E0, B0 = map(float, equation.fit(warn=False))
        except (RuntimeError, OptimizeWarning) as error:
            raise ValueError(
                f"form: {settings.form!r} cannot be fitted ({error}); {advice}"
            ) from None
    if not volumes[0] < V0 < volumes[-1]:
        raise ValueError(f"atoms: the fit's minimum is at {V0:.4g} Å³, outside; {advice}")
    slope = float(equation.eos_parameters[2])
    return EOSRecord(
        n_atoms, volumes, energies, settings.form, V0, E0, B0 * EV_PER_A3_IN_GPA, slope
    )


def _scaled(atoms: Atoms, factor: float) -> Atoms:
    """A copy with the volume multiplied by a factor."""
    copied = atoms.copy()
    copied.set_cell(atoms.cell * factor ** (1 / 3), scale_atoms=True)
    copied.calc = atoms.calc
    return copied


def _relaxed_energies(
    scaled: list[Atoms], settings: EOSSettings, console: Console | None
) -> np.ndarray:
    to_rest = RelaxSettings("lbfgs", settings.fmax, settings.steps)
    energies = []
    with Progress(console, "volumes", len(scaled)) as progress:
        for one in scaled:
            record = relax(one, to_rest)
            if not record.converged:
                raise RuntimeError(
                    f"atoms did not relax to {settings.fmax} eV/Å at {one.get_volume():.4g} Å³ in "
                    f"{settings.steps} steps; allow more steps or a larger fmax"
                )
            energies.append(record.energies[-1])
            progress.advance(f"{one.get_volume():.4g} Å³")
    return np.array(energies)
