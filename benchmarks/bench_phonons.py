"""Degeneracies and space groups in rotated crystals, with ECSE and for the bare model.

1. The optical triplet of silicon at Γ, one- and two-sided displacements, as the crystal lies and
   rotated: the largest difference within the triplet and between orientations.
2. Copper, strained and relaxed with its cell: the space group afterwards.
"""

from __future__ import annotations

import logging

import numpy as np
import spglib
from ase import Atoms
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from common import CHECKPOINTS, rotate, rotation, show, write
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from ase_pet import PETCalculator
from ase_pet.units import THZ_IN_INVERSE_CM

SYMPREC = 1e-5


def relax(atoms: Atoms, calc: PETCalculator, fmax: float) -> Atoms:
    """Relax positions and cell."""
    atoms = atoms.copy()
    atoms.calc = calc
    LBFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=fmax, steps=200)
    return atoms


def gamma(atoms: Atoms, calc: PETCalculator, *, two_sided: bool) -> np.ndarray:
    """Optical frequencies of a primitive cell at Γ, cm⁻¹, without symmetrising force constants.

    Unstable modes are negative and come first, so the three of the largest size are taken.
    """
    cell = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(),
    )
    supercell = np.diag([3, 3, 3])
    phonon = Phonopy(cell, supercell, primitive_matrix="P", log_level=0)
    phonon.generate_displacements(distance=0.01, is_plusminus=two_sided, is_diagonal=False)
    displaced = [
        Atoms(s.symbols, cell=s.cell, scaled_positions=s.scaled_positions, pbc=True)
        for s in phonon.supercells_with_displacements
    ]
    phonon.forces = np.array([out["forces"] for out in calc.compute(displaced)])
    phonon.produce_force_constants()
    phonon.run_qpoints([[0, 0, 0]])
    frequencies = np.sort(phonon.qpoints.frequencies[0]) * THZ_IN_INVERSE_CM
    return frequencies[np.sort(np.abs(frequencies).argsort()[3:])]


def silicon(calc: PETCalculator) -> list[list[float]]:
    """For one- and two-sided displacements: frequency, splitting, spread over orientations."""
    a = relax(bulk("Si"), calc, 1e-6).cell.cellpar()[0] * 2**0.5
    crystal = bulk("Si", a=a)
    rng = np.random.default_rng(0)
    turned = [crystal, *(rotate(crystal, rotation(rng, reflect=bool(k))) for k in range(2))]
    rows = []
    for two_sided in (False, True):
        optical = np.array([gamma(t, calc, two_sided=two_sided) for t in turned])
        rows.append([optical.mean(), np.ptp(optical, axis=1).max(), np.ptp(optical)])
    return rows


def copper(calc: PETCalculator) -> list[str]:
    """Space group of relaxed copper, as it lies and rotated."""
    crystal = bulk("Cu", cubic=True)
    rng = np.random.default_rng(3)
    groups = []
    for q in (np.eye(3), rotation(rng)):
        relaxed = relax(rotate(crystal, q), calc, 1e-5)
        cell = (relaxed.cell.array, relaxed.get_scaled_positions(), relaxed.numbers)
        groups.append(str(spglib.get_spacegroup(cell, symprec=SYMPREC)))
    return groups


def main() -> None:
    """Measure both."""
    logging.getLogger("phonopy").setLevel(logging.ERROR)
    rows, groups, data = [], [], {}
    for name, symmetry in (("ECSE", "O(3)"), ("bare", None)):
        si = PETCalculator(CHECKPOINTS / "pet-si.pt", dtype="float64", symmetry=symmetry)
        for sides, values in zip(("one-sided", "two-sided"), silicon(si), strict=True):
            rows.append([f"{name}, {sides}", *map(float, values)])
        cu = PETCalculator(CHECKPOINTS / "pet-emt.pt", dtype="float64", symmetry=symmetry)
        groups.append([name, *copper(cu)])
    columns = ["displacements", "Γ optical cm⁻¹", "triplet splits by", "orientations differ by"]
    show("Silicon at Γ, three orientations", columns, rows)
    show(
        f"Space group of relaxed copper, symprec {SYMPREC:g}",
        ["surface", "along the axes", "rotated"],
        groups,
    )
    data = {"silicon": rows, "columns": columns, "copper": groups}
    write("phonons", data)


if __name__ == "__main__":
    main()
