"""Each contract is broken by a potential made for that: a kit that finds nothing proves nothing."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.testing import check_potential
from ase_pet.testing.contracts import (
    check_forces,
    check_handedness,
    check_net_force,
    check_net_torque,
    check_rotation,
    check_supercell,
    check_translation,
    check_virial,
)
from ase_pet.testing.evaluators import Evaluation, largest, potential_evaluator
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, Pairwise

EVERY = structures(SPECIES)


class NumbersOfAtoms(Pairwise):
    """Energies depend on the place of an atom in the list."""

    def __call__(self, graph: Graph) -> Tensor:
        return super().__call__(graph) * torch.arange(graph.n_atoms)


class SeesTheBatch(Pairwise):
    """Energies depend on what else is in the batch."""

    def __call__(self, graph: Graph) -> Tensor:
        return super().__call__(graph) * graph.n_systems


class Jumps(Pairwise):
    """Neighbours leave with a bang."""

    def __call__(self, graph: Graph) -> Tensor:
        inside = (graph.vectors.norm(dim=1) < self.cutoff).to(graph.vectors.dtype)
        return graph.vectors.new_zeros(graph.n_atoms).index_add(0, graph.centers, inside)


class PrefersAnAxis(Pairwise):
    """Energies depend on the orientation."""

    def __call__(self, graph: Graph) -> Tensor:
        tilted = graph.vectors * graph.vectors.new_tensor([1.0, 1.0, 1.1])
        return super().__call__(graph.with_vectors(tilted))


class PrefersAHand(Pairwise):
    """Energies of mirror images differ."""

    def __call__(self, graph: Graph) -> Tensor:
        r2, zero = graph.vectors.square().sum(1, keepdim=True), graph.vectors.new_zeros(())
        sums = [
            zero.expand(graph.n_atoms, 3).index_add(
                0, graph.centers, torch.exp(-k * r2) * graph.vectors
            )
            for k in (0.3, 1.0, 2.0)
        ]
        return torch.linalg.det(torch.stack(sums, 1))


class WritesIntoItsInput(Pairwise):
    """The graph is not what it was."""

    def __call__(self, graph: Graph) -> Tensor:
        energies = super().__call__(graph)
        graph.numbers.add_(1)
        return energies


class FeelsWithoutNeighbours(Pairwise):
    """No number where an atom is alone."""

    def __call__(self, graph: Graph) -> Tensor:
        alone = torch.bincount(graph.centers, minlength=graph.n_atoms) == 0
        return torch.where(alone, torch.nan, super().__call__(graph))


@pytest.mark.parametrize(
    ("potential", "contract"),
    [
        (NumbersOfAtoms(), "batch|permutation"),
        (SeesTheBatch(), "batch"),
        (Jumps(), "(energy|force)_jump"),
        (PrefersAnAxis(), "rotation"),
        (PrefersAHand(), "rotation"),
        (WritesIntoItsInput(), "mutation"),
        (FeelsWithoutNeighbours(), "batch|isolated_atom"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Pairwise) else "",
)
def test_a_broken_potential_is_found(potential: Pairwise, contract: str) -> None:
    few = {name: EVERY[name] for name in ("bent", "molecule", "wire", "atom")}
    with pytest.raises(AssertionError, match=rf"^({contract}) .*deviation"):
        check_potential(potential, symmetry="O(3)", structures=few)


def test_a_hand_is_no_matter_for_proper_rotations() -> None:
    ask = potential_evaluator(PrefersAHand())
    assert check_rotation(ask, EVERY["molecule"], reflections=False) < 1e-12
    with pytest.raises(AssertionError, match="rotation"):
        check_rotation(ask, EVERY["molecule"])


def changed(**by: float):
    """An evaluator whose answers are off by constants."""
    inner = potential_evaluator(Pairwise())

    def ask(atoms: list[Atoms]) -> list[Evaluation]:
        return [
            Evaluation(
                one.energy + by.get("energy", 0.0) * len(one.forces) ** 2,
                one.energies,
                one.forces + by.get("forces", 0.0) * structure.positions,
                one.virial + by.get("virial", 0.0),
            )
            for structure, one in zip(atoms, inner(atoms), strict=True)
        ]

    return ask


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (check_forces, {"forces": 0.01}),
        (check_net_force, {"forces": 0.01}),
        (check_net_torque, {"forces": float("nan")}),
        (check_virial, {"virial": 0.01}),
        (check_virial, {"virial": float("nan")}),
        (check_forces, {"energy": float("nan")}),
        (check_translation, {"forces": 0.01}),
        (check_supercell, {"energy": 0.01}),
        (check_handedness, {"energy": float("nan")}),
    ],
)
def test_wrong_numbers_and_what_is_no_number_are_found(check, wrong: dict[str, float]) -> None:
    name = "molecule" if check is check_net_torque else "triclinic"
    assert check(changed(), EVERY[name]) < 1e-7
    with pytest.raises(AssertionError, match="deviation"):
        check(changed(**wrong), EVERY[name])


def test_the_largest_of_something_that_is_no_number() -> None:
    assert largest(1.0, 3.0, 2.0) == 3.0
    for values in ((0.0, float("nan")), (float("nan"), 0.0)):
        assert largest(*values) != largest(*values)
