from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_pet.data import Graph
from ase_pet.derivatives import evaluate
from ase_pet.ecse import PaperSettings, Symmetrized
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, Pairwise, tiny_pet

STRUCTURES = structures(SPECIES)
EVERY = list(itertools.product(["O(3)", "SO(3)"], ["local", "global"], ["smooth", "lean", "paper"]))
EVERY += [
    (symmetry, "shared", weights)
    for symmetry in ("O(3)", "SO(3)")
    for weights in ("smooth", "lean")
]


@pytest.mark.parametrize(("symmetry", "ensemble", "weights"), EVERY)
def test_what_is_invariant_already_stays_as_it_is(
    symmetry: str, ensemble: str, weights: str
) -> None:
    """Energies, and gradients through frames and weights, whose parts must cancel."""
    names = ["triclinic", "molecule", "line", "dimer", "atom", "wire"]
    graph = graph_of([STRUCTURES[name] for name in names], 2.6)
    for backbone in (Pairwise(), tiny_pet(2, coordinates="length")):
        symmetrized = Symmetrized(
            backbone, symmetry=symmetry, ensemble=ensemble, weights=weights, memory_budget=10**6
        )
        ours, theirs = evaluate(symmetrized, graph), evaluate(backbone, graph)
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours[1], theirs[1], rtol=1e-10, atol=1e-10)


def average_by_hand(symmetrized: Symmetrized, graph: Graph) -> torch.Tensor:
    """Energies [n_atoms] from whole structures turned into each frame, one after the other."""
    frames, reads = symmetrized.frames(graph)
    total = torch.zeros(graph.n_atoms, dtype=torch.float64)
    weights = torch.zeros(graph.n_atoms, dtype=torch.float64)
    for k in range(frames.n_frames):
        turned = graph.with_vectors(graph.vectors @ frames.rotations[k].T)
        energies = symmetrized.backbone(turned)
        for atom, weight in zip(
            *(x[reads.frames == k] for x in (reads.atoms, reads.weights)), strict=True
        ):
            total[atom] += weight * energies[atom]
            weights[atom] += weight
    return total / weights


@pytest.mark.parametrize(("symmetry", "ensemble", "weights"), EVERY)
def test_frames_come_with_their_mirror_images(symmetry: str, ensemble: str, weights: str) -> None:
    """Of equal weight, unless a preference tells left from right."""
    graph = graph_of([STRUCTURES[name] for name in ("molecule", "line", "wire")], 2.6)
    frames, reads = Symmetrized(
        tiny_pet(), symmetry=symmetry, ensemble=ensemble, weights=weights
    ).frames(graph)
    improper = torch.linalg.det(frames.rotations) < 0
    share = float(reads.weights[improper[reads.frames]].sum() / reads.weights.sum())
    if symmetry == "SO(3)" or weights != "lean":
        assert share == pytest.approx(0.5 if symmetry == "O(3)" else 0.0, rel=1e-12)
    assert bool((reads.frames.diff() >= 0).all())
    if ensemble == "local":
        assert torch.equal(frames.owners[reads.frames], reads.atoms)


