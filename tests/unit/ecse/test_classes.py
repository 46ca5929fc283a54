"""One of each class of copies is evaluated, and nothing else changes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ase_pet.data import Graph, Results
from ase_pet.derivatives import evaluate, results
from ase_pet.ecse import Symmetrized, cost
from ase_pet.ecse.classes import TOLERANCE
from ase_pet.ecse.projected import project
from ase_pet.ecse.symmetrized import alike
from ase_pet.testing.evaluators import graph_of
from tests.tiny import TENSORS, tiny_modern_pet, tiny_pet


class Counted(nn.Module):
    """A network that writes down how many atoms it is asked for, and for which are read."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside
        self.atoms: list[int] = []
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        if name in ("cutoff", "n_layers", "species", "symmetry", "memory", "takes_charge"):
            return getattr(self.inside, name)
        return super().__getattr__(name)

    def forward(self, graph: Graph) -> Tensor:
        self.atoms.append(graph.n_atoms)
        self.reads += int((graph.hops == 0).sum())
        return self.inside(graph)


def ring(radius: float, symbol: str) -> Atoms:
    angles = np.arange(6) * np.pi / 3
    at = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], 1)
    return Atoms(f"{symbol}6", radius * at)


def displaced(structure: Atoms, by: Sequence[float]) -> Atoms:
    moved = structure.copy()
    moved.positions[0] += by
    return moved


def rattled(structure: Atoms) -> Atoms:
    moved = structure.copy()
    moved.rattle(0.05, seed=1)
    return moved


DIAMOND = bulk("C", "diamond", 3.57, cubic=True)
STRUCTURES = {
    "diamond": DIAMOND,
    "fcc": bulk("O", "fcc", 3.3, cubic=True),
    "rocksalt": bulk("CO", "rocksalt", 3.6, cubic=True),
    "hcp": bulk("C", "hcp", 2.2, 3.5),
    "benzene": ring(1.4, "C") + ring(2.48, "H"),
    "line": Atoms("OCO", [[0, 0, -1.16], [0, 0, 0], [0, 0, 1.16]]),
    "displaced": displaced(DIAMOND * (2, 1, 1), [0.02, 0, 0]),
    "rattled": rattled(DIAMOND),
}
#: Copies that are evaluated: an orbit under the symmetry of a crystal is one class.
ORBITS = {"diamond": 1, "fcc": 1, "rocksalt": 2, "line": 2}


def different_environments(symmetrized: Symmetrized, graph: Graph) -> int:
    """How many rotated environments differ, as sets of elements and rounded vectors."""
    frames, _ = symmetrized.frames(graph)
    seen = set()
    for rotation, owner in zip(frames.rotations, frames.owners.tolist(), strict=True):
        edges = torch.nonzero(graph.centers == owner)[:, 0]
        vectors = (graph.vectors[edges] @ rotation.T * 1e6 + 0.123).round().long()
        numbers = graph.numbers[graph.others[edges], None]
        rows = torch.cat([numbers, vectors], 1).tolist()
        seen.add((int(graph.numbers[owner]), tuple(sorted(map(tuple, rows)))))
    return len(seen)


def both_ways(potential: Symmetrized, graph: Graph) -> tuple[Results, Results]:
    """Results with classes and without."""
    found = results(evaluate(potential, graph), graph)
    potential.merges = False
    expected = results(evaluate(potential, graph), graph)
    potential.merges = True
    return found, expected


