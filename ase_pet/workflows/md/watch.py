"""When a run must stop: energies that are no numbers, heat, atoms that left."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.linalg import null_space
from scipy.spatial import KDTree

from ase_pet.workflows.md.settings import MDSettings


class Watch:
    """Looks at every step.

    Args:
        atoms: As they are at the start.
        settings: With ``max_temperature`` and ``max_gap``.
    """

    def __init__(self, atoms: Atoms, settings: MDSettings) -> None:
        self.atoms, self.settings = atoms, settings
        self.away = gaps(atoms) > settings.max_gap

    def check(self, step: int) -> None:
        """Look at the atoms after a step.

        Raises:
            RuntimeError: If energy, forces or temperature ran away, or an atom did.
        """
        atoms, settings = self.atoms, self.settings
        energy, temperature = atoms.get_potential_energy(), atoms.get_temperature()
        if not (np.isfinite(energy) and np.isfinite(atoms.get_forces()).all()):
            raise RuntimeError(f"energy or forces are not finite at step {step}")
        if not temperature <= settings.max_temperature:
            raise RuntimeError(
                f"the temperature is {temperature:.4g} K at step {step}, beyond max_temperature "
                f"({settings.max_temperature:.4g} K)"
            )
        gap = gaps(atoms)
        lost = np.flatnonzero((gap > settings.max_gap) & ~self.away)
        if len(lost):
            i = int(lost[0])
            raise RuntimeError(
                f"atom {i} ({atoms.symbols[i]}) is {gap[i]:.1f} Å away from all others at step "
                f"{step}, beyond max_gap ({settings.max_gap:g} Å)"
            )


def gaps(atoms: Atoms) -> np.ndarray:
    """Distance [n_atoms] of each atom to its nearest, Å, perpendicular to periodic directions.

    Zero where all directions are periodic, or where there is one atom.
    """
    if atoms.pbc.all() or len(atoms) == 1:
        return np.zeros(len(atoms))
    periodic = atoms.cell.array[atoms.pbc]
    across = null_space(periodic) if len(periodic) else np.eye(3)
    coordinates = atoms.positions @ across
    return KDTree(coordinates).query(coordinates, k=2)[0][:, 1]
