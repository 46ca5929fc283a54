r"""Weights by a smooth competition of pairs and axes.

Every ordered pair of edges (e, e') of an atom gets a score in Å, the lower the better,

.. math::
    x = (1+\nu)\,\rho_e + (1-\nu)\,\rho_{e'} + \lambda c + \lambda_4 c^4,
    \qquad \rho = r + \mu h^2 - \kappa \ln f,

with c the squared cosine between the edges, h how much longer than the shortest an edge is, in
units of the reach, and f a factor that fades at the cutoff and for h near 1. (The term with h makes
a pair lose the competition gently, long before f ends it.) Every edge alone competes as an axis
with x = 2ρ + Δ, without the term with h. The weight is smooth_step(1 + (S - x)/D), S the soft
minimum of the scores of all candidates that compete: 1 for the best, 0 for those worse by D or
more. The scheme never looks at absolute distances, so it needs no inner cutoff, loses no precision
in sparse environments, and passes from pairs to axes over a wide range of angles. Frames are born
and die with zero weight and two continuous derivatives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.ecse.axis import axis_scores, compete, complete_axes, fade_out
from ase_pet.ecse.frames import Frames, directions, pair_frames, sine2
from ase_pet.ecse.segments import ordered_pairs, soft_extremum
from ase_pet.ecse.settings import SmoothSettings
from ase_pet.potentials.cutoffs import smooth_step


def smooth_frames(
    graph: Graph,
    group: Tensor,
    n_groups: int,
    cutoff: float,
    depth: int | None,
    settings: SmoothSettings,
    n_turns: int = 2,
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
    """
    u, r = directions(graph.vectors)
    present = torch.nonzero(r.detach() < cutoff)[:, 0]
    u, r, centers = u[present], r[present], graph.centers[present]
    edge_group = group[centers]
    fade = fade_out(r, cutoff, settings)
    shortest = soft_extremum(r, fade.log(), edge_group, n_groups, -settings.beta)
    near_fade = smooth_step((shortest[edge_group] - r) / settings.reach + 1.0)

    near = torch.nonzero(near_fade > 0)[:, 0]
    excess = (r[near] - shortest[edge_group[near]]) / settings.reach
    rho = r[near] + settings.reach_penalty * excess.square()
    rho = rho - settings.edge_penalty * (fade[near] * near_fade[near]).log()
    e, f = ordered_pairs(centers[near], graph.n_atoms)
    nu = settings.first_preference
    pair_scores = (1.0 + nu) * rho[e] + (1.0 - nu) * rho[f]
    e, f = near[e], near[f]
    cosine2 = 1.0 - sine2(u[e], u[f])
    pair_scores = pair_scores + settings.angle_penalty * cosine2
    pair_scores = pair_scores + settings.parallel_penalty * cosine2**4

    alone = axis_scores(r, fade, settings) + settings.axis_penalty
    scores = torch.cat([pair_scores, alone])
    windows = torch.cat(
        [
            torch.full_like(pair_scores, settings.window, requires_grad=False),
            torch.full_like(alone, settings.axis_window, requires_grad=False),
        ]
    )
    competitors = torch.cat([edge_group[e], edge_group])
    weights = compete(scores, windows, competitors, n_groups, settings.beta)
    pair_weights, axis_weights = weights[: len(e)], weights[len(e) :]

    kept = torch.nonzero(pair_weights > 0)[:, 0]
    e, f = e[kept], f[kept]
    pairs = Frames(pair_frames(u[e], u[f]), centers[e], pair_weights[kept], len(kept))
    axes = torch.nonzero(axis_weights > 0)[:, 0]
    if not len(axes):
        return [pairs]
    axis_part = complete_axes(
        graph, present[axes], axis_weights[axes], cutoff, depth, settings, n_turns
    )
    return [pairs, axis_part]
