"""Averages over a grid of orientations: what exact symmetry is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from scipy.spatial.transform import Rotation

from ase_pet.interfaces.ase_calculator import PETCalculator
from ase_pet.interfaces.ase_structures import given_or_last
from ase_pet.testing.contracts import transformed, turned

#: Atoms that are handed to the bare calculator at once.
BATCH_ATOMS = 512
#: Turns about each direction.
_TURNS = 7


def grid() -> np.ndarray:
    """Rotations and reflections [84, 3, 3] whose plain mean is exact for polynomials of degree 3.

    Seven turns about each of the six directions of Lebedev's rule of order 3, and the same after
    an inversion: the grid that metatomic-ase's ``SymmetrizedCalculator`` has with ``l_max=3``.
    """
    x, y, z = np.concatenate([np.eye(3), 0.0 - np.eye(3)]).T  # no zero is negative
    turns = np.linspace(0.0, 2.0 * np.pi, _TURNS, endpoint=False)
    angles = [(a, b, c) for a, b in zip(np.arctan2(y, x), np.arccos(z), strict=True) for c in turns]
    rotations = Rotation.from_euler("ZYZ", angles).as_matrix()
    return np.concatenate([rotations, -rotations])


class GridAverage(Calculator):
    """A calculator averaged over :func:`grid`: less dependent on the orientation, not independent.

    Energies are means, forces and stress their exact derivatives. Each evaluation takes 84 of the
    bare calculator.

    Args:
        bare: What is averaged.
        batch_atoms: Atoms that are handed to ``bare.compute`` at once.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, bare: PETCalculator, *, batch_atoms: int = BATCH_ATOMS) -> None:
        super().__init__()
        self.bare, self.batch_atoms = bare, batch_atoms

    def compute(self, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
        """Evaluate structures one by one, the orientations of each together.

        Returns:
            For each: energy and free_energy (eV), forces [n, 3] (eV/Å) and, where the cell has a
            volume, stress [6] (eV/Å³, ASE's sign and Voigt order).
        """
        return [self._average(atoms) for atoms in structures]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate all orientations of one structure and average."""
        structure = given_or_last(atoms, self.atoms)
        super().calculate(structure, list(properties), list(system_changes))
        self.results = self._average(structure)

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """What the bare calculator says of itself, and the number of orientations."""
        return {**self.bare.todict(skip_default), "orientations": len(grid())}

    def _average(self, atoms: Atoms) -> dict[str, Any]:
        rotations = grid()
        copies = [transformed(atoms, R) for R in rotations]
        size = max(1, self.batch_atoms // len(atoms))
        batches = [copies[k : k + size] for k in range(0, len(copies), size)]
        found = [results for batch in batches for results in self.bare.compute(batch)]
        energy = float(np.mean([results["energy"] for results in found]))
        # Rows of forces are vectors: those turned back are f @ R.
        forces = [results["forces"] @ R for R, results in zip(rotations, found, strict=True)]
        mean = {"energy": energy, "free_energy": energy, "forces": np.mean(forces, axis=0)}
        if "stress" in found[0]:
            matrices = [voigt_6_to_full_3x3_stress(results["stress"]) for results in found]
            back = [turned(matrix, R.T) for R, matrix in zip(rotations, matrices, strict=True)]
            mean["stress"] = full_3x3_to_voigt_6_stress(np.mean(back, axis=0))
        return mean
