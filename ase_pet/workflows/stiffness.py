"""The stiffness tensor of a crystal: moduli, stability, rotations."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
import spglib.error
from ase import Atoms

#: Voigt's index of each pair of axes.
_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
_FIRST, _SECOND = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])


@dataclass(frozen=True, slots=True, eq=False)
class Stiffness:
    """Elastic constants in Voigt's notation, and what follows from them.

    Attributes:
        C: [6, 6], GPa, symmetric; in the order xx, yy, zz, yz, xz, xy.

    Source:
        Hill, Proc. Phys. Soc. A 65, 349 (1952), for the averages; Mouhat & Coudert, Phys. Rev. B
        90, 224104 (2014), for stability.
    """

    C: np.ndarray

    @property
    def S(self) -> np.ndarray:  # noqa: N802
        """Compliances [6, 6], 1/GPa."""
        return np.linalg.inv(self.C)

    @property
    def eigenvalues(self) -> np.ndarray:
        """[6], GPa, ascending; the same in each frame."""
        weights = np.sqrt([1, 1, 1, 2, 2, 2])
        return np.linalg.eigvalsh(self.C * np.outer(weights, weights))

    @property
    def stable(self) -> bool:
        """Whether every strain costs energy (Born's criterion)."""
        return bool(self.eigenvalues[0] > 0.0)

    def young(self, directions: np.ndarray) -> np.ndarray:
        """Young's modulus along unit vectors [n, 3], GPa."""
        x, y, z = np.asarray(directions).T
        v = np.array([x * x, y * y, z * z, y * z, x * z, x * y])
        return 1.0 / np.einsum("in,ij,jn->n", v, self.S, v)

    def summary(self) -> dict[str, Any]:
        """Tensor, averages of polycrystals and stability, as plain numbers."""
        found: dict[str, Any] = {"C_GPa": self.C.tolist(), "stable": self.stable}
        found["eigenvalues_GPa"] = self.eigenvalues.tolist()
        if not self.stable:
            return found
        C, S = self.C, self.S
        K = {"voigt": C[:3, :3].sum() / 9.0, "reuss": 1.0 / S[:3, :3].sum()}
        C_shear, S_shear = np.trace(C[3:, 3:]), np.trace(S[3:, 3:])
        G = {
            "voigt": (1.5 * np.trace(C[:3, :3]) - 0.5 * C[:3, :3].sum() + 3.0 * C_shear) / 15.0,
            "reuss": 15.0 / (6.0 * np.trace(S[:3, :3]) - 2.0 * S[:3, :3].sum() + 3.0 * S_shear),
        }
        for modulus in (K, G):
            modulus["hill"] = 0.5 * (modulus["voigt"] + modulus["reuss"])
        k, g = K["hill"], G["hill"]
        found["bulk_modulus_GPa"] = {name: float(value) for name, value in K.items()}
        found["shear_modulus_GPa"] = {name: float(value) for name, value in G.items()}
        found["young_modulus_GPa"] = float(9.0 * k * g / (3.0 * k + g))
        found["poisson_ratio"] = float((3.0 * k - 2.0 * g) / (6.0 * k + 2.0 * g))
        anisotropy = 5.0 * G["voigt"] / G["reuss"] + K["voigt"] / K["reuss"] - 6.0
        found["universal_anisotropy"] = float(anisotropy)
        return found


def rotated(C: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Constants [6, 6] of a crystal turned or reflected by a matrix [3, 3]."""
    full = C[_VOIGT[:, :, None, None], _VOIGT[None, None]]
    turned = np.einsum("ia,jb,kc,ld,abcd->ijkl", R, R, R, R, full, optimize=True)
    return turned[_FIRST, _SECOND][:, _FIRST, _SECOND]


def symmetrized(C: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Constants [6, 6] averaged over operations [n, 3, 3] and both orders of indices."""
    mean = np.mean([rotated(C, R) for R in group], axis=0)
    return 0.5 * (mean + mean.T)


def point_group(atoms: Atoms, symprec: float) -> np.ndarray:
    """Rotations and reflections [n, 3, 3] of a crystal, in Cartesian coordinates.

    Args:
        atoms: The crystal.
        symprec: Å, tolerance.

    Raises:
        ValueError: If spglib finds none.
    """
    lattice = atoms.cell.array.T
    operations = np.unique(_dataset(atoms, symprec).rotations, axis=0)
    return lattice @ operations @ np.linalg.inv(lattice)


def conventional_axes(atoms: Atoms, symprec: float) -> np.ndarray:
    """Rows [3, 3] are the Cartesian axes of spglib's conventional cell, in those of the crystal.

    Args:
        atoms: The crystal.
        symprec: Å, tolerance.

    Raises:
        ValueError: If spglib finds none.
    """
    return np.asarray(_dataset(atoms, symprec).std_rotation_matrix)


def _dataset(atoms: Atoms, symprec: float) -> Any:
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found, reason = None, ""
    # Where spglib finds none, it raises or warns and returns None, as other packages have set it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            found = spglib.get_symmetry_dataset(cell, symprec=symprec)
        except spglib.error.SpglibError as error:
            reason = f" ({error})"
    if found is None:
        raise ValueError(f"atoms: spglib finds no symmetry{reason}; give another symprec")
    return found
