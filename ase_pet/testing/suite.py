"""All contracts at once, for a potential or a calculator of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_pet import derivatives
from ase_pet.data import Edges, Graph, System
from ase_pet.ecse.symmetrized import SYMMETRIES
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.neighbors import make_search
from ase_pet.potentials.base import Backbone, Potential, takes_positions
from ase_pet.testing import contracts
from ase_pet.testing.evaluators import (
    Evaluator,
    calculator_evaluator,
    graph_of,
    largest,
    potential_evaluator,
)
from ase_pet.testing.paths import bending, crossing, last_crossing
from ase_pet.testing.structures import structures as collection
from ase_pet.testing.tolerances import FLOAT64


def check_potential(
    potential: Backbone,
    *,
    symmetry: str | None,
    structures: Mapping[str, Atoms] | None = None,
    tolerances: Mapping[str, float] = FLOAT64,
    continuous: bool = True,
) -> dict[str, float]:
    """Check every contract that a potential has to keep.

    Args:
        potential: What is checked, on the CPU; see :class:`ase_pet.potentials.base.Backbone`.
        symmetry: What it claims: ``"O(3)"``, ``"SO(3)"``, or ``None`` for no rotations at all.
        structures: On which; :func:`ase_pet.testing.structures.structures` of its species if not
            given.
        tolerances: Table of tolerances; ``FLOAT32`` for a network in single precision.
        continuous: Whether it claims that energy and forces have no jumps.

    Returns:
        The largest deviation of each contract.

    Raises:
        AssertionError: If a contract is broken; names it and the structure.
        ValueError: If ``symmetry`` is none of those named.
    """
    chosen = dict(collection(potential.species) if structures is None else structures)
    found = check_model(
        potential_evaluator(potential),
        potential.species,
        potential.cutoff,
        symmetry=symmetry,
        structures=chosen,
        tolerances=tolerances,
        continuous=continuous,
    )
    mutation = [check_mutation(potential, atoms, tolerances) for atoms in chosen.values()]
    gradients = [check_gradients(potential, atoms, tolerances) for atoms in chosen.values()]
    return {**found, "mutation": largest(*mutation), "gradients": largest(*gradients)}


def check_calculator(
    calculator: Calculator,
    species: Sequence[int],
    cutoff: float,
    *,
    symmetry: str | None,
    structures: Mapping[str, Atoms] | None = None,
    tolerances: Mapping[str, float] = FLOAT64,
    continuous: bool = True,
) -> dict[str, float]:
    """Check every contract that an ASE calculator has to keep.

    Args:
        calculator: What is checked.
        species: Atomic numbers that it knows.
        cutoff: Å, the distance at which its atoms cease to feel each other.
        symmetry: What it claims, as for :func:`check_potential`.
        structures: On which; a collection of its species if not given.
        tolerances: Table of tolerances.
        continuous: Whether it claims that energy and forces have no jumps.

    Returns:
        The largest deviation of each contract.

    Raises:
        AssertionError: If a contract is broken.
        ValueError: If ``symmetry`` is none of those named.
    """
    chosen = dict(collection(species) if structures is None else structures)
    for name, atoms in chosen.items():
        copied = atoms.copy()
        copied.calc = calculator
        copied.get_forces()
        if copied != atoms:
            raise AssertionError(f"mutation ({name}): the calculator changed the atoms")
    return check_model(
        calculator_evaluator(calculator),
        species,
        cutoff,
        symmetry=symmetry,
        structures=chosen,
        tolerances=tolerances,
        continuous=continuous,
    )


def check_model(
    evaluator: Evaluator,
    species: Sequence[int],
    cutoff: float,
    *,
    symmetry: str | None,
    structures: Mapping[str, Atoms],
    tolerances: Mapping[str, float],
    continuous: bool,
) -> dict[str, float]:
    """Check what can be seen from outside; the arguments are those of :func:`check_calculator`."""
    if symmetry not in (*SYMMETRIES, None):
        raise ValueError(f"symmetry: expected one of {SYMMETRIES} or None, got {symmetry!r}")
    found: dict[str, float] = {}

    def note(contract: str, deviation: float) -> None:
        found[contract] = largest(found.get(contract, 0.0), deviation)

    every: list[Any] = [contracts.check_permutation, contracts.check_translation]
    every += [contracts.check_net_force, contracts.check_forces]
    periodic: list[Any] = [contracts.check_supercell, contracts.check_handedness]
    note("batch", contracts.check_batch(evaluator, list(structures.values()), tolerances))
    for number in species:
        note("isolated_atom", contracts.check_isolated_atom(evaluator, number, tolerances))
    for atoms in structures.values():
        for check in every + (periodic if atoms.pbc.any() else []):
            note(check.__name__.removeprefix("check_"), check(evaluator, atoms, tolerances))
        if evaluator([atoms])[0].virial is not None:
            note("virial", contracts.check_virial(evaluator, atoms, tolerances))
        if symmetry is not None:
            reflections = symmetry == "O(3)"
            deviation = contracts.check_rotation(
                evaluator, atoms, tolerances, reflections=reflections
            )
            note("rotation", deviation)
            if not atoms.pbc.any():
                note("net_torque", contracts.check_net_torque(evaluator, atoms, tolerances))
    if continuous:
        for deviation in _continuity(evaluator, species, cutoff, tolerances):
            note("force_jump", deviation)
    return found


def _continuity(
    evaluator: Evaluator,
    species: Sequence[int],
    cutoff: float,
    tolerances: Mapping[str, float],
) -> list[float]:
    """An atom that crosses the cutoff, and chains that bend through a straight line."""
    check, leaving = contracts.check_continuity, crossing(species, cutoff)
    straight, longer = bending(species), bending(species, n_atoms=4)
    start, stop = 0.6 * cutoff, 1.2 * cutoff
    return [
        check(
            evaluator,
            leaving,
            start,
            stop,
            tolerances,
            events=(cutoff, last_crossing(species, cutoff)),
        ),
        check(evaluator, straight, -0.7, 0.7, tolerances, events=(0.0,)),
        check(evaluator, longer, -0.7, 0.7, tolerances, events=(0.0,)),
    ]


def check_mutation(
    potential: Potential, atoms: Atoms, tolerances: Mapping[str, float] = FLOAT64
) -> float:
    """Evaluating changes neither the graph nor the potential, and leaves no gradients behind."""
    graph = graph_of([atoms], potential.cutoff, whole=takes_positions(potential))
    values = [getattr(graph, name) for name in graph.__slots__]
    if graph.space is not None:
        values += [getattr(graph.space, name) for name in graph.space.__slots__]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if isinstance(potential, torch.nn.Module):
        tensors += [*potential.parameters(), *potential.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    derivatives.evaluate(potential, graph)
    deviation = float(
        any(
            tensor.grad is not None or not torch.equal(tensor.detach(), copied)
            for tensor, copied in zip(tensors, before, strict=True)
        )
    )
    return contracts.require("mutation", deviation, tolerances, atoms)


def check_gradients(
    potential: Potential, atoms: Atoms, tolerances: Mapping[str, float] = FLOAT64
) -> float:
    """Forces and virial agree with autograd through positions and a strain.

    This is the oracle for what is computed from the gradient of the edge vectors alone.
    """
    system = system_from_atoms([atoms])
    edges = make_search()(system, potential.cutoff)
    graph = Graph.build(system, edges, whole=takes_positions(potential))
    results = derivatives.results(derivatives.evaluate(potential, graph), graph)
    forces, virial = strain_oracle(potential, system, edges)
    deviation = largest(
        *(
            float((ours - oracle).abs().max()) / max(1.0, float(oracle.abs().max()))
            for ours, oracle in ((results.forces, forces), (results.virial[0], virial))
        )
    )
    return contracts.require("gradients", deviation, tolerances, atoms)


def strain_oracle(
    potential: Potential, system: System, edges: Edges
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forces [n_atoms, 3], eV/Å, and virial [3, 3], eV, by autograd from positions and strain.

    Args:
        potential: What is differentiated, in one piece.
        system: One structure.
        edges: Its neighbour list.
    """
    positions = system.positions.clone().requires_grad_(True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deform = torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.T)
    cell, moved = system.cell[0] @ deform, positions @ deform
    vectors = moved[edges.others] - moved[edges.centers] + edges.shifts.double() @ cell
    graph = Graph.build(system, edges, whole=takes_positions(potential)).with_vectors(vectors)
    if graph.space is not None:
        periodic = bool(system.pbc.any())
        graph = replace(
            graph, space=replace(graph.space, positions=moved, cell=cell[None] * periodic)
        )
    energy = potential(graph).double().sum()
    if not energy.requires_grad:
        return torch.zeros_like(positions), torch.zeros_like(strain)
    forces, virial = torch.autograd.grad(
        energy, (positions, strain), allow_unused=True, materialize_grads=True
    )
    return -forces, virial
