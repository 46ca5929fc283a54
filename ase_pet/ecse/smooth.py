r"""Weights by a smooth competition of pairs and axes.

Every ordered pair of edges (e, e') of an atom gets a score in Å, the lower the better,

.. math::
    x = (1+\nu)\,\rho_e + (1-\nu)\,\rho_{e'} + \lambda c + \lambda_4 c^4, \qquad
    \rho = r + \mu h^2 - \kappa \ln f - \kappa' \ln f',

with c the squared cosine between the edges, h how much longer than the shortest an edge is, in
units of the reach, f a factor that fades at the cutoff, and f' one for h near 1. (The term with h
makes a pair lose the competition gently, long before f' ends it.) Every edge alone competes as an
axis with x = 2ρ + Δ, without the terms with h. The mirror image of a pair, with the other sign of
n, is a candidate of its own.

Distances and angles leave many candidates alike, in crystals above all. They are told apart by
where other neighbours lie: with v the sum of the directions to all of them, weighted by their
distance, and q = (1, ±s, s)/√3 along a diagonal of the pair's coordinate system (s the sine of its
angle, the sign that of its hand),

.. math::
    x \to x - s^2 f_e f_{e'}\; q\cdot g(v) R v - p(v), \qquad
    g = \frac{\gamma}{\sqrt{1 + \gamma^2 v^2/G^2}}, \qquad
    p = \frac{\Gamma v^2}{1 + \Gamma v^2/P};

p, for pairs and axes, tells apart what different atoms propose where they compete.

The weight is smooth_step(1 + (S - x)/D), S the soft minimum of the scores of all candidates that
compete: 1 for the best, 0 for those worse by D or more. The scheme never looks at absolute
distances, so it needs no inner cutoff, loses no precision in sparse environments, and passes from
pairs to axes over a wide range of angles. Frames are born and die with zero weight and two
continuous derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.ecse.axis import axis_scores, compete, complete_axes, fade_out
from ase_pet.ecse.frames import Frames, directions, mirror_images, pair_frames, sine2
from ase_pet.ecse.segments import ordered_pairs, segment_sum, soft_extremum
from ase_pet.ecse.settings import SmoothSettings
from ase_pet.potentials.cutoffs import smooth_step


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Pairs of edges, and after them single edges, that compete to be coordinate systems.

    Attributes:
        first: [n], int64, the edge along the first axis.
        second: [n_pairs], int64, the other edge of each pair.
        mirrored: [n_pairs], bool, whether the mirror image is meant.
        owners: [n], int64, the atom whose edges they are.
        scores: [n], Å, the lower the better.
        windows: [n], Å by which each may be worse than the best.
        counts: [n], how many alike each stands for: an axis for its mirror image, too.
    """

    first: Tensor
    second: Tensor
    mirrored: Tensor
    owners: Tensor
    scores: Tensor
    windows: Tensor
    counts: Tensor

    def pairs(self, which: Tensor, vectors: Tensor) -> Tensor:
        """Coordinate systems [n_which, 3, 3] of some of the pairs."""
        u, _ = directions(vectors)
        systems = pair_frames(u[self.first[which]], u[self.second[which]])
        mirrored = self.mirrored[which]
        return torch.where(mirrored[:, None, None], mirror_images(systems), systems)


