"""Hunt for jumps of energy and forces along paths."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ase_pet.testing.evaluators import Evaluation, Evaluator, largest
from ase_pet.testing.structures import bond_length

#: From a coordinate, Å, to a structure.
Path = Callable[[float], Atoms]


@dataclass(frozen=True, slots=True)
class Jump:
    """The largest change over a very short piece of a path, beyond a linear one.

    Attributes:
        position: Where on the path, Å.
        energy: |ΔE|, eV, less the change over pieces of the same length beside it.
        forces: max |ΔF|, eV/Å, likewise.
    """

    position: float
    energy: float
    forces: float


def largest_jump(
    evaluator: Evaluator,
    path: Path,
    start: float,
    stop: float,
    *,
    n_points: int = 25,
    n_hunts: int = 2,
    events: Sequence[float] = (),
    width: float = 1e-12,
) -> Jump:
    """Bisect a path towards where energy and forces change most suddenly.

    The path is sampled, and the intervals over which the forces change most are halved, keeping
    the half with the larger change, down to ``width``. Over such a short piece a continuous
    function has no change left, while a jump stays as it is.

    Args:
        evaluator: The model.
        path: From a coordinate to a structure.
        start: First coordinate, Å.
        stop: Last coordinate, Å.
        n_points: How many points are sampled.
        n_hunts: How many intervals are followed.
        events: Coordinates at whose both sides a jump is suspected, Å; followed as well.
        width: Length of the final intervals, Å.
    """
    ends = np.linspace(start, stop, n_points)
    asked = evaluator([path(x) for x in ends])
    change = [_change(a, b) for a, b in itertools.pairwise(asked)]
    hunted = [(ends[k], ends[k + 1]) for k in np.argsort(change)[::-1][:n_hunts]]
    hunted += [(x + s * width, x + (s + 1) * width) for x in events for s in (-1, 0)]
    jumps = [_bisect(evaluator, path, a, b, width) for a, b in hunted]
    return Jump(
        max(jumps, key=lambda jump: jump.forces).position,
        largest(*(jump.energy for jump in jumps)),
        largest(*(jump.forces for jump in jumps)),
    )


def _bisect(evaluator: Evaluator, path: Path, a: float, b: float, width: float) -> Jump:
    low, high = evaluator([path(a), path(b)])
    while b - a > 1.5 * width:
        x = 0.5 * (a + b)
        (middle,) = evaluator([path(x)])
        if _change(low, middle) > _change(middle, high):
            b, high = x, middle
        else:
            a, low = x, middle
    before, after = evaluator([path(2.0 * a - b), path(2.0 * b - a)])
    steps = list(itertools.pairwise((before, low, high, after)))
    energy = [np.array(y.energy - x.energy) for x, y in steps]
    forces = [y.forces - x.forces for x, y in steps]
    return Jump(0.5 * (a + b), *(_beyond_slope(change) for change in (energy, forces)))


def _beyond_slope(changes: list[np.ndarray]) -> float:
    """Largest change in the middle of three steps that those beside it do not explain."""
    before, here, after = changes
    return float(np.abs(here - 0.5 * (before + after)).max())


def _change(a: Evaluation, b: Evaluation) -> float:
    return float(np.abs(a.forces - b.forces).max())


def crossing(species: Sequence[int], cutoff: float) -> Path:
    """An atom that leaves a bent molecule; at x = ``cutoff`` it leaves the molecule's first atom.

    Args:
        species: Atomic numbers.
        cutoff: Å.
    """
    z = [int(species[k % len(species)]) for k in range(4)]
    bond, far = bond_length(z[0], z[1]), bond_length(z[0], z[2])
    base = [[0.0, 0.0, 0.0], [bond, 0.0, 0.0], [-0.6 * far, 0.8 * far, 0.0]]
    direction = np.array([0.48, 0.6, 0.64])

    def at(x: float) -> Atoms:
        return Atoms(z, [*base, (x * direction).tolist()])

    return at


def last_crossing(species: Sequence[int], cutoff: float) -> float:
    """Where on :func:`crossing` the atom leaves the second, and its last, neighbour, Å."""
    bond = bond_length(int(species[0]), int(species[1 % len(species)]))
    along = 0.48 * bond  # of the direction, which is 0.48 along the bond
    return float(along + np.sqrt(cutoff**2 - bond**2 + along**2))


def bending(species: Sequence[int], *, n_atoms: int = 3) -> Path:
    """A chain that bends through a straight line, which it is at x = 0.

    Args:
        species: Atomic numbers.
        n_atoms: Length of the chain; its last atom moves.
    """
    z = [int(species[k % len(species)]) for k in range(n_atoms)]
    bonds = [bond_length(a, b) for a, b in itertools.pairwise(z)]
    place = np.concatenate([[0.0], np.cumsum(bonds)])
    axis, across = np.array([0.6, 0.0, 0.8]), np.array([0.0, 1.0, 0.0])

    def at(x: float) -> Atoms:
        positions = place[:, None] * axis
        positions[-1] += x * across
        return Atoms(z, positions)

    return at
