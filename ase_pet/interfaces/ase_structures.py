"""ASE structures as the engine takes them, and its results as ASE takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress

from ase_pet.data import Results, System
from ase_pet.errors import GeometryError


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
                torch.tensor(atoms.positions, dtype=torch.float64),
                torch.tensor(atoms.numbers, dtype=torch.int64),
                torch.tensor(atoms.cell.array, dtype=torch.float64)[None],
                torch.tensor(atoms.pbc, dtype=torch.bool)[None],
                torch.zeros(len(atoms), dtype=torch.int64),
            )
        except GeometryError as error:
            raise GeometryError(f"{name}{error}") from None
        systems.append(system)
    return System.cat(systems)


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


def ase_results(results: Results, k: int, part: slice, atoms: Atoms) -> dict[str, Any]:
    """Results of structure ``k``, in arrays of its own."""
    energy = float(results.energy[k])
    found: dict[str, Any] = {
        "energy": energy,
        "free_energy": energy,
        "energies": results.energies[part].cpu().numpy().copy(),
        "forces": results.forces[part].cpu().numpy().copy(),
    }
    if has_volume(atoms):
        virials = {"stress": results.virial[k], "stresses": results.virials[part]}
        for name, value in virials.items():
            if not bool(value.isnan().any()):  # which is how a model with direct forces says no
                stress = value.cpu().numpy() / atoms.get_volume()
                found[name] = full_3x3_to_voigt_6_stress(stress)
    if not atoms.pbc.any():
        found |= {name: value[k].cpu().numpy().copy() for name, value in results.tensors.items()}
    return found


def is_structure(given: object) -> bool:
    """Whether it has what is read from ``Atoms``; the ``Atoms`` of ASE 4 are another class."""
    return all(hasattr(given, name) for name in ("positions", "numbers", "cell", "pbc"))


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
    cell = atoms.cell
    return bool(cell.rank == 3 and cell.volume > 1e-10 * np.prod(cell.lengths()))


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
