"""What every potential and calculator must promise, as functions that check it.

Each ``check_*`` returns the largest deviation that it found and raises ``AssertionError`` with the
structure, the deviation and the tolerance if that is too large. The collections at the end run all
that apply:

    from ase_pet.testing import check_potential

    check_potential(my_potential, symmetry="O(3)")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from ase_pet.testing.evaluators import Evaluation, Evaluator, largest
from ase_pet.testing.paths import Path, largest_jump
from ase_pet.testing.tolerances import FLOAT64

#: Coefficients of f(x + k h), k = 1, 2, in the fourth-order difference quotient.
_STENCIL = ((1, 8.0 / 12.0), (2, -1.0 / 12.0))

Tolerances = Mapping[str, float]


def check_batch(
    evaluator: Evaluator, structures: Sequence[Atoms], tolerances: Tolerances = FLOAT64
) -> float:
    """A batch gives what its structures give one by one, in either order."""
    singles = [evaluator([atoms])[0] for atoms in structures]
    forward = evaluator(structures)
    backward = evaluator(list(reversed(structures)))[::-1]
    deviation = largest(
        *(
            deviation_between(single, other)
            for batch in (forward, backward)
            for single, other in zip(singles, batch, strict=True)
        )
    )
    return require("batch", deviation, tolerances, f"{len(structures)} structures")


def check_permutation(
    evaluator: Evaluator, atoms: Atoms, tolerances: Tolerances = FLOAT64, *, seed: int = 0
) -> float:
    """Atoms in another order have the same energies and forces."""
    order = np.random.default_rng(seed).permutation(len(atoms))
    ours, permuted = evaluator([atoms, atoms[order]])
    expected = replace(
        ours,
        energies=None if ours.energies is None else ours.energies[order],
        forces=ours.forces[order],
    )
    return require("permutation", deviation_between(permuted, expected), tolerances, atoms)


def check_translation(
    evaluator: Evaluator, atoms: Atoms, tolerances: Tolerances = FLOAT64, *, seed: int = 0
) -> float:
    """Neither moving everything nor moving atoms by lattice vectors changes anything."""
    rng = np.random.default_rng(seed)
    moved, wrapped = atoms.copy(), atoms.copy()
    moved.positions += [3.7, -11.9, 0.41]
    steps = rng.integers(-3, 4, (len(atoms), 3)) * atoms.pbc
    wrapped.positions += steps @ atoms.cell.array
    ours, *others = evaluator([atoms, moved, wrapped])
    deviation = largest(*(deviation_between(other, ours) for other in others))
    return require("translation", deviation, tolerances, atoms)


def check_supercell(evaluator: Evaluator, atoms: Atoms, tolerances: Tolerances = FLOAT64) -> float:
    """A repeated cell has the same energy and forces for each repeat: self images count."""
    times = tuple(int(t) for t in np.where(atoms.pbc, (2, 1, 3), 1))
    n = int(np.prod(times))
    ours, repeated = evaluator([atoms, atoms.repeat(times)])
    expected = Evaluation(
        n * ours.energy,
        None if ours.energies is None else np.tile(ours.energies, n),
        np.tile(ours.forces, (n, 1)),
        None if ours.virial is None else n * ours.virial,
        {name: n * value for name, value in ours.tensors.items()},
    )
    return require("supercell", deviation_between(repeated, expected), tolerances, atoms)


def check_handedness(evaluator: Evaluator, atoms: Atoms, tolerances: Tolerances = FLOAT64) -> float:
    """Lattice vectors in another order or sign span the same crystal, in a left-handed cell too."""
    swapped, inverted = atoms.copy(), atoms.copy()
    swapped.set_cell(atoms.cell.array[[1, 0, 2]])
    swapped.pbc = atoms.pbc[[1, 0, 2]]
    inverted.set_cell(-atoms.cell.array)
    ours, *others = evaluator([atoms, swapped, inverted])
    deviation = largest(*(deviation_between(other, ours) for other in others))
    return require("handedness", deviation, tolerances, atoms)


def check_rotation(
    evaluator: Evaluator,
    atoms: Atoms,
    tolerances: Tolerances = FLOAT64,
    *,
    reflections: bool = True,
    n_operations: int = 4,
    seed: int = 0,
) -> float:
    """Energies stay, all else turns along with the structure.

    Args:
        evaluator: The model.
        atoms: The structure.
        tolerances: Table of tolerances.
        reflections: Whether every other operation is improper.
        n_operations: How many are drawn.
        seed: Of the draw.
    """
    rotations = Rotation.random(n_operations, random_state=seed).as_matrix()
    if reflections:
        rotations[1::2] *= -1.0
    ours, *others = evaluator([atoms, *(transformed(atoms, R) for R in rotations)])
    deviation = 0.0
    for R, other in zip(rotations, others, strict=True):
        virial = None if ours.virial is None else R @ ours.virial @ R.T
        tensors = {name: turned(value, R) for name, value in ours.tensors.items()}
        expected = Evaluation(ours.energy, ours.energies, ours.forces @ R.T, virial, tensors)
        deviation = largest(deviation, deviation_between(other, expected))
    return require("rotation", deviation, tolerances, atoms)


def check_net_force(evaluator: Evaluator, atoms: Atoms, tolerances: Tolerances = FLOAT64) -> float:
    """Forces add up to zero."""
    (ours,) = evaluator([atoms])
    deviation = float(np.abs(ours.forces.sum(0)).max()) / _scale(ours.forces)
    return require("net_force", deviation, tolerances, atoms)


def check_net_torque(evaluator: Evaluator, atoms: Atoms, tolerances: Tolerances = FLOAT64) -> float:
    """Torques about the centroid of a finite structure add up to zero."""
    if atoms.pbc.any():
        raise ValueError(f"atoms: expected a finite structure, got pbc={atoms.pbc.tolist()}")
    (ours,) = evaluator([atoms])
    arms = atoms.positions - atoms.positions.mean(0)
    torque = np.cross(arms, ours.forces).sum(0)
    deviation = float(np.abs(torque).max()) / _scale(ours.forces) / _scale(arms)
    return require("net_torque", deviation, tolerances, atoms)


def check_isolated_atom(
    evaluator: Evaluator, number: int, tolerances: Tolerances = FLOAT64
) -> float:
    """An atom alone feels nothing, wherever it is and whatever cell surrounds it."""
    free = Atoms([number], [[0.1, -0.2, 0.3]])
    boxed = Atoms([number], [[7.0, 900.0, -5.0]], cell=[300.0, 310.0, 320.0], pbc=True)
    ours, other = evaluator([free, boxed])
    still = Evaluation(ours.energy, ours.energies, np.zeros((1, 3)), None)
    deviation = largest(deviation_between(ours, still), deviation_between(other, still))
    if other.virial is not None:
        deviation = largest(deviation, float(np.abs(other.virial).max()))
    return require("isolated_atom", deviation, tolerances, free)


def check_forces(
    evaluator: Evaluator,
    atoms: Atoms,
    tolerances: Tolerances = FLOAT64,
    *,
    n_directions: int = 2,
    seed: int = 0,
) -> float:
    """Forces are the derivative of the energy, by differences along random displacements.

    Args:
        evaluator: The model.
        atoms: The structure.
        tolerances: Table of tolerances.
        n_directions: How many displacements of all atoms are tried.
        seed: Of the displacements.
    """
    rng = np.random.default_rng(seed)
    (ours,) = evaluator([atoms])
    deviation = 0.0
    for direction in rng.standard_normal((n_directions, len(atoms), 3)):

        def displaced(x: float, direction: np.ndarray = direction) -> Atoms:
            copied = atoms.copy()
            copied.positions += x * direction
            return copied

        expected = -float((ours.forces * direction).sum())
        slope = derivative(evaluator, displaced, tolerances["difference_step"])
        deviation = largest(deviation, abs(slope - expected) / _scale(ours.forces))
    return require("forces", deviation, tolerances, atoms)


def check_virial(
    evaluator: Evaluator,
    atoms: Atoms,
    tolerances: Tolerances = FLOAT64,
    *,
    n_strains: int = 2,
    seed: int = 0,
) -> float:
    """The virial is the derivative of the energy with respect to strain, by differences.

    Args:
        evaluator: The model.
        atoms: The structure.
        tolerances: Table of tolerances.
        n_strains: How many random symmetric strains are tried.
        seed: Of the strains.
    """
    rng = np.random.default_rng(seed)
    (ours,) = evaluator([atoms])
    if ours.virial is None:
        raise ValueError("atoms: expected a structure for which the model has a virial")
    deviation = float(np.abs(ours.virial - ours.virial.T).max()) / _scale(ours.virial)
    for strain in rng.standard_normal((n_strains, 3, 3)):
        symmetric = 0.5 * (strain + strain.T)

        def strained(x: float, symmetric: np.ndarray = symmetric) -> Atoms:
            return transformed(atoms, np.eye(3) + x * symmetric)

        expected = float((ours.virial * symmetric).sum())
        slope = derivative(evaluator, strained, tolerances["difference_step"])
        deviation = largest(deviation, abs(slope - expected) / _scale(ours.virial))
    return require("virial", deviation, tolerances, atoms)


def check_continuity(
    evaluator: Evaluator,
    path: Path,
    start: float,
    stop: float,
    tolerances: Tolerances = FLOAT64,
    *,
    events: Sequence[float] = (),
    n_points: int = 25,
) -> float:
    """Energy and forces have no jump along a path; returns the largest of the forces, eV/Å.

    Args:
        evaluator: The model.
        path: From a coordinate, Å, to a structure, as :mod:`ase_pet.testing.paths` has them.
        start: First coordinate, Å.
        stop: Last coordinate, Å.
        tolerances: Table of tolerances.
        events: Where a jump is suspected, Å.
        n_points: How many points are sampled before the search narrows down.
    """
    jump = largest_jump(evaluator, path, start, stop, events=events, n_points=n_points)
    where = f"x = {jump.position:.6f} Å"
    require("energy_jump", jump.energy, tolerances, where)
    return require("force_jump", jump.forces, tolerances, where)


def derivative(evaluator: Evaluator, path: Path, step: float) -> float:
    """Slope of the energy along a path at 0, by a fourth-order difference quotient."""
    structures = [path(sign * k * step) for k, _ in _STENCIL for sign in (1, -1)]
    energies = [one.energy for one in evaluator(structures)]
    odd = [plus - minus for plus, minus in zip(energies[::2], energies[1::2], strict=True)]
    return sum(c * d for (_, c), d in zip(_STENCIL, odd, strict=True)) / step


def transformed(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    """Positions and cell multiplied by a matrix [3, 3] from the left."""
    copied = atoms.copy()
    copied.set_cell(atoms.cell.array @ matrix.T)
    copied.positions = atoms.positions @ matrix.T
    return copied


def turned(value: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """A vector [3] or a matrix [3, 3], turned or reflected."""
    return rotation @ value if value.ndim == 1 else rotation @ value @ rotation.T


def deviation_between(ours: Evaluation, expected: Evaluation) -> float:
    """Largest difference of anything that both have, relative to its size."""
    names = ("energy", "energies", "forces", "virial")
    both = [(getattr(ours, name), getattr(expected, name)) for name in names]
    both += [(ours.tensors.get(name), value) for name, value in expected.tensors.items()]
    found = [0.0]
    for a, b in both:
        if a is not None and b is not None:
            difference = np.abs(np.asarray(a) - np.asarray(b)).max()
            found.append(float(difference) / _scale(np.asarray(b)))
    return largest(*found)


def require(contract: str, deviation: float, tolerances: Tolerances, subject: Atoms | str) -> float:
    """Return a deviation if it is within its tolerance.

    Raises:
        AssertionError: If it is not (or is no number); names contract, subject and both numbers.
    """
    if not deviation <= tolerances[contract]:
        name = subject if isinstance(subject, str) else subject.get_chemical_formula()
        raise AssertionError(
            f"{contract} ({name}): deviation {deviation:.2e}, tolerance {tolerances[contract]:.0e}"
        )
    return deviation


def _scale(values: np.ndarray) -> float:
    return max(1.0, float(np.abs(values).max()))
