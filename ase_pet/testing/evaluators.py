"""One way to ask potentials and calculators the same questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.stress import voigt_6_to_full_3x3_stress

from ase_pet.data import Graph, Results
from ase_pet.derivatives import evaluate, results
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.neighbors import make_search
from ase_pet.potentials.base import Potential, takes_positions
from ase_pet.potentials.tensors import RANKS


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What a model says of one structure.

    Attributes:
        energy: eV.
        energies: [n_atoms], eV, or ``None`` if the model has none.
        forces: [n_atoms, 3], eV/Å.
        virial: [3, 3], eV, dE/dε, or ``None`` if the model or the structure has none.
        tensors: What else there is: dipole [3], e·Å; polarizability [3, 3], e²Å²/eV.
    """

    energy: float
    energies: np.ndarray | None
    forces: np.ndarray
    virial: np.ndarray | None
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)


#: From structures to what a model says of each.
Evaluator = Callable[[Sequence[Atoms]], list[Evaluation]]


def graph_of(structures: Sequence[Atoms], cutoff: float, *, whole: bool = False) -> Graph:
    """Graph of a batch of structures.

    Args:
        structures: At least one.
        cutoff: Å.
        whole: Give positions and cells, too.
    """
    system = system_from_atoms(structures)
    return Graph.build(system, make_search()(system, cutoff), whole=whole)


def potential_evaluator(potential: Potential) -> Evaluator:
    """Ask a potential, with forces and virial by :mod:`ase_pet.derivatives`.

    Args:
        potential: On the CPU; all structures are evaluated in one call.
    """

    def ask(structures: Sequence[Atoms]) -> list[Evaluation]:
        graph = graph_of(structures, potential.cutoff, whole=takes_positions(potential))
        return split(results(evaluate(potential, graph), graph), structures)

    return ask


def largest(*values: float) -> float:
    """The largest value; NaN if any is, which Python's ``max`` loses."""
    return float(np.max(values))


def calculator_evaluator(calculator: Calculator) -> Evaluator:
    """Ask an ASE calculator, one structure after the other.

    One that has a method ``compute`` for batches is asked by that for several structures.

    Args:
        calculator: With energy and forces; stress and energies are asked for where implemented.
    """

    def ask_one(atoms: Atoms) -> Evaluation:
        copied = atoms.copy()
        copied.calc = calculator
        implemented = calculator.implemented_properties
        virial = None
        if "stress" in implemented and atoms.cell.rank == 3:
            stress = voigt_6_to_full_3x3_stress(copied.get_stress())
            virial = stress * copied.get_volume()
        energies = copied.get_potential_energies() if "energies" in implemented else None
        energy, forces = float(copied.get_potential_energy()), copied.get_forces()
        tensors = {}
        if "dipole" in implemented and not atoms.pbc.any():
            tensors["dipole"] = copied.get_dipole_moment()
        return Evaluation(energy, energies, forces, virial, tensors)

    def ask(structures: Sequence[Atoms]) -> list[Evaluation]:
        if len(structures) > 1 and hasattr(calculator, "compute"):
            batch = calculator.compute(structures)
            return [_of_results(*one) for one in zip(structures, batch, strict=True)]
        return [ask_one(atoms) for atoms in structures]

    return ask


def _of_results(atoms: Atoms, results: Mapping[str, Any]) -> Evaluation:
    virial = None
    if "stress" in results:
        virial = voigt_6_to_full_3x3_stress(results["stress"]) * atoms.get_volume()
    tensors = {name: results[name] for name in RANKS if name in results}
    return Evaluation(
        results["energy"], results.get("energies"), results["forces"], virial, tensors
    )


def split(batch: Results, structures: Sequence[Atoms]) -> list[Evaluation]:
    """Results of a batch, structure by structure."""
    found, start = [], 0
    for k, atoms in enumerate(structures):
        part = slice(start, start + len(atoms))
        start += len(atoms)
        found.append(
            Evaluation(
                float(batch.energy[k]),
                batch.energies[part].cpu().numpy(),
                batch.forces[part].cpu().numpy(),
                batch.virial[k].cpu().numpy(),
                {name: value[k].cpu().numpy() for name, value in batch.tensors.items()},
            )
        )
    return found
