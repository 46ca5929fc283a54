"""Named structures that potentials tend to stumble over, for any set of elements."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii
from scipy.spatial.transform import Rotation

#: An odd direction: no component is zero, no two are equal.
ODD = np.array([0.36, -0.48, 0.8])


def structures(species: Sequence[int], *, seed: int = 0) -> dict[str, Atoms]:
    """Build the collection.

    Distances follow the covalent radii of the elements, so that a model with a cutoff of three
    bond lengths or more sees neighbours wherever the name promises them. Every call with the same
    arguments returns the same structures.

    Args:
        species: Atomic numbers that the model knows.
        seed: Of the random displacements.

    Returns:
        ``bulk`` (rattled), ``crystal`` (perfect diamond), ``triclinic``, ``slab``, ``wire``
        (periodic along one axis, its other lattice vectors zero), ``molecule``, ``dimer``,
        ``line`` (three atoms, like CO2), ``bent``, ``planar`` (a regular hexagon), ``atom``,
        ``one_atom_cell``, ``left_handed``, ``cluster``, ``fragments`` (two molecules far apart)
        and ``far_away`` (a molecule far from the origin).

    Raises:
        ValueError: If ``species`` is empty.
    """
    if not len(species):
        raise ValueError("species: expected at least one atomic number, got none")
    rng = np.random.default_rng(seed)
    z = [int(species[k % len(species)]) for k in range(8)]
    found = _crystals(z, rng) | _molecules(z, rng)
    return {name: found[name] for name in sorted(found)}


def bond_length(first: int, second: int) -> float:
    """Sum of the covalent radii of two elements, Å."""
    return float(covalent_radii[first] + covalent_radii[second])


def line(numbers: Sequence[int], direction: np.ndarray = ODD) -> Atoms:
    """Atoms in a row, a bond length apart.

    Args:
        numbers: Atomic numbers, in order.
        direction: [3], of the row; need not be a unit vector.
    """
    bonds = [bond_length(a, b) for a, b in itertools.pairwise(numbers)]
    place = np.concatenate([[0.0], np.cumsum(bonds)])
    return Atoms(numbers, place[:, None] * direction / np.linalg.norm(direction))


def _crystals(z: list[int], rng: np.random.Generator) -> dict[str, Atoms]:
    """Periodic structures; neighbours are 1.1 covalent bonds apart."""
    bond = 1.1 * max(bond_length(a, b) for a in z for b in z)
    cubic = bulk("X", "fcc", a=2**0.5 * bond, cubic=True)
    cubic.numbers[:] = z[:4]
    rattled = cubic.copy()
    rattled.positions += 0.05 * bond * rng.standard_normal((4, 3))

    crystal = bulk("X", "diamond", a=4.0 / 3.0**0.5 * bond)
    crystal.numbers[:] = z[:2]
    primitive = bulk("X", "fcc", a=2**0.5 * bond)
    primitive.numbers[:] = z[:1]

    skewed = np.array([[1.9, 0.15, 0.05], [0.7, 1.5, 0.1], [-0.5, 0.4, 1.7]]) * bond
    scaled = [[0.1, 0.05, 0.0], [0.55, 0.6, 0.1], [0.3, 0.2, 0.6]]
    triclinic = Atoms(z[:3], scaled_positions=scaled, cell=skewed, pbc=True)
    left_handed = triclinic.copy()
    left_handed.set_cell(triclinic.cell.array[[1, 0, 2]])

    slab = cubic.repeat((1, 1, 1))
    slab.positions += 0.03 * bond * rng.standard_normal((4, 3))
    slab.cell[2, 2] += 12.0
    slab.pbc = (True, True, False)

    wire = Atoms(z[:2], [[0.0, 0.0, 0.0], [0.9 * bond, 0.5 * bond, 0.2 * bond]])
    wire.cell[0] = [1.8 * bond, 0.1 * bond, 0.0]
    wire.pbc = (True, False, False)
    return {
        "bulk": rattled,
        "crystal": crystal,
        "one_atom_cell": primitive,
        "triclinic": triclinic,
        "left_handed": left_handed,
        "slab": slab,
        "wire": wire,
    }


def _molecules(z: list[int], rng: np.random.Generator) -> dict[str, Atoms]:
    """Finite structures, in odd orientations."""
    turn = Rotation.from_euler("zyx", [0.4, 1.1, -0.7]).as_matrix().T
    arms = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    lengths = [bond_length(z[0], other) for other in z[1:5]]
    arms = arms / 3.0**0.5 * np.array(lengths)[:, None]
    arms += 0.08 * min(lengths) * rng.standard_normal((4, 3))
    molecule = Atoms(z[:5], np.concatenate([np.zeros((1, 3)), arms]) @ turn)

    far_away = molecule.copy()
    far_away.positions += 1e4 * ODD
    other = molecule.copy()
    other.rotate(70.0, (1.0, 2.0, -1.0))
    other.positions += 60.0 * ODD

    bent = line([z[1], z[0], z[1]], np.array([1.0, 0.0, 0.0]))
    bent.positions[2, 1] += 0.5 * bent.positions[1, 0]
    angles = np.arange(6) * np.pi / 3.0
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], 1)
    numbers = [z[0], z[1]] * 3
    planar = Atoms(numbers, bond_length(z[0], z[1]) * ring @ turn)

    return {
        "molecule": molecule,
        "far_away": far_away,
        "fragments": molecule + other,
        "dimer": line(z[:2]),
        "line": line([z[1], z[0], z[1]]),
        "bent": bent,
        "planar": planar,
        "atom": Atoms(z[:1], [0.3 * ODD]),
        "cluster": _cluster(z, rng),
    }


def _cluster(z: list[int], rng: np.random.Generator) -> Atoms:
    """Seven atoms at random, none closer than most of a bond."""
    positions = np.zeros((1, 3))
    edge = 2.2 * max(bond_length(a, b) for a in z for b in z)
    while len(positions) < 7:
        trial = edge * rng.random(3)
        bonds = [bond_length(z[len(positions)], z[k]) for k in range(len(positions))]
        if (np.linalg.norm(positions - trial, axis=1) > 0.9 * np.array(bonds)).all():
            positions = np.concatenate([positions, trial[None]])
    return Atoms(z[:7], positions)
