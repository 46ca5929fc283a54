r"""Axis ensemble: coordinate systems for environments without a good pair of edges.

The first axis is an edge; the second comes from an edge e' of the receptive field, chosen with a
weight that depends on ratios of squared sines only, so that it has a limit when all edges become
parallel to the axis. Each frame is averaged with its half turn about the axis: terms linear in the
distance from the axis cancel, so the energy and the forces are continuous through collinearity.
Where every edge is parallel to the axis, the environment looks the same in any second axis; a
vector that is turned back then has no component across the axis, and with quarter turns a matrix
has none that tells two directions across it apart.

Second edges compete smoothly by

.. math:: y = d + r' - \kappa \ln f - \lambda \ln s,

with d + r' the length of the walk from the atom to the end of e', f the product of the fade factors
of its edges at the cutoff, and s the squared sine between e' and the axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.data import Graph, run_index
from ase_pet.ecse.frames import Frames, axis_frames, directions, pair_frames, parallel, sine2
from ase_pet.ecse.segments import segment_sum, soft_extremum
from ase_pet.ecse.settings import SmoothSettings
from ase_pet.potentials.cutoffs import smooth_step

#: Turns about the first axis: none, half, and the two quarters.
_TURNS = (
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
    ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
    ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
)

#: Candidates whose share in a soft minimum is e to the minus this are lost in rounding.
_UNHEARD = 40.0


def fade_out(r: Tensor, cutoff: float, settings: SmoothSettings) -> Tensor:
    """Factor [n_edges] with which an edge of length r [n_edges], Å, takes part near the cutoff.

    The slope of its logarithm goes to infinity there, where energies no longer depend on the edge.
    In the last 1e-8 of the cutoff (float64) it is left out, which is as small an error as what
    rounding, times that slope, would leave of the forces.
    """
    steep = cutoff - r < torch.finfo(r.dtype).eps ** 0.5 * cutoff
    return smooth_step((cutoff - torch.where(steep, r.detach(), r)) / settings.fade_width)


def compete(
    scores: Tensor,
    windows: float | Tensor,
    group: Tensor,
    n_groups: int,
    beta: float,
    counts: Tensor | None = None,
) -> Tensor:
    """Weights of candidates by how much they score worse than the best of their group.

    Args:
        scores: [n], Å, the lower the better.
        windows: Å by which each may be worse than the best, [n] or one for all.
        group: [n], int64.
        n_groups: Number of groups.
        beta: Sharpness of the soft minimum, 1/Å.
        counts: [n], how many alike each stands for, if not for itself alone.

    Returns:
        [n], 1 for the best of each group, exactly 0 beyond the window, with two continuous
        derivatives.
    """
    alike = torch.zeros_like(scores) if counts is None else counts.log()
    best = soft_extremum(scores, alike, group, n_groups, -beta)
    return smooth_step(1.0 + (best[group] - scores) / windows)


def axis_scores(r: Tensor, fade: Tensor, settings: SmoothSettings) -> Tensor:
    """Scores [n_edges], Å, of edges as first axes: short and not fading."""
    return 2.0 * (r - settings.edge_penalty * fade.log())


def complete_axes(
    graph: Graph,
    first: Tensor,
    weights: Tensor,
    cutoff: float,
    depth: int | None,
    settings: SmoothSettings,
    n_turns: int = 2,
) -> tuple[Frames, Tensor]:
    """Give first axes their second ones, with turns about the axis.

    Args:
        graph: Edges sorted by centre.
        first: [n_axes], int64, the edges that are first axes.
        weights: [n_axes], not negative.
        cutoff: Å.
        depth: Hops of the receptive field; ``None`` for the whole structure.
        settings: Constants of the competition.
        n_turns: 2 for half turns, 4 for quarter turns.

    Returns:
        Frames whose weights add up to ``weights``, and the axis [n_frames], int64, of each.
    """
    u, _ = directions(graph.vectors)
    owners = graph.centers[first]
    axis, second, scores = _second_edges(graph, first, cutoff, depth, settings)
    share = compete(scores, settings.second_window, axis, len(first), settings.beta)
    keep = share > 0
    axis, second, share = axis[keep], second[keep], share[keep]
    norm = segment_sum(share, axis, len(first))
    linear = norm == 0
    rotations = torch.cat([pair_frames(u[first[axis]], u[second]), axis_frames(u[first[linear]])])
    owners = torch.cat([owners[axis], owners[linear]])
    shares = torch.cat([weights[axis] * share / norm[axis], weights[linear]]) / n_turns
    turns = rotations.new_tensor(_TURNS[:n_turns])
    frames = Frames(
        (turns[:, None] @ rotations).flatten(0, 1),
        owners.repeat(n_turns),
        shares.repeat(n_turns),
        len(axis),
    )
    return frames, torch.cat([axis, torch.nonzero(linear)[:, 0]]).repeat(n_turns)


def _second_edges(
    graph: Graph, first: Tensor, cutoff: float, depth: int | None, settings: SmoothSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Edges that axes may take their second direction from, one for each walk to it.

    Args:
        graph: Edges sorted by centre.
        first: [n_axes], int64, the edges that are first axes.
        cutoff: Å.
        depth: Hops, or ``None`` for all edges of the structure.
        settings: Constants of the competition.

    Returns:
        For each candidate: index of its axis, its edge, and its score, Å.
    """
    u, r = directions(graph.vectors)
    fade = fade_out(r, cutoff, settings)
    inside = fade > 0
    # Two ``where``: neither the logarithm of 0 nor its derivative is ever formed.
    log_fade = torch.where(inside, fade, 1.0).log()
    steps = torch.where(inside, r - settings.edge_penalty * log_fade, torch.inf)

    def scored(axis: Tensor, edge: Tensor, walked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = sine2(u[first[axis]], u[edge])
        usable = ~parallel(s) & torch.isfinite(walked)
        axis, edge, walked, s = (x[usable] for x in (axis, edge, walked, s))
        return axis, edge, walked - settings.sine_penalty * s.log()

    if depth is None:
        axis, edge = _all_edges(graph, graph.system_index[graph.centers[first]])
        return scored(axis, edge, steps[edge])
    axis, atom = torch.arange(len(first), device=first.device), graph.centers[first]
    degree = torch.bincount(graph.centers, minlength=graph.n_atoms)
    first_edge = degree.cumsum(0) - degree
    walked, found = r.new_zeros(len(first)), []
    best = r.detach().new_full((len(first),), torch.inf)
    for _ in range(depth):
        parent = torch.repeat_interleave(degree[atom])
        edge = first_edge[atom][parent] + run_index(degree[atom])
        axis, walked = axis[parent], walked[parent] + steps[edge]
        found.append(scored(axis, edge, walked))
        best = best.scatter_reduce(0, found[-1][0], found[-1][2].detach(), "amin")
        # Walks only get longer: their number would grow as a power of the depth.
        hopeful = walked.detach() < best[axis] + settings.second_window + _UNHEARD / settings.beta
        axis, atom, walked = (x[hopeful] for x in (axis, graph.others[edge], walked))
    return tuple(torch.cat(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


def _all_edges(graph: Graph, systems: Tensor) -> tuple[Tensor, Tensor]:
    """All edges of structures [n]: the place in that list, and the edge, of each."""
    degree = torch.bincount(graph.system_index[graph.centers], minlength=graph.n_systems)
    start = degree.cumsum(0) - degree
    place = torch.repeat_interleave(degree[systems])
    return place, start[systems][place] + run_index(degree[systems])