@pytest.mark.parametrize(("symmetry", "ensemble", "weights"), EVERY)
def test_it_is_the_weighted_average_over_frames(symmetry: str, ensemble: str, weights: str) -> None:
    graph = graph_of([STRUCTURES[name] for name in ("molecule", "line", "wire", "atom")], 2.6)
    symmetrized = Symmetrized(
        tiny_pet(2), symmetry=symmetry, ensemble=ensemble, weights=weights, memory_budget=10**5
    )
    expected = average_by_hand(symmetrized, graph)
    torch.testing.assert_close(evaluate(symmetrized, graph)[0], expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(symmetrized(graph), expected, rtol=0, atol=1e-13)


def test_only_so3_tells_left_from_right() -> None:
    hand = Atoms("COHC", [[0, 0, 0], [1.4, 0, 0], [0, 1.0, 0.3], [0.2, -0.5, 1.4]])
    mirrored = hand.copy()
    mirrored.positions[:, 2] *= -1
    graph = graph_of([hand, mirrored], 2.6)
    energy = {}
    for symmetry in ("O(3)", "SO(3)"):
        energies = Symmetrized(tiny_pet(), symmetry=symmetry)(graph)
        energy[symmetry] = energies[:4].sum(), energies[4:].sum()
    assert float(energy["O(3)"][0]) == pytest.approx(float(energy["O(3)"][1]), rel=1e-13)
    assert abs(float(energy["SO(3)"][0] - energy["SO(3)"][1])) > 1e-5
    mean = 0.5 * (energy["SO(3)"][0] + energy["SO(3)"][1])
    assert float(energy["O(3)"][0]) == pytest.approx(float(mean), rel=1e-13)


@pytest.mark.parametrize("ensemble", ["local", "shared", "global"])
def test_o3_is_the_mean_of_so3_over_both_hands(ensemble: str) -> None:
    """Where pairs and axes compete, each of them counts with its mirror image."""
    angle = np.radians(165)
    bent = Atoms("COH", [[0, 0, 0], [1.4, 0, 0], [1.3 * np.cos(angle), 1.3 * np.sin(angle), 0]])
    hands = [bent.copy() for _ in range(2)]
    hands[1].positions *= -1
    graph = graph_of(hands, 2.2)
    pet = tiny_pet(cutoff=2.2)
    both = Symmetrized(pet, symmetry="O(3)", ensemble=ensemble, weights="smooth")(graph)
    one = Symmetrized(pet, symmetry="SO(3)", ensemble=ensemble, weights="smooth")(graph)
    assert float(both[:3].sum()) == pytest.approx(float(0.5 * one.sum()), rel=1e-13)


@pytest.mark.parametrize("ensemble", ["local", "shared", "global"])
def test_the_memory_budget_changes_only_the_chunks(ensemble: str) -> None:
    graph = graph_of([STRUCTURES["triclinic"], STRUCTURES["atom"], STRUCTURES["molecule"]], 2.2)
    pet = tiny_pet(2, cutoff=2.2)
    results, n_chunks = [], []
    for budget in (1, 100_000, 10**10):
        symmetrized = Symmetrized(pet, ensemble=ensemble, memory_budget=budget)
        results.append(evaluate(symmetrized, graph))
        n_chunks.append(len(symmetrized.ensemble(graph).chunks))
    n_copies = symmetrized.ensemble(graph).n_copies
    assert n_chunks[0] == n_copies > n_chunks[1] > n_chunks[2] == 1
    for energies, gradients, *_ in results[:2]:
        torch.testing.assert_close(energies, results[2][0], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(gradients, results[2][1], rtol=1e-11, atol=1e-11)


def test_chunks_keep_within_the_budget() -> None:
    graph = graph_of([STRUCTURES["cluster"], STRUCTURES["molecule"]], 2.6)
    pet = tiny_pet(2)
    ensemble = Symmetrized(pet, memory_budget=200_000).ensemble(graph)
    widest = int(torch.bincount(graph.centers).max())
    assert len(ensemble.chunks) > 2
    assert [c.start for c in ensemble.chunks[1:]] == [c.stop for c in ensemble.chunks[:-1]]
    assert (ensemble.chunks[0].start, ensemble.chunks[-1].stop) == (0, ensemble.n_copies)
    for part in ensemble.evaluations():
        assert pet.memory(part.n_atoms, widest) <= 200_000 or part.n_copies == 1


def test_coefficients_add_up_to_one() -> None:
    names = ["cluster", "line", "atom", "triclinic"]
    graph = graph_of([STRUCTURES[name] for name in names], 2.6)
    for ensemble in ("local", "shared", "global"):
        found = Symmetrized(tiny_pet(), ensemble=ensemble).ensemble(graph)
        sums = torch.zeros(graph.n_atoms).double().index_add(0, found.readers, found.coefficients)
        torch.testing.assert_close(sums, torch.ones_like(sums))
        assert set(found.reads.tolist()) == set(range(found.n_copies))


def test_structures_without_any_neighbour_need_one_frame() -> None:
    apart = Atoms("CHO", [[0, 0, 0], [30, 0, 0], [0, 30, 0]])
    graph = graph_of([apart, STRUCTURES["atom"]], 2.6)
    for ensemble in ("local", "shared"):
        frames, _ = Symmetrized(tiny_pet(), ensemble=ensemble).frames(graph)
        assert frames.owners.tolist() == [0, 1, 2, 3]
    whole = Symmetrized(tiny_pet(), ensemble="global")
    frames, reads = whole.frames(graph)
    assert frames.owners.tolist() == [0, 3]
    assert reads.frames.tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(whole(graph), tiny_pet()(graph), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("weights", ["smooth", "paper"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_the_local_ensemble_is_size_consistent(weights: str, n_layers: int) -> None:
    both = STRUCTURES["fragments"]
    graph = graph_of([both, both[:5], both[5:]], 2.6)
    energies = Symmetrized(tiny_pet(n_layers), weights=weights)(graph)
    torch.testing.assert_close(energies[:10], energies[10:], rtol=0, atol=1e-13)


def test_it_passes_on_what_the_backbone_is() -> None:
    pet = tiny_pet(2)
    symmetrized = Symmetrized(pet, memory_budget=10**6)
    assert (symmetrized.cutoff, symmetrized.n_layers) == (2.6, 2)
    assert symmetrized.species == SPECIES
    assert symmetrized.memory(1, 10) == 10**6
    assert symmetrized.memory(10**6, 10) == pet.memory(10**6, 10)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"symmetry": "O3"}, r"symmetry: expected one of .*'O\(3\)'.*got 'O3'"),
        ({"symmetry": None}, "symmetry: expected one of"),
        ({"ensemble": "auto"}, "ensemble: expected one of .*'local'"),
        ({"weights": "rough"}, "weights: expected one of 'auto', 'smooth', 'lean', 'paper'"),
        ({"weights": "paper", "ensemble": "shared"}, "weights: those of the paper have no shared"),
        ({"memory_budget": 0}, "memory_budget: expected a positive number, got 0"),
    ],
)
def test_bad_options_are_named(option: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Symmetrized(tiny_pet(), **option)


def test_frames_before_pruning_are_counted() -> None:
    graph = graph_of([STRUCTURES["cluster"]], 2.6)
    pruned = Symmetrized(tiny_pet(), ensemble="global", weights="paper", symmetry="SO(3)").frames(
        graph
    )[0]
    kept = Symmetrized(
        tiny_pet(), ensemble="global", weights=PaperSettings(n_prunings=0), symmetry="SO(3)"
    )
    assert pruned.n_candidates == kept.frames(graph)[0].n_frames > pruned.n_frames


def test_weights_and_energies_are_invariant_where_the_backbone_is_not() -> None:
    atoms = STRUCTURES["cluster"]
    turned = atoms.copy()
    turned.rotate(77.0, (1.0, -2.0, 0.5), rotate_cell=True)
    pet = tiny_pet()
    bare = pet(graph_of([atoms, turned], 2.6)).reshape(2, -1)
    ours = Symmetrized(pet)(graph_of([atoms, turned], 2.6)).reshape(2, -1)
    assert float((bare[0] - bare[1]).abs().min()) > 1e-5
    np.testing.assert_allclose(ours[0], ours[1], rtol=1e-12)
