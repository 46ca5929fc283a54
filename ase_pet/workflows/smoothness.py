"""Is a model smooth where a neighbour enters its cutoff?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list

from ase_pet.testing.evaluators import Evaluation, calculator_evaluator
from ase_pet.testing.paths import largest_jump
from ase_pet.workflows.checks import Deviations

#: Å, on either side of the cutoff.
_WINDOW = 0.25
#: Atoms that are evaluated at most, some sixty times.
_MOST_ATOMS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """Results while an atom is pulled through the cutoff of another.

    Attributes:
        pair: Numbers of the atom that rests and of the one that is pulled.
        n_atoms: How many atoms were evaluated, the pair among them.
        cutoff: Å.
        distances: [n], Å, between them, in order.
        energies: [n], eV.
        forces: [n], eV/Å, on the pulled atom along the pull.
        jumps: The largest jumps of the energy and of a force, beyond what a smooth function
            changes in a step of 1e-12 Å, relative to their size, at least 1 (eV, eV/Å).
    """

    pair: tuple[int, int]
    n_atoms: int
    cutoff: float
    distances: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    jumps: Deviations


def pull_through_cutoff(calculator: Calculator, atoms: Atoms, cutoff: float) -> Pull | None:
    """Pull the atom nearest to the cutoff of another through it, and hunt for jumps.

    Of a cell of one atom, 2 × 2 × 2 are taken, of many atoms the 64 nearest to the pair, cut out.

    Args:
        calculator: The model, in double precision.
        atoms: Structure, unchanged.
        cutoff: Of the model, Å.

    Returns:
        What was met on the way; ``None`` without a second atom or a cutoff.
    """
    if len(atoms) == 1:
        atoms = atoms.repeat(np.where(atoms.pbc, 2, 1))
    if len(atoms) == 1 or np.isinf(cutoff):
        return None
    rest, pulled, vector = _nearest_to(atoms, cutoff)
    pair = (rest, pulled)
    if len(atoms) > _MOST_ATOMS:
        atoms, rest, pulled = _cut_out(atoms, rest, pulled, vector), 0, 1
    direction = vector / np.linalg.norm(vector)
    ask = calculator_evaluator(calculator)
    seen: dict[float, tuple[float, float]] = {}

    def path(x: float) -> Atoms:
        moved = atoms.copy()
        moved.positions[pulled] += x * direction - vector
        moved.info["distance"] = x
        return moved

    def watched(structures: Sequence[Atoms]) -> list[Evaluation]:
        found = ask(structures)
        seen.update(
            (one.info["distance"], (result.energy, result.forces[pulled] @ direction))
            for one, result in zip(structures, found, strict=True)
        )
        return found

    jump = largest_jump(
        watched, path, cutoff - _WINDOW, cutoff + _WINDOW, n_hunts=1, events=[cutoff]
    )
    distances = np.array(sorted(seen))
    energies, forces = np.array([seen[x] for x in distances]).T
    sizes = (max(1.0, float(np.abs(values).max())) for values in (energies, forces))
    far = (value / size for value, size in zip((jump.energy, jump.forces), sizes, strict=True))
    return Pull(pair, len(atoms), cutoff, distances, energies, forces, Deviations(*far))


def _nearest_to(atoms: Atoms, cutoff: float) -> tuple[int, int, np.ndarray]:
    """Two atoms whose distance is closest to the cutoff, and the vector between them, Å."""
    first, second, distances, vectors = neighbor_list("ijdD", atoms, cutoff + 1.0)
    different = first != second
    if not different.any():  # all are further away
        return 0, 1, atoms.positions[1] - atoms.positions[0]
    off = np.where(different, np.abs(distances - cutoff), np.inf)
    k = int(off.argmin())
    return int(first[k]), int(second[k]), vectors[k]


def _cut_out(atoms: Atoms, first: int, second: int, vector: np.ndarray) -> Atoms:
    """The atoms nearest to the middle of a pair, which comes first, without a cell."""
    middle = atoms.positions[first] + 0.5 * vector
    places, distances = find_mic(atoms.positions - middle, atoms.cell, atoms.pbc)
    pair = [first, second]
    places[pair], distances[pair] = [-0.5 * vector, 0.5 * vector], [-2.0, -1.0]
    kept = np.argsort(distances)[:_MOST_ATOMS]
    return Atoms(atoms.numbers[kept], places[kept])
