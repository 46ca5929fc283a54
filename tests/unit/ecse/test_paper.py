"""The weights against their formulas, written down pair by pair."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ase_pet.data import Graph
from ase_pet.ecse import PaperSettings, Symmetrized
from ase_pet.ecse.paper import inner_cutoffs, paper_frames
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_pet

S = PaperSettings()
STRUCTURES = structures(SPECIES)


def switch(r: float, end: float, width: float) -> float:
    t = 2 * (r - end + width / 2) / width
    if abs(t) >= 1:
        return float(t < 0)
    return 0.5 + 0.5 * math.tanh(1 / (t + 1) + 1 / (t - 1))


def rise(x: float, start: float, width: float) -> float:
    return 1 - switch(x, start + width, width)


def environments(graph: Graph) -> Iterator[tuple[int, np.ndarray]]:
    for atom in range(graph.n_atoms):
        yield atom, graph.vectors[graph.centers == atom].numpy()


def squared_sine(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.cross(a / np.linalg.norm(a), b / np.linalg.norm(b)) ** 2).sum())


def expected_inner_cutoff(vectors: np.ndarray, outer: float) -> float:
    found = [(outer, 1.0)]
    for a, b in itertools.combinations(vectors, 2):
        x, y = np.linalg.norm(a), np.linalg.norm(b)
        softmax = (x * math.exp(5 * x) + y * math.exp(5 * y)) / (math.exp(5 * x) + math.exp(5 * y))
        weight = switch(x, outer, 0.15) * switch(y, outer, 0.15)
        # T = W₀(1/e)/β, with W₀ the solution of w exp(w) = 1/e.
        found.append(
            (softmax + 0.2784645427610738 / 5, weight * rise(squared_sine(a, b), 0.2, 0.15))
        )
    terms = [(x, w * math.exp(-5 * (x - outer))) for x, w in found]
    return sum(x * w for x, w in terms) / sum(w for _, w in terms) + 0.15


def expected_weights(graph: Graph, cutoff: float) -> list[float]:
    """Weights of all pairs of all atoms before pruning."""
    found = []
    for _, vectors in environments(graph):
        r_in = expected_inner_cutoff(vectors, cutoff)
        for a, b in itertools.permutations(vectors, 2):
            s = squared_sine(a, b)
            weight = switch(np.linalg.norm(a), r_in, 0.15) * switch(np.linalg.norm(b), r_in, 0.15)
            found.append(weight * rise(s, 0.05, 0.15) * (s - 0.05) / 0.15)
    return [w for w in found if w > 1e-10]


def softmax_of(weights: list[float]) -> float:
    total = sum(math.exp(w) * w for w in weights)
    return sum(math.exp(w) * w * w for w in weights) / total


@pytest.mark.parametrize("name", ["cluster", "triclinic", "bulk", "line", "dimer", "atom"])
def test_inner_cutoffs(name: str) -> None:
    graph = graph_of([STRUCTURES[name]], 3.0)
    found = inner_cutoffs(graph, 3.0, S)
    for atom, vectors in environments(graph):
        assert float(found[atom]) == pytest.approx(expected_inner_cutoff(vectors, 3.0), rel=1e-12)


def test_the_outer_cutoff_is_at_most_the_largest_one() -> None:
    graph = graph_of([STRUCTURES["dimer"]], 12.0)
    assert inner_cutoffs(graph, 12.0, S).tolist() == pytest.approx([10.15, 10.15])
    wider = PaperSettings(largest_cutoff=11.0)
    assert inner_cutoffs(graph, 12.0, wider).tolist() == pytest.approx([11.15, 11.15])


@pytest.mark.parametrize("name", ["cluster", "triclinic", "molecule"])
def test_weights_before_and_after_pruning(name: str) -> None:
    graph = graph_of([STRUCTURES[name]], 3.0)
    weights = expected_weights(graph, 3.0)
    top = softmax_of(weights)
    assert top > 1.0
    kept = weights
    for _ in range(4):
        m = softmax_of(kept)
        t = switch(top, 0.5, 0.25)
        kept = [w * ((1 - t) * rise(w, 0.9 * m, 0.1 * m) + t) for w in kept]
        kept = [w for w in kept if w > 1e-10]
    frames, axes = paper_frames(graph, graph.system_index, 1, 3.0, None, S)
    assert axes.n_frames == 0
    assert frames.n_candidates == len(weights)
    assert frames.n_frames == len(kept) < len(weights)
    np.testing.assert_allclose(np.sort(frames.weights.numpy()), np.sort(kept), rtol=1e-9)


def test_without_pruning_all_pairs_stay() -> None:
    graph = graph_of([STRUCTURES["cluster"]], 3.0)
    settings = PaperSettings(n_prunings=0)
    frames, _ = paper_frames(graph, graph.system_index, 1, 3.0, None, settings)
    expected = np.sort(expected_weights(graph, 3.0))
    np.testing.assert_allclose(np.sort(frames.weights.numpy()), expected, rtol=1e-9)
    assert frames.n_candidates == frames.n_frames


def test_atoms_prune_alone_or_together() -> None:
    graph = graph_of([STRUCTURES["cluster"]], 3.0)
    atoms = torch.arange(graph.n_atoms)
    alone, _ = paper_frames(graph, atoms, graph.n_atoms, 3.0, 1, S)
    together, _ = paper_frames(graph, graph.system_index, 1, 3.0, None, S)
    assert set(alone.owners.tolist()) == set(range(graph.n_atoms))
    assert alone.n_frames > together.n_frames


@pytest.mark.parametrize(
    ("degrees", "pairs", "axes"), [(100.0, True, False), (160.0, True, True), (175.0, False, True)]
)
def test_axes_take_over_where_pairs_fade(degrees: float, pairs: bool, axes: bool) -> None:
    water = molecule("H2O")
    water.set_angle(1, 0, 2, degrees)
    graph = graph_of([water], 3.0)
    first, second = paper_frames(graph, graph.system_index, 1, 3.0, None, S)
    assert bool(first.n_frames) == pairs
    assert bool(second.n_frames) == axes
    top = softmax_of(expected_weights(graph, 3.0)) if pairs else 0.0
    assert float(second.weights.sum()) == pytest.approx(switch(top, 0.5, 0.5), abs=1e-12)


def test_edges_beyond_the_cutoff_make_no_frames() -> None:
    atoms = Atoms("COH", [[0, 0, 0], [2.0, 0, 0], [0.3, 3.05, 0]])
    symmetrized = Symmetrized(tiny_pet(cutoff=3.0), weights="paper")
    near, far = graph_of([atoms], 3.0), graph_of([atoms], 4.0)
    assert far.n_edges > near.n_edges
    one, other = symmetrized.frames(near)[0], symmetrized.frames(far)[0]
    assert one.n_frames == other.n_frames
    torch.testing.assert_close(one.rotations, other.rotations, rtol=0, atol=0)
    torch.testing.assert_close(symmetrized(near), symmetrized(far), rtol=0, atol=1e-14)