def check_equal(found: Results, expected: Results) -> None:
    """To 1e-11 of the largest value: but for rounding, nothing differs."""
    scale = float(expected.virials.abs().max())
    for name in ("energies", "forces", "virials"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        atol = 1e-11 * max(scale if name != "energies" else 0.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)
    for name, theirs in expected.tensors.items():
        torch.testing.assert_close(found.tensors[name], theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(
    ("n_layers", "ensemble"), [(1, "local"), (2, "local"), (2, "global"), (2, "shared")]
)
def test_results_stay_and_counts_fall(n_layers: int, ensemble: str, name: str) -> None:
    network = Counted(tiny_pet(n_layers))
    graph = graph_of([STRUCTURES[name]], 2.6)
    symmetrized = Symmetrized(network, ensemble=ensemble)
    check_equal(*both_ways(symmetrized, graph))
    network.reads = 0
    evaluate(symmetrized, graph)
    n_copies, evaluated = symmetrized.ensemble(graph).n_copies, cost(symmetrized, graph).n_copies
    if ensemble != "shared":
        per_copy = 1 if ensemble == "local" else graph.n_atoms
        assert network.reads == per_copy * evaluated
    assert evaluated == n_copies if name == "rattled" else evaluated <= n_copies / 2
    if n_layers == 1:
        assert evaluated == different_environments(symmetrized, graph)
    elif ensemble != "shared" and name in ORBITS:
        assert evaluated == ORBITS[name]


@pytest.mark.parametrize("weights", ["lean", "paper"])
@pytest.mark.parametrize("symmetry", ["O(3)", "SO(3)"])
def test_any_weights_and_symmetry(symmetry: str, weights: str) -> None:
    names = ["diamond", "hcp", "benzene", "line", "displaced"]
    graph = graph_of([STRUCTURES[name] for name in names], 2.6)
    symmetrized = Symmetrized(tiny_pet(2), symmetry=symmetry, weights=weights)
    check_equal(*both_ways(symmetrized, graph))
    assert cost(symmetrized, graph).n_copies < symmetrized.ensemble(graph).n_copies / 2


def test_structures_of_a_batch_share_classes_unless_their_charges_differ() -> None:
    again = DIAMOND.copy()
    again.rotate(25, (1, 2, 3), rotate_cell=True)
    graph = graph_of([DIAMOND, STRUCTURES["line"], again], 2.6)
    symmetrized = Symmetrized(tiny_pet())
    check_equal(*both_ways(symmetrized, graph))
    assert cost(symmetrized, graph).n_copies == 1 + 2

    charge = torch.tensor([0.0, 1.0], dtype=torch.float64)
    graph = replace(graph_of([DIAMOND, DIAMOND], 2.6), charge=charge)
    symmetrized = Symmetrized(tiny_modern_pet(conditioning=True))
    found, expected = both_ways(symmetrized, graph)
    check_equal(found, expected)
    assert abs(float(found.energy[0] - found.energy[1])) > 1e-6
    assert cost(symmetrized, graph).n_copies == 2


@pytest.mark.parametrize("ensemble", ["local", "global"])
def test_tensors_are_turned_back_by_each_copy(ensemble: str) -> None:
    names = ["benzene", "line", "rattled"]
    graph = graph_of([STRUCTURES[name] for name in names], 2.6)
    symmetrized = Symmetrized(tiny_pet(**TENSORS), ensemble=ensemble)
    found, expected = both_ways(symmetrized, graph)
    assert set(found.tensors) == {"dipole", "polarizability"}
    check_equal(found, expected)
    assert float(found.tensors["polarizability"].abs().max()) > 1e-3
    with torch.no_grad():
        energies, tensors = symmetrized.predict(graph)
    torch.testing.assert_close(energies, expected.energies, rtol=0, atol=1e-13)
    torch.testing.assert_close(
        graph.of_structures(tensors["dipole"]), expected.tensors["dipole"], rtol=0, atol=1e-13
    )


def test_columns_of_energies() -> None:
    graph = graph_of([STRUCTURES["displaced"]], 2.6)
    net = tiny_modern_pet(2)
    torch.manual_seed(0)
    projections = torch.randn(3, net.n_last_features, dtype=torch.float64)
    projected = project(Symmetrized(net), projections)
    found = evaluate(projected, graph)
    projected.merges = False
    expected = evaluate(projected, graph)
    assert found.gradients.shape == (graph.n_edges, 3, 3)
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11 * float(theirs.abs().max()))


@pytest.mark.parametrize("ensemble", ["local", "shared", "global"])
def test_fingerprints_may_mislead(ensemble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All copies claim to be alike: they are told apart, also from those of other structures,
    and what is evaluated at once keeps within the budget."""
    names = ["rattled", "hcp", "benzene", "line"]
    graph = graph_of([STRUCTURES[name] for name in names], 2.6)
    network = Counted(tiny_pet(2))
    per_atom = network.memory(1, int(torch.bincount(graph.centers).max()))
    symmetrized = Symmetrized(network, ensemble=ensemble, memory_budget=60 * per_atom)
    honest = cost(symmetrized, graph).n_copies
    monkeypatch.setattr(
        "ase_pet.ecse.symmetrized.alike",
        lambda graph, rotations, owners, depth: torch.zeros_like(owners),
    )
    network.atoms.clear()
    found, expected = both_ways(symmetrized, graph)
    check_equal(found, expected)
    assert honest <= cost(symmetrized, graph).n_copies
    n_carriers = len(torch.unique(graph.numbers))
    assert len(network.atoms) > 4
    assert max(network.atoms) - n_carriers <= 60


def test_elements_and_ends_of_edges_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors alone do not tell: other elements in the same places, and the same crystal in
    another cell, whose copies have fewer atoms that stand for several."""
    monkeypatch.setattr(
        "ase_pet.ecse.symmetrized.alike",
        lambda graph, rotations, owners, depth: torch.zeros_like(owners),
    )
    lattice = ("diamond", 3.57)
    same_places = [DIAMOND, bulk("O", *lattice, cubic=True), bulk("CO", "zincblende", 3.57)]
    same_places.append(bulk("H", *lattice))
    other_cells = [DIAMOND, bulk("C", *lattice), DIAMOND * (2, 1, 1)]
    for n_layers, structures in ((1, same_places), (2, same_places), (2, other_cells)):
        for batch in (structures, structures[::-1]):
            graph = graph_of(batch, 2.6)
            for ensemble in ("local", "global"):
                check_equal(*both_ways(Symmetrized(tiny_pet(n_layers), ensemble=ensemble), graph))


def test_a_small_budget_splits_classes_and_changes_nothing() -> None:
    graph = graph_of([STRUCTURES["displaced"], STRUCTURES["diamond"]], 2.6)
    network = Counted(tiny_pet(2))
    roomy, tight = (Symmetrized(network, memory_budget=budget) for budget in (10**9, 10**5))
    assert len(tight.ensemble(graph).chunks) > len(roomy.ensemble(graph).chunks) == 1
    check_equal(
        results(evaluate(tight, graph), graph),
        results(evaluate(roomy, graph), graph),
    )


def test_what_differs_by_more_than_the_tolerance_stays_apart() -> None:
    symmetrized = Symmetrized(tiny_pet())
    apart = {}
    for shift in (0.0, 0.05 * TOLERANCE, 100 * TOLERANCE):
        graph = graph_of([displaced(DIAMOND, [shift, 0.7 * shift, -0.4 * shift])], 2.6)
        apart[shift] = cost(symmetrized, graph).n_copies
    assert list(apart.values())[:2] == [1, 1]
    assert apart[100 * TOLERANCE] >= 24


@pytest.mark.parametrize("ensemble", ["local", "shared", "global"])
@pytest.mark.parametrize("name", ["rocksalt", "hcp", "benzene"])
def test_forces_and_virials_at_symmetric_structures(name: str, ensemble: str) -> None:
    """Finite differences along directions that break the symmetry, where classes split."""
    structure = STRUCTURES[name]
    symmetrized = Symmetrized(tiny_pet(2), ensemble=ensemble)
    generator = np.random.default_rng(3)
    towards = generator.normal(size=structure.positions.shape)
    strain = generator.normal(size=(3, 3))
    strain = 0.5 * (strain + strain.T)

    def at(x: float) -> tuple[Graph, Results]:
        moved = structure.copy()
        turn = np.eye(3) + x * strain
        moved.set_cell(structure.cell @ turn.T)
        moved.positions = structure.positions @ turn.T + x * towards
        graph = graph_of([moved], 2.6)
        return graph, results(evaluate(symmetrized, graph), graph)

    graph, center = at(0.0)
    slope = float((center.virial[0] * torch.from_numpy(strain)).sum())
    slope -= float((center.forces * torch.from_numpy(towards)).sum())
    h = 1e-5
    values = [float(at(x)[1].energy) for x in (-2 * h, -h, h, 2 * h)]
    numerical = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    assert abs(slope) > 1e-3
    assert slope == pytest.approx(numerical, rel=1e-8)
    split, near = at(1e-7)
    assert cost(symmetrized, split).n_copies >= 3 * cost(symmetrized, graph).n_copies
    scale = float(center.virials.abs().max())
    torch.testing.assert_close(near.forces, center.forces, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(near.virials, center.virials, rtol=0, atol=1e-4 * scale)


def test_an_autograd_graph_has_no_classes() -> None:
    """What is taken over from another copy would have no gradient, so nothing is."""
    graph = graph_of([DIAMOND], 2.6)
    symmetrized = Symmetrized(tiny_pet().requires_grad_(True))
    whole = evaluate(symmetrized, graph, create_graph=True)
    parts = evaluate(symmetrized, graph)
    torch.testing.assert_close(whole.energies.detach(), parts.energies, rtol=0, atol=1e-13)
    torch.testing.assert_close(whole.gradients.detach(), parts.gradients, rtol=0, atol=1e-12)


def test_single_precision_and_different_copies_have_no_labels() -> None:
    graph = graph_of([STRUCTURES["rattled"]], 2.6)
    symmetrized = Symmetrized(tiny_pet())
    assert symmetrized.ensemble(graph).labels is None
    graph = graph_of([DIAMOND], 2.6)
    frames, _ = symmetrized.frames(graph)
    assert len(torch.unique(alike(graph, frames.rotations, frames.owners, 0))) == 1
    single = graph.with_vectors(graph.vectors.float())
    assert alike(single, frames.rotations.float(), frames.owners, 0) is None


AXES = np.array(list(itertools.permutations(np.eye(3))))
SIGNS = np.array(list(itertools.product([1.0, -1.0], repeat=3)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    operations=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=2),
    ensemble=st.sampled_from(["local", "shared", "global"]),
)
def test_random_clusters_of_any_cubic_symmetry(
    seed: int, operations: list[tuple[int, int]], ensemble: str
) -> None:
    """Random atoms and their images under one or two operations of the cubic group."""
    generator = np.random.default_rng(seed)
    positions = generator.uniform(0.4, 1.4, size=(2, 3))
    for axes, signs in operations:
        turn = AXES[axes] * SIGNS[signs]
        positions = np.concatenate([positions, positions @ turn.T])
    apart = np.linalg.norm(positions[:, None] - positions, axis=2) + 9.0 * np.eye(len(positions))
    positions = positions[(np.tril(apart, -1) + 9.0 * np.triu(np.ones_like(apart)) > 0.3).all(1)]
    graph = graph_of([Atoms(f"C{len(positions)}", positions)], 2.6)
    symmetrized = Symmetrized(tiny_pet(2), ensemble=ensemble)
    check_equal(*both_ways(symmetrized, graph))