def candidates(
    graph: Graph,
    group: Tensor,
    n_groups: int,
    cutoff: float,
    settings: SmoothSettings,
    *,
    mirror: bool,
) -> Candidates:
    """All candidates of a graph with their scores.

    Args:
        graph: Edges sorted by centre.
        group: [n_atoms], int64: atoms whose shortest edge sets the reach.
        n_groups: Number of groups.
        cutoff: Å.
        settings: Constants of the competition.
        mirror: Whether mirror images of pairs are candidates, too.
    """
    u, r = directions(graph.vectors)
    present = torch.nonzero(r.detach() < cutoff)[:, 0]
    u, r, centers = u[present], r[present], graph.centers[present]
    edge_group = group[centers]
    fade = fade_out(r, cutoff, settings)
    shortest = soft_extremum(r, fade.log(), edge_group, n_groups, -settings.beta)
    near_fade = smooth_step((shortest[edge_group] - r) / settings.reach + 1.0)
    taking = fade * near_fade

    near = torch.nonzero(taking > 0)[:, 0]
    excess = (r[near] - shortest[edge_group[near]]) / settings.reach
    rho = r[near] + settings.reach_penalty * excess.square()
    rho = rho - settings.edge_penalty * fade[near].log()
    rho = rho - settings.reach_edge_penalty * near_fade[near].log()
    e, f = ordered_pairs(centers[near], graph.n_atoms)
    nu = settings.first_preference
    scores = (1.0 + nu) * rho[e] + (1.0 - nu) * rho[f]
    e, f = near[e], near[f]
    cosine2 = 1.0 - sine2(u[e], u[f])
    scores = scores + settings.angle_penalty * cosine2 + settings.parallel_penalty * cosine2**4
    hands = [scores, scores] if mirror else [scores]
    prominence = r.new_zeros(graph.n_atoms)
    if settings.preference > 0:
        toward, prominence = _surroundings(graph, present, u, r, fade, settings)
        within, across = _along_diagonal(u[e], u[f], toward[centers[e]])
        fading = (1.0 - cosine2) * taking[e] * taking[f]
        hands = [
            score - fading * (within + sign * across) - prominence[centers[e]]
            for score, sign in zip(hands, (1.0, -1.0), strict=False)
        ]
    alone = axis_scores(r, fade, settings) + settings.axis_penalty - prominence[centers]
    n_pairs = len(hands) * len(e)
    windows = r.new_full((n_pairs + len(r),), settings.window, requires_grad=False)
    windows[n_pairs:] = settings.axis_window
    counts = torch.ones_like(windows)
    counts[n_pairs:] = len(hands)
    first = present[torch.cat([e] * len(hands))]
    return Candidates(
        first=torch.cat([first, present]),
        second=present[torch.cat([f] * len(hands))],
        mirrored=torch.arange(n_pairs, device=e.device) >= len(e),
        owners=torch.cat([graph.centers[first], centers]),
        scores=torch.cat([*hands, alone]),
        windows=windows,
        counts=counts,
    )


def _surroundings(
    graph: Graph, present: Tensor, u: Tensor, r: Tensor, fade: Tensor, settings: SmoothSettings
) -> tuple[Tensor, Tensor]:
    """Where the neighbours of atoms lie, and how prominent this makes an atom.

    Args:
        graph: Edges sorted by centre.
        present: [n_present], int64, edges within the cutoff.
        u: Their directions, [n_present, 3].
        r: Their lengths, [n_present], Å.
        fade: Their factors at the cutoff, [n_present].
        settings: Constants of the competition.

    Returns:
        g v, [n_atoms, 3], and p, [n_atoms], Å.
    """
    weights = fade * torch.exp(-(r / settings.preference_range).square())
    toward = segment_sum(weights[:, None] * u, graph.centers[present], graph.n_atoms)
    squares = toward.square().sum(1)
    gain = settings.preference
    gained = gain / (1.0 + squares * (gain / settings.largest_preference) ** 2).sqrt()
    squares = settings.prominence * squares
    prominence = squares / (1.0 + squares / settings.largest_prominence)
    return gained[:, None] * toward, prominence


def _along_diagonal(u: Tensor, v: Tensor, toward: Tensor) -> tuple[Tensor, Tensor]:
    """Part [n] of vectors along the diagonal of pairs' systems: in their plane, and across it."""
    cross = torch.linalg.cross(u, v)
    third = torch.linalg.cross(u, cross)
    return ((u + third) * toward).sum(1) / 3**0.5, (cross * toward).sum(1) / 3**0.5


def smooth_frames(
    graph: Graph,
    group: Tensor,
    n_groups: int,
    cutoff: float,
    depth: int | None,
    settings: SmoothSettings,
    n_turns: int = 2,
    *,
    mirror: bool = False,
) -> list[Frames]:
    """Pair frames and axis frames with their weights.

    Args:
        graph: Edges sorted by centre.
        group: [n_atoms], int64: atoms whose frames compete.
        n_groups: Number of groups.
        cutoff: Å.
        depth: Hops of the receptive field; ``None`` for the whole structure.
        settings: Constants of the competition.
        n_turns: Turns of axis frames about their axis, see :func:`complete_axes`.
        mirror: Whether mirror images are wanted, too.
    """
    found = candidates(graph, group, n_groups, cutoff, settings, mirror=mirror)
    competitors = group[found.owners]
    where = (competitors, n_groups, settings.beta, found.counts)
    weights = compete(found.scores, found.windows, *where)
    kept = torch.nonzero(weights > 0)[:, 0]
    n_pairs = len(found.second)
    kept, axes = kept[kept < n_pairs], kept[kept >= n_pairs]
    systems = found.pairs(kept, graph.vectors)
    pairs = Frames(systems, found.owners[kept], weights[kept], len(kept))
    if not len(axes):
        return [pairs]
    axis_part, _ = complete_axes(
        graph, found.first[axes], weights[axes], cutoff, depth, settings, n_turns
    )
    return [pairs, axis_part.with_mirror_images() if mirror else axis_part]
