"""The competition against its formulas, candidate by candidate."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_pet.data import Graph
from ase_pet.derivatives import evaluate
from ase_pet.ecse import SmoothSettings, Symmetrized
from ase_pet.ecse.axis import compete
from ase_pet.ecse.smooth import smooth_frames
from ase_pet.testing.evaluators import graph_of, potential_evaluator
from ase_pet.testing.paths import crossing
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_pet

S = SmoothSettings()
STRUCTURES = structures(SPECIES)


def step(t: float) -> float:
    t = min(max(t, 0.0), 1.0)
    return 6 * t**5 - 15 * t**4 + 10 * t**3


def softmin(values: list[float], weights: list[float]) -> float:
    terms = [w * math.exp(-S.beta * x) for x, w in zip(values, weights, strict=True)]
    return sum(x * e for x, e in zip(values, terms, strict=True)) / sum(terms)


def expected_weights(graph: Graph, cutoff: float) -> tuple[list[float], list[float]]:
    """Weights of all pairs and axes of a structure whose atoms compete together."""
    r = graph.vectors.norm(dim=1).tolist()
    fade = [step((cutoff - x) / S.fade_width) for x in r]
    shortest = softmin(r, fade)
    near = [step((shortest - x) / S.reach + 1) for x in r]

    def rho(e: int) -> float:
        excess = (r[e] - shortest) / S.reach
        faded = S.edge_penalty * math.log(fade[e]) + S.reach_edge_penalty * math.log(near[e])
        return r[e] + S.reach_penalty * excess**2 - faded

    pairs = []
    for e in range(len(r)):
        for f in range(len(r)):
            if e == f or graph.centers[e] != graph.centers[f] or near[e] * near[f] == 0:
                continue
            cosine = float(graph.vectors[e] @ graph.vectors[f]) / r[e] / r[f]
            score = (1 + S.first_preference) * rho(e) + (1 - S.first_preference) * rho(f)
            penalty = S.angle_penalty * cosine**2 + S.parallel_penalty * cosine**8
            pairs.append(score + penalty)
    axes = [
        2 * (x - S.edge_penalty * math.log(f)) + S.axis_penalty
        for x, f in zip(r, fade, strict=True)
    ]
    best = softmin(pairs + axes, [1.0] * len(pairs + axes))
    return (
        [step(1 + (best - x) / S.window) for x in pairs],
        [step(1 + (best - x) / S.axis_window) for x in axes],
    )


def frames_of(name: str, cutoff: float) -> tuple[Graph, list]:
    graph = graph_of([STRUCTURES[name]], cutoff)
    return graph, smooth_frames(graph, graph.system_index, 1, cutoff, None, S)


@pytest.mark.parametrize("name", ["cluster", "triclinic", "molecule", "bent", "line", "dimer"])
def test_weights(name: str) -> None:
    graph, parts = frames_of(name, 2.9)
    pairs, axes = expected_weights(graph, 2.9)
    expected = np.sort([w for w in pairs if w > 0])
    np.testing.assert_allclose(np.sort(parts[0].weights.numpy()), expected, rtol=1e-9, atol=1e-15)
    found = sum(float(part.weights.sum()) for part in parts[1:])
    assert found == pytest.approx(sum(axes), rel=1e-9, abs=1e-15)
    assert max(pairs + axes) == 1.0


def test_linear_structures_have_axes_only_and_compact_ones_pairs_only() -> None:
    _, line = frames_of("line", 2.9)
    assert line[0].n_frames == 0
    assert line[1].n_frames > 0
    _, crystal = frames_of("one_atom_cell", 2.9)
    assert len(crystal) == 1
    assert crystal[0].n_frames == 24


def test_atoms_compete_alone_or_together() -> None:
    graph = graph_of([STRUCTURES["cluster"]], 2.9)
    alone = smooth_frames(graph, torch.arange(graph.n_atoms), graph.n_atoms, 2.9, 1, S)
    owners = torch.cat([part.owners for part in alone])
    best = torch.zeros(graph.n_atoms, dtype=torch.float64)
    best = best.scatter_reduce(0, owners, torch.cat([part.weights for part in alone]), "amax")
    assert set(owners.tolist()) == set(range(graph.n_atoms))
    assert float(best.min()) > 0.05


def test_edges_beyond_the_cutoff_make_no_frames() -> None:
    symmetrized = Symmetrized(tiny_pet(cutoff=2.2))
    near = graph_of([STRUCTURES["cluster"]], 2.2)
    far = graph_of([STRUCTURES["cluster"]], 4.0)
    assert far.n_edges > near.n_edges
    one, other = symmetrized.frames(near)[0], symmetrized.frames(far)[0]
    torch.testing.assert_close(one.rotations, other.rotations, rtol=0, atol=0)
    torch.testing.assert_close(one.weights, other.weights, rtol=1e-14, atol=0)
    torch.testing.assert_close(symmetrized(near), symmetrized(far), rtol=0, atol=1e-13)


@pytest.mark.parametrize("weights", ["smooth", "paper"])
@pytest.mark.parametrize("ensemble", ["local", "global"])
def test_an_edge_exactly_at_the_cutoff_has_no_gradient(weights: str, ensemble: str) -> None:
    """O-C-O, the ends apart by the cutoff of the network, with a longer one of other terms."""
    symmetrized = Symmetrized(tiny_pet(cutoff=2.25), ensemble=ensemble, weights=weights)
    line = Atoms("OCO", [[-1.125, 0, 0], [0, 0, 0], [1.125, 0, 0]])
    near, far = graph_of([line], 2.2), graph_of([line], 3.0)
    assert float(far.vectors.norm(dim=1).max()) == 2.25
    energies, gradient, *_ = evaluate(symmetrized, far)
    expected, expected_gradient, *_ = evaluate(symmetrized, near)
    torch.testing.assert_close(energies, expected, rtol=0, atol=1e-13)
    inside = far.vectors.norm(dim=1) < 2.2
    torch.testing.assert_close(gradient[inside], expected_gradient, rtol=0, atol=1e-12)
    assert float(gradient[~inside].abs().max()) < 1e-12


@pytest.mark.parametrize("ensemble", ["local", "global"])
def test_an_atom_that_leaves_the_reach_of_the_nearest_is_let_go_gently(ensemble: str) -> None:
    """Without the penalty of distance the force constant here is 5900 eV/Å²."""
    ask = potential_evaluator(Symmetrized(tiny_pet(cutoff=3.2), ensemble=ensemble))
    bare = potential_evaluator(tiny_pet(cutoff=3.2))
    path = crossing(SPECIES, 3.2)
    points = np.arange(2.3, 3.2, 3e-3)

    def stiffest(evaluator) -> float:
        forces = [one.forces for one in evaluator([path(x) for x in points])]
        return max(np.abs(b - a).max() for a, b in itertools.pairwise(forces)) / 3e-3

    assert stiffest(ask) < 10 * stiffest(bare)


def test_a_frame_is_born_with_no_weight() -> None:
    """A pair's weight begins as the cube of how far it is inside the window."""
    lone = torch.zeros(2, dtype=torch.int64)

    def weight(worse: float) -> float:
        scores = torch.tensor([1.0, 1.0 + worse], dtype=torch.float64)
        return float(compete(scores, S.window, lone, 1, S.beta)[1])

    inside, outside = 0.5 * S.window, 2.0 * S.window
    for _ in range(60):
        middle = 0.5 * (inside + outside)
        inside, outside = (middle, outside) if weight(middle) > 0 else (inside, middle)
    assert weight(inside - 2e-3) / weight(inside - 1e-3) == pytest.approx(8.0, rel=0.05)


def test_frames_come_and_go_without_a_jump() -> None:
    path = crossing(SPECIES, 2.9)
    counts, weights = [], []
    for x in np.arange(1.6, 2.9, 0.01):
        graph = graph_of([path(x)], 2.9)
        parts = smooth_frames(graph, graph.system_index, 1, 2.9, None, S)
        counts.append(sum(part.n_frames for part in parts))
        weights.append(sum(float(part.weights.sum()) for part in parts))
    assert len(set(counts)) > 2
    assert np.abs(np.diff(weights)).max() < 0.2
