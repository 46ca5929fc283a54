r"""Weights of the paper's original code.

With b the bump switch, q(x; a, δ) = 1 - b(x; a + δ, δ) and s the squared sine between two edges:

1. inner cutoff: R_in(i) = softmin over pairs of [softmax(r, r') + T] and of the cutoff, plus δ_R,
   a pair counting b(r; R, δ_R) b(r'; R, δ_R) q(s; W, δ_W);  T = W₀(1/e)/β;
2. weight: b(r; R_in, δ_R) b(r'; R_in, δ_R) q(s; W - δ_W, δ_W) (s - W + δ_W)/δ_W;
3. pruning, repeated: w ← w [(1 - t) q(w; p m, δ_p m) + t], m the softmax of the weights with
   themselves as weights, t = b(m₀; 0.5, 0.25) of the first m.

Where the weights fade (m₀ below 0.5) the axis ensemble is blended in with weight b(m₀; 0.5, 0.5).

Source:
    Pozdnyakov & Ceriotti, NeurIPS 2023 (arXiv 2305.19302), appendix on ECSE.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.ecse.axis import axis_scores, compete, complete_axes, fade_out
from ase_pet.ecse.frames import Frames, directions, pair_frames, sine2
from ase_pet.ecse.segments import ordered_pairs, segment_sum, soft_extremum
from ase_pet.ecse.settings import PaperSettings, SmoothSettings
from ase_pet.potentials.cutoffs import bump_switch

#: Lambert W₀(1/e), the solution of w e^w = 1/e.
_LAMBERT = 0.2784645427610738
#: Weights below it are dropped.
_NEGLIGIBLE = 1e-10


def inner_cutoffs(graph: Graph, cutoff: float, settings: PaperSettings) -> Tensor:
    """R_in of each atom, [n_atoms], Å: just beyond its nearest pair of edges that is not parallel.

    Args:
        graph: Edges sorted by centre.
        cutoff: Å.
        settings: Constants of the scheme.
    """
    cutoff = min(cutoff, settings.largest_cutoff)
    u, r = directions(graph.vectors)
    e, f = ordered_pairs(graph.centers, graph.n_atoms)
    e, f = e[e < f], f[e < f]
    fade = bump_switch(r, cutoff, settings.switch_width)
    weight = fade[e] * fade[f] * _rise(sine2(u[e], u[f]), settings.min_sine2, settings.sine2_width)
    both = torch.stack([r[e], r[f]], 1)
    larger = (both * (settings.beta * both).softmax(1)).sum(1) + _LAMBERT / settings.beta
    atoms = torch.arange(graph.n_atoms, device=e.device)
    values = torch.cat([larger, r.new_full((graph.n_atoms,), cutoff)])
    present = weight > 0
    log_weight = torch.where(present, torch.where(present, weight, 1.0).log(), -torch.inf)
    log_weights = torch.cat([log_weight, log_weight.new_zeros(graph.n_atoms)])
    group = torch.cat([graph.centers[e], atoms])
    nearest = soft_extremum(values, log_weights, group, graph.n_atoms, -settings.beta)
    return nearest + settings.switch_width


def paper_frames(
    graph: Graph,
    group: Tensor,
    n_groups: int,
    cutoff: float,
    depth: int | None,
    settings: PaperSettings,
    n_turns: int = 2,
) -> list[Frames]:
    """Pair frames and, where they fade, axis frames.

    Args:
        graph: Edges sorted by centre.
        group: [n_atoms], int64: atoms whose frames compete.
        n_groups: Number of groups.
        cutoff: Å.
        depth: Hops of the receptive field; ``None`` for the whole structure.
        settings: Constants of the scheme.
        n_turns: Turns of axis frames about their axis, see :func:`ase_pet.ecse.axis.complete_axes`.
    """
    r_in = inner_cutoffs(graph, cutoff, settings)
    u, r = directions(graph.vectors)
    fade = bump_switch(r, r_in[graph.centers], settings.switch_width)
    near = torch.nonzero((fade > 0) & (r.detach() < cutoff))[:, 0]
    e, f = ordered_pairs(graph.centers[near], graph.n_atoms)
    e, f = near[e], near[f]
    s = sine2(u[e], u[f])
    begin = settings.min_sine2 - settings.sine2_width
    weights = fade[e] * fade[f] * _rise(s, begin, settings.sine2_width)
    weights = weights * (s - begin) / settings.sine2_width
    keep = weights > 0
    e, f, weights = e[keep], f[keep], weights[keep]

    owner_group = group[graph.centers[e]]
    n_candidates = int((weights > _NEGLIGIBLE).sum())
    top = _softmax_of(weights, owner_group, n_groups, settings)
    axis_weights = bump_switch(top, 0.5, 0.5)
    faded = bump_switch(top, 0.5, 0.25)[owner_group]
    for _ in range(settings.n_prunings):
        m = _softmax_of(weights, owner_group, n_groups, settings)[owner_group]
        kept = _rise(weights, settings.pruning_fraction * m, settings.pruning_width * m)
        weights = weights * ((1.0 - faded) * kept + faded)
    keep = weights > _NEGLIGIBLE
    e, f, weights = e[keep], f[keep], weights[keep]
    pairs = Frames(pair_frames(u[e], u[f]), graph.centers[e], weights, n_candidates)
    return [pairs, _faded_axes(graph, group, axis_weights, cutoff, depth, n_turns)]


def _faded_axes(
    graph: Graph,
    group: Tensor,
    group_weights: Tensor,
    cutoff: float,
    depth: int | None,
    n_turns: int,
) -> Frames:
    """Axis frames whose weights add up to ``group_weights`` [n_groups]."""
    smooth, n_groups = SmoothSettings(), len(group_weights)
    _, r = directions(graph.vectors)
    needed = (group_weights[group[graph.centers]] > 0) & (r.detach() < cutoff)
    edges = torch.nonzero(needed)[:, 0]
    edge_group = group[graph.centers[edges]]
    scores = axis_scores(r[edges], fade_out(r[edges], cutoff, smooth), smooth)
    weights = compete(scores, smooth.axis_window, edge_group, n_groups, smooth.beta)
    weights = weights / segment_sum(weights, edge_group, n_groups)[edge_group]
    weights = weights * group_weights[edge_group]
    used = weights > 0
    return complete_axes(graph, edges[used], weights[used], cutoff, depth, smooth, n_turns)[0]


def _rise(x: Tensor, start: float | Tensor, width: float | Tensor) -> Tensor:
    """q(x; start, width): 0 below start, 1 above start + width."""
    return 1.0 - bump_switch(x, start + width, width)


def _softmax_of(weights: Tensor, group: Tensor, n: int, settings: PaperSettings) -> Tensor:
    """Softmax of weights weighted by themselves, [n_groups]; 0 for a group without any."""
    e = (settings.beta_weights * weights).exp() * weights
    norm = segment_sum(e, group, n)
    return segment_sum(e * weights, group, n) / torch.where(norm > 0, norm, 1.0)
