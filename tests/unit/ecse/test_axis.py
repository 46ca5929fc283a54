from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.ecse import SmoothSettings, Symmetrized, axis
from ase_pet.ecse.axis import compete, complete_axes, fade_out
from ase_pet.ecse.frames import directions, sine2
from ase_pet.testing.evaluators import graph_of, potential_evaluator
from ase_pet.testing.paths import bending
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, tiny_pet

S = SmoothSettings(edge_penalty=0.1)  # weaker, so that several second edges stay
STRUCTURES = structures(SPECIES)


def axes_of(graph: Graph, edges: list[int], depth: int | None):
    weights = torch.arange(1.0, 1.0 + len(edges), dtype=torch.float64)
    return weights, complete_axes(graph, torch.tensor(edges), weights, 2.6, depth, S)[0]


@pytest.mark.parametrize("depth", [1, 2, None])
@pytest.mark.parametrize("name", ["molecule", "line", "triclinic"])
def test_each_axis_keeps_its_weight_in_pairs_of_half_turns(name: str, depth: int | None) -> None:
    graph = graph_of([STRUCTURES[name]], 2.6)
    weights, frames = axes_of(graph, [0, 3], depth)
    assert float(frames.weights.sum()) == pytest.approx(float(weights.sum()))
    n = frames.n_frames // 2
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(frames.rotations[n:], half_turn @ frames.rotations[:n])
    assert torch.equal(frames.weights[n:], frames.weights[:n])
    assert torch.equal(frames.owners[n:], frames.owners[:n])
    u, _ = directions(graph.vectors[[0, 3]])
    for rotation in frames.rotations:
        assert float((rotation[0] - u).norm(dim=1).min()) < 1e-14


def walks(graph: Graph, atom: int, depth: int) -> list[tuple[int, float, float]]:
    """Last edge, length and fade factor of every walk of at most ``depth`` edges."""
    found, ends = [], [(atom, 0.0, 1.0)]
    r = graph.vectors.norm(dim=1)
    fade = fade_out(r, 2.6, S)
    for _ in range(depth):
        longer = [
            (e, length + float(r[e]), f * float(fade[e]))
            for at, length, f in ends
            for e in torch.nonzero(graph.centers == at).flatten().tolist()
        ]
        found += longer
        ends = [(int(graph.others[e]), length, f) for e, length, f in longer]
    return found


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_second_edges_compete_by_walk_and_angle(depth: int) -> None:
    graph = graph_of([STRUCTURES["cluster"]], 2.6)
    first = int(torch.argmin(graph.vectors.norm(dim=1)))
    frames = axes_of(graph, [first], depth)[1]
    u, _ = directions(graph.vectors)
    candidates = []
    for e, length, fade in walks(graph, int(graph.centers[first]), depth):
        s = float(sine2(u[[first]], u[[e]]))
        if s > 1e-15:
            y = length - S.edge_penalty * np.log(fade) - S.sine_penalty * np.log(s)
            candidates.append((e, y))
    scores = torch.tensor([y for _, y in candidates], dtype=torch.float64)
    group = torch.zeros(len(scores), dtype=torch.int64)
    shares = compete(scores, S.second_window, group, 1, S.beta)
    shares = shares / shares.sum()
    expected = sorted(0.5 * float(s) for s in shares if s > 0)
    assert len(expected) > 1
    np.testing.assert_allclose(sorted(frames.weights[: frames.n_frames // 2]), expected, rtol=1e-9)


def test_walks_that_matter_to_nobody_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are 18 to the power of the depth."""
    counts: list[int] = []

    def counted(u: Tensor, v: Tensor) -> Tensor:
        counts[-1] += len(u)
        return sine2(u, v)

    monkeypatch.setattr(axis, "sine2", counted)
    graph, found = graph_of([STRUCTURES["bulk"]], 2.6), []
    for depth in (3, 5):
        counts.append(0)
        found.append(axes_of(graph, [0, 3], depth)[1].weights)
    torch.testing.assert_close(*found)
    assert counts[1] < 18 * counts[0]


def test_a_linear_environment_needs_no_second_edge() -> None:
    graph = graph_of([STRUCTURES["line"]], 2.6)
    _, frames = axes_of(graph, [0], 2)
    assert frames.n_frames == 2
    bent_elsewhere = Atoms("OCOH", [[0, 0, 0], [1.4, 0, 0], [2.8, 0, 0], [3.4, 0.8, 0]])
    graph = graph_of([bent_elsewhere], 1.5)
    near, far = axes_of(graph, [0], 1)[1], axes_of(graph, [0], None)[1]
    assert near.n_candidates == 0
    assert far.n_candidates > 0


def test_compete_gives_the_best_one_and_the_rest_by_the_window() -> None:
    scores = torch.tensor([1.0, 1.1, 1.6, 3.0, 7.0], dtype=torch.float64)
    group = torch.tensor([0, 0, 0, 0, 2])
    weights = compete(scores, 0.8, group, 3, 1e3)
    t = np.array([1.0, 1 - 0.1 / 0.8, 1 - 0.6 / 0.8, 0.0, 1.0])
    np.testing.assert_allclose(weights, 6 * t**5 - 15 * t**4 + 10 * t**3, rtol=1e-12, atol=1e-12)
    wide = compete(scores, torch.tensor([0.8, 0.8, 0.8, 8.0, 0.8]).double(), group, 3, 1e3)
    assert float(wide[3]) > 0.5


@pytest.mark.parametrize("weights", ["smooth", "paper"])
@pytest.mark.parametrize(("n_atoms", "n_layers"), [(3, 1), (4, 2)])
def test_forces_are_exact_however_near_to_a_line(weights: str, n_atoms: int, n_layers: int) -> None:
    """Rounding divided by the sine of the angle must not reach the forces."""
    path = bending(SPECIES, n_atoms=n_atoms)
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    for ensemble in ("local", "global"):
        symmetrized = Symmetrized(tiny_pet(n_layers), ensemble=ensemble, weights=weights)
        ask = potential_evaluator(symmetrized)
        straight = ask([path(0.0)])[0]
        assert float(np.abs(straight.forces).max()) > 0.01
        for x in 10.0 ** np.arange(-13, -3):
            turned = path(x)
            turned.positions = turned.positions @ turn.T
            ours, other = ask([path(x), turned])
            assert other.energy == pytest.approx(ours.energy, rel=1e-13)
            np.testing.assert_allclose(other.forces, ours.forces @ turn.T, rtol=0, atol=1e-7)
            np.testing.assert_allclose(ours.forces, straight.forces, rtol=0, atol=10 * x + 1e-7)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_line_far_from_the_origin_is_a_line(n_layers: int) -> None:
    line = STRUCTURES["line"]
    far = line.copy()
    far.positions += 1e4 * np.array([0.3, -0.5, 0.8])
    ours, other = potential_evaluator(Symmetrized(tiny_pet(n_layers)))([line, far])
    np.testing.assert_allclose(other.forces, ours.forces, rtol=0, atol=1e-10)
