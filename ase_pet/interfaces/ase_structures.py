"""ASE structures as the engine takes them, and its results as ASE takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from ase_pet.data import Results, System
from ase_pet.errors import GeometryError

#: Places of xx, yy, zz, yz, xz, xy in a flattened symmetric matrix.
VOIGT = [0, 4, 8, 5, 2, 1]


def system_from_atoms(structures: Sequence[Atoms]) -> System:
    """Convert ASE structures to one batch; nothing is shared with them.

    Args:
        structures: At least one.

    Raises:
        TypeError: If something is no ``Atoms``.
        ValueError: If ``structures`` is empty.
        GeometryError: If a structure has no atoms, positions or cell are not finite, or a
            periodic cell has no volume; of several structures, it is named by its number.
    """
    systems = []
    for k, atoms in enumerate(structures):
        require_atoms(atoms)
        name = f"structure {k}: " if len(structures) > 1 else ""
        if len(atoms) == 0:
            raise GeometryError(f"{name}no atoms; add at least one")
        try:
            system = System(
                _tensor(atoms.positions, np.float64),
                _tensor(atoms.numbers, np.int64),
                _tensor(atoms.cell.array[None], np.float64),
                _tensor(atoms.pbc[None], np.bool_),
                _tensor(np.zeros(len(atoms)), np.int64),
            )
        except GeometryError as error:
            raise GeometryError(f"{name}{error}") from None
        systems.append(system)
    return System.cat(systems)


def _tensor(values: np.ndarray, dtype: type) -> torch.Tensor:
    """A tensor of its own."""
    return torch.from_numpy(np.array(values, dtype))


def evaluate_together(
    evaluate: Callable[[Sequence[Atoms]], Any],
    structures: Sequence[Atoms],
    name: Callable[[int], str],
) -> Any:
    """Evaluate structures at once; if that fails, find the one at fault and name it.

    Args:
        evaluate: Evaluates any number of structures, counting them from 0 in its messages.
        structures: What to evaluate.
        name: What a person calls the structure of a number, such as its file and frame.

    Raises:
        ValueError: As ``evaluate`` does, with the name in front of the message.
        RuntimeError: Likewise, or as it is if each structure can be evaluated alone.
    """
    try:
        return evaluate(structures)
    except (ValueError, RuntimeError):
        for k, atoms in enumerate(structures):
            try:
                evaluate([atoms])
            except (ValueError, RuntimeError) as error:  # noqa: PERF203
                raise type(error)(f"{name(k)}: {error}") from error
        raise


def ase_results(results: Results, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
    """Results of each structure of a batch, in arrays of its own."""
    tensors = {name: value.cpu().numpy() for name, value in results.tensors.items()}
    energy, energies, forces, virial, virials = (
        value.cpu().numpy()
        for value in (
            results.energy, results.energies, results.forces, results.virial, results.virials
        )
    )  # fmt: skip
    every, end = [], 0
    for k, atoms in enumerate(structures):
        part = slice(end, end := end + len(atoms))
        found: dict[str, Any] = {
            "energy": float(energy[k]),
            "free_energy": float(energy[k]),
            "energies": energies[part].copy(),
            "forces": forces[part].copy(),
        }
        volume = volume_of(atoms)
        if volume:
            of_atoms = virials[part].reshape(-1, 9)[:, VOIGT] / volume
            whole = virial[k].reshape(9)[VOIGT] / volume
            # NaN is how a model with direct forces says that there is none.
            stresses = {"stress": whole, "stresses": of_atoms}
            found |= {name: x for name, x in stresses.items() if not np.isnan(x).any()}
        if not atoms.pbc.any():
            found |= {name: value[k].copy() for name, value in tensors.items()}
        every.append(found)
    return every


def is_structure(given: object) -> bool:
    """Whether it has what is read from ``Atoms``; the ``Atoms`` of ASE 4 are another class."""
    return all(hasattr(given, name) for name in ("positions", "numbers", "cell", "pbc"))


def changes_between(one: Atoms, other: Atoms, tol: float) -> list[str]:
    """What differs by more than ``tol``, as ASE names it, many times faster than ASE finds it."""
    arrays = {
        "positions": (one.positions, other.positions),
        "numbers": (one.numbers, other.numbers),
        "cell": (one.cell.array, other.cell.array),
        "pbc": (one.pbc, other.pbc),
    }
    return [name for name, (a, b) in arrays.items() if _differ(a, b, tol)]


def _differ(a: np.ndarray, b: np.ndarray, tol: float) -> bool:
    if a.shape != b.shape or np.array_equal(a, b):
        return a.shape != b.shape
    # Not (> tol), because comparisons with NaN are false.
    return not (np.abs(np.subtract(a, b, dtype=float)) <= tol).all()


def given_or_last(atoms: Atoms | None, last: Atoms | None) -> Atoms:
    """The structure that is given, or that of the last evaluation.

    Raises:
        ValueError: If there is neither.
    """
    structure = last if atoms is None else atoms
    if structure is None:
        raise ValueError("atoms: none given, and none were evaluated before")
    return structure


def require_atoms(given: object) -> None:
    """Raise TypeError for anything that is no ``Atoms``."""
    if not is_structure(given):
        raise TypeError(f"structures: expected ase.Atoms, got {type(given).__name__}")


def has_volume(atoms: Atoms) -> bool:
    """Whether the cell has a volume, and with it the structure a stress."""
    return volume_of(atoms) > 0.0


def volume_of(atoms: Atoms) -> float:
    """Volume of the cell, Å³; zero if it is flat, but for rounding."""
    volume = atoms.cell.volume
    return float(volume) if volume > 1e-10 * np.prod(atoms.cell.lengths()) else 0.0


def require_volume(atoms: Atoms) -> None:
    """Raise PropertyNotImplementedError for a structure that has no stress."""
    if not has_volume(atoms):
        raise PropertyNotImplementedError(
            "stress needs a cell of three independent vectors, because it is the virial over the "
            f"volume; this structure's cell is {atoms.cell.tolist()}. Energies and forces do not "
            "need one"
        )


def require_finite(atoms: Atoms, name: str) -> None:
    """Raise PropertyNotImplementedError where a tensor depends on the choice of the cell."""
    if atoms.pbc.any():
        raise PropertyNotImplementedError(
            f"{name} is not defined for a periodic structure, where it depends on the choice of "
            "the cell; set atoms.pbc = False if this is a molecule in a box"
        )
