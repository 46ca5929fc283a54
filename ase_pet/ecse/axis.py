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


def fade_out(r: Tensor, cutoff: float, settings: SmoothSettings) -> Tensor:
    """Factor [n_edges] with which an edge of length r [n_edges], Å, takes part near the cutoff."""
    return smooth_step((cutoff - r) / settings.fade_width)


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
    u, r = directions(graph.vectors)
    owners = graph.centers[first]
    fade = fade_out(r, cutoff, settings)
    inside = fade > 0
    # Two ``where``: neither the logarithm of 0 nor its derivative is ever formed.
    log_fade = torch.where(inside, torch.where(inside, fade, 1.0).log(), -torch.inf)
    axis, second, length, faded = _reachable(graph, owners, r, log_fade, depth)
    s = sine2(u[first[axis]], u[second])
    usable = ~parallel(s) & torch.isfinite(faded)
    axis, second, length, faded, s = (x[usable] for x in (axis, second, length, faded, s))
    scores = length - settings.edge_penalty * faded - settings.sine_penalty * s.log()
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


def _reachable(
    graph: Graph, owners: Tensor, r: Tensor, log_fade: Tensor, depth: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Edges that an axis may take its second direction from.

    Args:
        graph: Edges sorted by centre.
        owners: [n_axes], the atom of each axis.
        r: [n_edges], Å.
        log_fade: [n_edges].
        depth: Hops, or ``None`` for all edges of the structure.

    Returns:
        For each candidate: index of its axis, its edge, length of the walk to its end (Å), and
        the logarithm of the walk's fade factor.
    """
    atom_degree = torch.bincount(graph.centers, minlength=graph.n_atoms)
    axes = torch.arange(len(owners), device=owners.device)
    if depth is None:
        group = graph.system_index
        degree = segment_sum(atom_degree, group, graph.n_systems)
        start = (degree.cumsum(0) - degree)[group[owners]]
        axis = torch.repeat_interleave(axes, degree[group[owners]])
        edge = start[axis] + run_index(degree[group[owners]])
        return axis, edge, r[edge], log_fade[edge]
    first_edge = atom_degree.cumsum(0) - atom_degree
    axis, atom = axes, owners
    length, faded = r.new_zeros(len(owners)), r.new_zeros(len(owners))
    found = []
    for _ in range(depth):
        parent = torch.repeat_interleave(atom_degree[atom])
        edge = first_edge[atom][parent] + run_index(atom_degree[atom])
        axis, length = axis[parent], length[parent] + r[edge]
        faded = faded[parent] + log_fade[edge]
        atom = graph.others[edge]
        found.append((axis, edge, length, faded))
    return tuple(torch.cat(column) for column in zip(*found, strict=True))  # type: ignore[return-value]
