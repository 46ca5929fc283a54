"""Harmonic phonons through phonopy, all displaced supercells evaluated in batches."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import seekpath
from ase import Atoms
from ase.calculators.calculator import Calculator
from phonopy import Phonopy
from phonopy.phonon.band_structure import (
    BandStructure,
    get_band_qpoints_and_path_connections,
)
from phonopy.phonon.dos import TotalDos
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import guess_primitive_matrix
from rich.console import Console
from seekpath.hpkot import EdgeCaseWarning

from ase_pet.formats.files import write_atomically
from ase_pet.interfaces.ase_structures import has_volume
from ase_pet.units import THZ_IN_INVERSE_CM
from ase_pet.workflows.output import write_csv, write_figure, write_summary
from ase_pet.workflows.plots import plot_bands, plot_thermal
from ase_pet.workflows.progress import Progress

#: Atoms that are handed to the calculator at once.
_BATCH_ATOMS = 1024


@dataclass(frozen=True, slots=True)
class PhononSettings:
    """How to compute phonons.

    Attributes:
        supercell: Repeats along the three lattice vectors; ``None`` makes each at least
            ``min_length`` long.
        min_length: Å, see ``supercell``.
        displacement: Å.
        two_sided: Displace atoms both ways: ``True``, ``False``, or ``None`` where symmetry does
            not already give the other way.
        use_symmetry: Displace only what the space group does not give.
        subtract_residual: Subtract the forces of the perfect supercell from all others. At Γ the
            residual forces of all cells add up: 5e-6 eV/Å is a third of a cm⁻¹ in silicon.
        symmetrize: Impose the acoustic sum rule and permutation symmetry on the force constants.
        mesh: Length, as phonopy counts it, that sets the density of q-points of the DOS.
        n_points: q-points of the longest segment of the band path.
        max_temperature: K, of the thermal properties.
        symprec: Å, tolerance of the space group.

    Raises:
        ValueError: If a value makes no sense.
    """

    supercell: tuple[int, int, int] | None = None
    min_length: float = 12.0
    displacement: float = 0.01
    two_sided: bool | None = None
    use_symmetry: bool = True
    subtract_residual: bool = True
    symmetrize: bool = False
    mesh: float = 100.0
    n_points: int = 101
    max_temperature: float = 1000.0
    symprec: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("min_length", "displacement", "mesh", "max_temperature", "symprec"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.n_points < 2:
            raise ValueError(f"n_points: expected at least 2, got {self.n_points}")
        if self.supercell is not None and (len(self.supercell) != 3 or min(self.supercell) < 1):
            raise ValueError(
                f"supercell: expected three positive repeats like (3, 3, 3), got {self.supercell}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class PhononRecord:
    """Phonons of a crystal.

    Attributes:
        phonon: Phonopy's object, with force constants, mesh and all that it can do.
        bands: Along seekpath's path; frequencies in THz.
        dos: Density of states, per THz.
        thermal: Columns: temperature, free energy, entropy and heat capacity of the primitive
            cell, the unit in each name.
        residual: eV/Å, largest force in the perfect supercell.
        n_supercells: How many displaced supercells were evaluated.
        seconds: Time of their evaluation.
    """

    phonon: Phonopy
    bands: BandStructure
    dos: TotalDos
    thermal: dict[str, np.ndarray]
    residual: float
    n_supercells: int
    seconds: float

    @property
    def gamma(self) -> np.ndarray:
        """Frequencies at Γ [n_bands], cm⁻¹; imaginary ones are negative."""
        found = self.phonon.run_qpoints([[0.0, 0.0, 0.0]]).frequencies
        return np.asarray(found)[0] * THZ_IN_INVERSE_CM

    def summary(self) -> dict[str, Any]:
        """Frequencies and thermal properties, as plain numbers."""
        gamma = self.gamma
        bands = np.concatenate(self.bands.frequencies) * THZ_IN_INVERSE_CM
        room = int(np.abs(self.thermal["temperature_K"] - 300.0).argmin())
        return {
            "n_atoms_primitive": len(self.phonon.primitive),
            "n_atoms_supercell": len(self.phonon.supercell),
            "n_supercells": self.n_supercells,
            "seconds": self.seconds,
            "residual_force_eV_per_A": self.residual,
            "gamma_cm-1": gamma.tolist(),
            "acoustic_at_gamma_cm-1": float(np.sort(np.abs(gamma))[:3].max()),
            "lowest_cm-1": float(bands.min()),
            "highest_cm-1": float(bands.max()),
            **{name: float(column[room]) for name, column in self.thermal.items()},
        }


def compute_phonons(
    atoms: Atoms,
    settings: PhononSettings,
    out_dir: str | Path | None = None,
    *,
    console: Console | None = None,
) -> PhononRecord:
    """Compute phonons of a relaxed crystal, with a calculator attached.

    The folder receives ``phonopy_params.yaml`` (displacements, forces and force constants, which
    ``phonopy-load`` opens), ``bands.png``, ``thermal.png``, ``thermal.csv`` and ``summary.json``.

    Args:
        atoms: Unit cell, periodic in three directions; unchanged.
        settings: What to compute.
        out_dir: Folder for the files; nothing is written if None.
        console: Where progress is shown; silent if None.

    Raises:
        ValueError: If the structure is not periodic in three directions.
    """
    if atoms.calc is None:
        raise ValueError("atoms: no calculator attached; set atoms.calc first")
    require_crystal(atoms)
    out = None if out_dir is None else Path(out_dir)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    unit_cell = _phonopy_atoms(atoms)
    phonon = Phonopy(
        unit_cell,
        supercell_matrix=np.diag(settings.supercell or _repeats(atoms, settings.min_length)),
        primitive_matrix=guess_primitive_matrix(unit_cell, symprec=settings.symprec),
        symprec=settings.symprec,
        is_symmetry=settings.use_symmetry,
    )
    phonon.generate_displacements(
        distance=settings.displacement,
        is_plusminus="auto" if settings.two_sided is None else settings.two_sided,
    )
    displaced = [_ase_atoms(cell) for cell in phonon.supercells_with_displacements or []]
    began = time.perf_counter()
    forces = evaluate_forces(atoms.calc, [_ase_atoms(phonon.supercell), *displaced], console)
    seconds = time.perf_counter() - began
    perfect, forces = forces[0], forces[1:]
    if settings.subtract_residual:
        forces = [f - perfect for f in forces]
    phonon.forces = np.array(forces)
    phonon.produce_force_constants(show_drift=False)
    if settings.symmetrize:
        phonon.symmetrize_force_constants(show_drift=False)
    residual = float(np.linalg.norm(perfect, axis=1).max())
    spectra = _spectra(phonon, settings)
    record = PhononRecord(phonon, *spectra, residual, len(displaced), seconds)
    if out is not None:
        _write(record, settings, atoms.calc, out)
    return record


def require_crystal(atoms: Atoms) -> None:
    """Raise ``ValueError`` unless a structure is periodic in three directions."""
    if not (atoms.pbc.all() and has_volume(atoms)):
        raise ValueError(
            "atoms: phonons need a crystal, periodic in three directions, got "
            f"pbc={atoms.pbc.tolist()} and the cell {atoms.cell.tolist()}; set both in the "
            "structure or give another one"
        )


def evaluate_forces(
    calculator: Calculator, structures: Sequence[Atoms], console: Console | None = None
) -> list[np.ndarray]:
    """Forces [n_atoms, 3], eV/Å, of each structure, in batches where the calculator takes them.

    Args:
        calculator: Any ASE calculator; one with ``compute`` is asked for many at a time.
        structures: What to evaluate.
        console: Where progress is shown; silent if None.
    """
    found: list[np.ndarray] = []
    size = max(1, _BATCH_ATOMS // max(map(len, structures), default=1))
    with Progress(console, "supercells", len(structures)) as progress:
        for start in range(0, len(structures), size):
            batch = structures[start : start + size]
            if hasattr(calculator, "compute"):
                found += [results["forces"] for results in calculator.compute(batch)]
            else:
                found += [calculator.get_property("forces", atoms).copy() for atoms in batch]
            progress.advance(n_steps=len(batch))
    return found


def band_path(
    primitive: PhonopyAtoms, n_points: int, symprec: float
) -> tuple[list[np.ndarray], list[bool], list[str]]:
    """Path through the Brillouin zone, in the basis of the cell as it is, by seekpath.

    Phonopy's own automatic path is in the basis of seekpath's standard cell, which is another
    than that of a rotated or unusually chosen primitive cell.

    Args:
        primitive: Primitive cell.
        n_points: q-points of the longest segment.
        symprec: Å, tolerance of the space group.

    Returns:
        q-points of each segment; whether each is connected to the next; labels.
    """
    # In edge cases, such as a lattice parameter at a boundary, either path is a valid one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgeCaseWarning)
        path = seekpath.get_path_orig_cell(primitive.totuple(), symprec=symprec)
    chains: list[list[str]] = []
    for start, end in path["path"]:
        if chains and chains[-1][-1] == start:
            chains[-1].append(end)
        else:
            chains.append([start, end])
    corners = [[path["point_coords"][name] for name in chain] for chain in chains]
    reciprocal = np.linalg.inv(primitive.cell).astype(np.float64)
    qpoints, connections = get_band_qpoints_and_path_connections(corners, n_points, reciprocal)
    labels = [_label(name) for chain in chains for name in chain]
    return qpoints, connections, labels


def _label(name: str) -> str:
    letter, _, index = name.partition("_")
    letter = "\\Gamma" if letter == "GAMMA" else f"\\mathrm{{{letter}}}"
    return f"${letter}_{{{index}}}$" if index else f"${letter}$"


def _spectra(
    phonon: Phonopy, settings: PhononSettings
) -> tuple[BandStructure, TotalDos, dict[str, np.ndarray]]:
    """Bands, density of states and thermal properties."""
    qpoints, connections, labels = band_path(phonon.primitive, settings.n_points, settings.symprec)
    bands = phonon.run_band_structure(qpoints, path_connections=connections, labels=labels)
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


def _repeats(atoms: Atoms, length: float) -> tuple[int, int, int]:
    a, b, c = np.ceil(length / atoms.cell.lengths() - 1e-9).astype(int).tolist()
    return max(a, 1), max(b, 1), max(c, 1)


def _phonopy_atoms(atoms: Atoms) -> PhonopyAtoms:
    """A left-handed cell, which phonopy refuses, is given by its negative: the same lattice."""
    if atoms.cell.handedness < 0:
        atoms = atoms.copy()
        atoms.set_cell(-atoms.cell.array)
    return PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(wrap=False),
        masses=atoms.get_masses(),
    )


def _ase_atoms(cell: PhonopyAtoms) -> Atoms:
    return Atoms(cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)


def _write(
    record: PhononRecord, settings: PhononSettings, calculator: Calculator, out: Path
) -> None:
    text = str(record.phonon.to_phonopy_yaml(settings={"force_constants": True}))
    write_atomically(out / "phonopy_params.yaml", lambda file: file.write(text.encode()))
    write_csv(out / "thermal.csv", record.thermal)
    write_figure(out / "bands.png", plot_bands({"": record}))
    write_figure(out / "thermal.png", plot_thermal(record.thermal))
    write_summary(out, calculator, settings, record.summary())
