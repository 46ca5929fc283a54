"""Is a model what it should be: equivariant, and its forces and stress true derivatives?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from ase_pet.engine import Engine
from ase_pet.formats import Model
from ase_pet.formats.self_test import deviations, structure_of
from ase_pet.interfaces.ase_calculator import PETCalculator
from ase_pet.interfaces.ase_structures import has_volume
from ase_pet.testing.contracts import check_forces, check_virial, transformed, turned
from ase_pet.testing.evaluators import calculator_evaluator
from ase_pet.testing.structures import structures
from ase_pet.testing.tolerances import FLOAT64

#: Contracts are measured here, and judged by who shows them.
_UNLIMITED = {**FLOAT64, "forces": np.inf, "virial": np.inf}

#: Atoms that are evaluated at once at most, unless one structure has more.
_BATCH_ATOMS = 1024


@dataclass(frozen=True, slots=True)
class Deviations:
    """Largest deviations over all trials, relative to the size of what is compared, at least 1.

    Attributes:
        energy: Of the energy (eV); ``None`` where it is not compared.
        forces: Of a component (eV/Å); ``None`` where they are not compared.
        virial: Of a component (eV), which is stress times volume; ``None`` without a volume.
        tensors: Of a component of dipole (e·Å) and polarizability (e²Å²/eV); ``None`` without any.
    """

    energy: float | None
    forces: float | None
    virial: float | None = None
    tensors: float | None = None

    def within(self, tolerance: float) -> bool:
        """Whether all are at most ``tolerance``; NaN never is."""
        given = (self.energy, self.forces, self.virial, self.tensors)
        return all(x <= tolerance for x in given if x is not None)


def rotation_errors(calculator: PETCalculator, atoms: Atoms, **options: Any) -> Deviations:
    """How far results of rotated structures are at most from the rotated results.

    Args:
        calculator: The model.
        atoms: Structure, unchanged.
        options: Of :func:`each_rotation`.
    """
    return largest(each_rotation(calculator, atoms, **options))


def each_rotation(
    calculator: PETCalculator,
    atoms: Atoms,
    *,
    n_rotations: int = 10,
    reflections: bool = True,
    seed: int = 0,
) -> list[Deviations]:
    """How far results of rotated structures are from the rotated results, one by one.

    Args:
        calculator: The model.
        atoms: Structure, unchanged.
        n_rotations: How many random rotations, at least 1.
        reflections: Whether every other one is followed by an inversion.
        seed: Of the rotations, at least 0.

    Raises:
        ValueError: If there would be no rotations, or the seed is negative.
    """
    for name, value, least in (("n_rotations", n_rotations, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name}: expected {least} or more, got {value}")
    turns = Rotation.random(n_rotations, random_state=seed).as_matrix()
    if reflections:
        turns[1::2] *= -1.0
    ask = calculator_evaluator(calculator)
    every = [atoms, *(transformed(atoms, turn) for turn in turns)]
    size = max(1, _BATCH_ATOMS // max(1, len(atoms)))
    first, *others = (
        result for k in range(0, len(every), size) for result in ask(every[k : k + size])
    )
    found = []
    for R, other in zip(turns, others, strict=True):
        virial = None
        if first.virial is not None and other.virial is not None:
            virial = _deviation(other.virial, R @ first.virial @ R.T)
        tensors = [
            _deviation(other.tensors[name], turned(value, R))
            for name, value in first.tensors.items()
        ]
        energy = _deviation(other.energy, first.energy)
        forces = _deviation(other.forces, first.forces @ R.T)
        found.append(Deviations(energy, forces, virial, max(tensors, default=None)))
    return found


def largest(every: Sequence[Deviations]) -> Deviations:
    """The largest of each kind; NaN if any is."""

    def of(name: str) -> float | None:
        given = [value for one in every if (value := getattr(one, name)) is not None]
        return float(np.max(given)) if given else None

    return Deviations(of("energy"), of("forces"), of("virial"), of("tensors"))


def derivative_errors(calculator: PETCalculator, atoms: Atoms, *, seed: int = 0) -> Deviations:
    """How far forces and virial are from fourth-order differences of the energy.

    Args:
        calculator: The model, in double precision.
        atoms: Structure, unchanged.
        seed: Of the random displacements and strains.
    """
    ask = calculator_evaluator(calculator)
    forces = check_forces(ask, atoms, _UNLIMITED, seed=seed)
    virial = check_virial(ask, atoms, _UNLIMITED, seed=seed) if has_volume(atoms) else None
    return Deviations(None, forces, virial)


def replay_self_test(model: Model, device: str = "auto") -> dict[str, Deviations]:
    """Evaluate the structure that a checkpoint carries and compare with what it records.

    Args:
        model: A loaded checkpoint.
        device: Where to evaluate, in double precision.

    Returns:
        Deviations of the "bare" and the "symmetrized" model; empty without a self-test.
    """
    if model.self_test is None:
        return {}
    recorded = model.self_test["symmetrized"]
    settings = {name: recorded[name] for name in ("symmetry", "ensemble", "weights")}
    system = structure_of(model.self_test)
    volume = float(system.volumes[0])
    bare = Engine(model.potential, device=device, symmetry=None)
    symmetrized = Engine(model.potential, device=device, **settings)
    found = {}
    for part, far in deviations(model.self_test, bare(system), symmetrized(system)).items():
        then = model.self_test[part]
        found[part] = Deviations(
            far["energy"] / _size(then["energy"]),
            far["forces"] / _size(then["forces"]),
            far["stress"] * volume / _size(then["stress"] * volume) if "stress" in far else None,
            max((far[k] / _size(then[k]) for k in model.tensors if k in far), default=None),
        )
    return found


def boxed_molecule(model: Model) -> Atoms:
    """A distorted molecule, in a cell where the model allows one, so that it has a stress."""
    molecule = structures(model.species)["molecule"]
    if np.isinf(model.cutoff):
        return molecule
    molecule.center(vacuum=0.5 * model.cutoff)
    molecule.pbc = True
    return molecule


def example(model: Model) -> Atoms:
    """What a model can be checked on: its self-test's structure or, without one, a molecule."""
    if model.self_test is None:
        return boxed_molecule(model)
    found = model.self_test["structure"]
    return Atoms(
        found["numbers"].numpy(),
        found["positions"].numpy(),
        cell=found["cell"].numpy(),
        pbc=found["pbc"].numpy(),
    )


def _deviation(ours: Any, expected: Any) -> float:
    return float(np.abs(np.subtract(ours, expected)).max()) / _size(expected)


def _size(values: Any) -> float:
    return max(1.0, float(np.abs(np.asarray(values)).max()))
