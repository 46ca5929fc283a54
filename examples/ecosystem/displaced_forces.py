"""Forces for the displacements of phonopy's and phono3py's own commands.

phonopy-init -d --dim 2 2 2 -c POSCAR
python examples/ecosystem/displaced_forces.py phonopy_disp.yaml     # writes FORCE_SETS
phonopy-load phonopy_disp.yaml --mesh 20 20 20 -t

phono3py-init -d --dim 2 2 2 -c POSCAR
python examples/ecosystem/displaced_forces.py phono3py_disp.yaml    # writes FORCES_FC3
phono3py-load phono3py_disp.yaml --mesh 11 11 11 --br
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from phonopy.structure.atoms import PhonopyAtoms

from ase_pet import PETCalculator


def forces(calculator: PETCalculator, supercells: list[PhonopyAtoms]) -> np.ndarray:
    """Forces [n_supercells, n_atoms, 3], eV/Å, of all supercells together."""
    structures = [
        Atoms(numbers=cell.numbers, positions=cell.positions, cell=cell.cell, pbc=True)
        for cell in supercells
    ]
    print(f"{len(structures)} supercells of {len(structures[0])} atoms")
    return np.array([found["forces"] for found in calculator.compute(structures)])


def for_phonopy(calculator: PETCalculator, path: Path) -> None:
    """Write FORCE_SETS beside the displacements."""
    import phonopy
    from phonopy.file_IO import write_FORCE_SETS

    phonons = phonopy.load(path, produce_fc=False, log_level=0)
    phonons.forces = forces(calculator, phonons.supercells_with_displacements)
    write_FORCE_SETS(phonons.dataset, path.with_name("FORCE_SETS"))


def for_phono3py(calculator: PETCalculator, path: Path) -> None:
    """Write FORCES_FC3 and, for ``--dim-fc2``, FORCES_FC2 beside the displacements."""
    import phono3py
    from phono3py.file_IO import write_FORCES_FC2, write_FORCES_FC3

    phonons = phono3py.load(path, produce_fc=False, log_level=0)
    cubic = forces(calculator, phonons.supercells_with_displacements)
    write_FORCES_FC3(phonons.dataset, cubic, filename=path.with_name("FORCES_FC3"))
    if phonons.phonon_supercell_matrix is not None:
        harmonic = forces(calculator, phonons.phonon_supercells_with_displacements)
        file = path.with_name("FORCES_FC2")
        write_FORCES_FC2(phonons.phonon_dataset, harmonic, filename=file)


def main() -> None:
    """Evaluate all displaced supercells and write what the next command reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("displacements", type=Path, help="phonopy_disp.yaml or phono3py_disp.yaml")
    parser.add_argument("--model", default="tensornet-si")
    given = parser.parse_args()
    is_cubic = given.displacements.name.startswith("phono3py")
    write = for_phono3py if is_cubic else for_phonopy
    write(PETCalculator(given.model, dtype="float64"), given.displacements)


if __name__ == "__main__":
    main()
