r"""The shared ensemble: coordinate systems that serve the atoms around them.

All candidates that atoms make (:mod:`ase_pet.ecse.smooth`) compete for every atom i, distant ones
with a penalty. With A the fade factors of edges between atoms, the affinity

.. math:: B = (1 + A)^h

counts the walks of at most h hops from one to another, and falls to zero with two continuous
derivatives as the last of them breaks. Periodic images are atoms of their own, so that nothing
depends on the choice of the cell; an atom adds up what it gives to the images of a candidate.
Candidate c of atom a has for atom i the score and weight

.. math::
    x_{ic} = x_c + \eta \ln\left(1 + \frac{1}{B_{ia}}\right), \qquad
    w_{ic} = \mathrm{smooth\_step}\left(1 + \frac{S_i - x_{ic}}{D}\right),

S the soft minimum of the scores. Neighbours choose the same coordinate systems nearly always, so
that a network is evaluated in few of them, each time for all atoms that chose one. Nothing more
than h hops away matters: fragments far apart have the sum of their energies, and the cost is linear
in the number of atoms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.data import Graph, run_index
from ase_pet.ecse.axis import complete_axes, fade_out
from ase_pet.ecse.frames import Frames, Reads, directions
from ase_pet.ecse.segments import segment_sum, soft_extremum
from ase_pet.ecse.settings import SmoothSettings
from ase_pet.ecse.smooth import Candidates, candidates
from ase_pet.potentials.cutoffs import smooth_step

#: Make one number of a lattice translation, additive like it and unique for half a million cells.
_DIGITS = (1 << 40, 1 << 20, 1)


def affinities(graph: Graph, fade: Tensor, hops: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the walks of at most ``hops`` edges from an atom to the image of another.

    Args:
        graph: Edges sorted by centre.
        fade: A, [n_edges], the factor of each edge.
        hops: h.

    Returns:
        Atoms i and a [n_pairs] of B, int64, sorted by i, and its values; one pair for each
        image of a.
    """
    n = graph.n_atoms
    used = torch.nonzero(fade > 0)[:, 0]
    centers, others, factors = graph.centers[used], graph.others[used], fade[used]
    step = torch.zeros_like(others)
    if graph.shifts is not None:
        step = (graph.shifts[used] * graph.shifts.new_tensor(_DIGITS)).sum(1)
    degree = torch.bincount(centers, minlength=n)
    first_edge = degree.cumsum(0) - degree
    start = end = torch.arange(n, device=centers.device)
    image, values = torch.zeros_like(start), fade.new_ones(n)
    for _ in range(hops):
        walk = torch.repeat_interleave(degree[end])
        edge = first_edge[end][walk] + run_index(degree[end])
        images, image = torch.unique(
            torch.cat([image, image[walk] + step[edge]]), return_inverse=True
        )
        keys = torch.cat([start * n + end, start[walk] * n + others[edge]]) * len(images) + image
        keys, pair = torch.unique(keys, return_inverse=True)
        values = segment_sum(torch.cat([values, values[walk] * factors[edge]]), pair, len(keys))
        image, keys = images[keys % len(images)], keys // len(images)
        start, end = keys // n, keys % n
    return start, end, values


def serve(graph: Graph, found: Candidates, cutoff: float, settings: SmoothSettings) -> Reads:
    """Let the candidates of all atoms compete for each atom.

    Args:
        graph: Edges sorted by centre.
        found: The candidates.
        cutoff: Å.
        settings: Constants of the competition.

    Returns:
        The candidates (in place of frames) that each atom reads.
    """
    n, beta = graph.n_atoms, settings.beta
    fade = fade_out(directions(graph.vectors)[1], cutoff, settings)
    atoms, owners, walks = affinities(graph, fade, settings.shared_hops)
    near = settings.distance_penalty * (1.0 / walks).log1p()

    # The soft minimum over an owner's candidates first: all pairs of atoms times theirs are many.
    best = found.scores.detach().new_full((n,), torch.inf)
    best = best.scatter_reduce(0, found.owners, found.scores.detach(), "amin")
    share = found.counts * torch.exp(beta * (best[found.owners] - found.scores))
    norm = segment_sum(share, found.owners, n)
    some = norm > 0
    norm = torch.where(some, norm, 1.0)
    mean = segment_sum(share * found.scores, found.owners, n) / norm
    mass = torch.where(some, norm.log() + beta * (mean - best), -torch.inf)
    mean = torch.where(some, mean, 0.0)
    lowest = soft_extremum(mean[owners] + near, mass[owners], atoms, n, -beta)

    # First who may be read by anybody, then by whom: few are left of all combinations.
    reach = (found.scores - found.windows).detach()
    needed = (lowest[atoms] - near).detach()
    most = needed.new_full((n,), -torch.inf).scatter_reduce(0, owners, needed, "amax")
    chosen = torch.nonzero(reach < most[found.owners])[:, 0]
    chosen = chosen[torch.argsort(found.owners[chosen], stable=True)]
    counts = torch.bincount(found.owners[chosen], minlength=n)
    first = counts.cumsum(0) - counts
    bound = needed.new_full((n,), torch.inf)
    bound = bound.scatter_reduce(0, found.owners[chosen], reach[chosen], "amin")
    pairs = torch.nonzero(bound[owners] < needed)[:, 0]
    pair = torch.repeat_interleave(pairs, counts[owners[pairs]])
    which = chosen[first[owners[pair]] + run_index(counts[owners[pairs]])]
    excess = found.scores[which] + near[pair] - lowest[atoms[pair]]
    weights = smooth_step(1.0 - excess / found.windows[which])
    kept = torch.nonzero(weights > 0)[:, 0]
    keys, read = torch.unique(which[kept] * n + atoms[pair[kept]], return_inverse=True)
    return Reads(keys // n, keys % n, segment_sum(weights[kept], read, len(keys)))


def shared_frames(
    graph: Graph,
    cutoff: float,
    n_layers: int,
    settings: SmoothSettings,
    n_turns: int = 2,
    *,
    mirror: bool,
) -> tuple[Frames, Reads]:
    """Frames of a graph, and who reads them.

    Args:
        graph: Edges sorted by centre.
        cutoff: Å.
        n_layers: Hops of the receptive field.
        settings: Constants of the competition.
        n_turns: Turns of axis frames about their axis, see :func:`complete_axes`.
        mirror: Whether mirror images are wanted, too.
    """
    atoms = torch.arange(graph.n_atoms, device=graph.numbers.device)
    found = candidates(graph, atoms, graph.n_atoms, cutoff, settings, mirror=mirror)
    reads = serve(graph, found, cutoff, settings)
    used, counts = torch.unique_consecutive(reads.frames, return_counts=True)
    n_pairs = len(found.second)
    pairs, axes = used[used < n_pairs], used[used >= n_pairs]
    served = torch.arange(len(pairs), device=used.device)
    ones = reads.weights.new_ones(len(used), requires_grad=False)
    systems = found.pairs(pairs, graph.vectors)
    frames = Frames(systems, found.owners[pairs], ones[: len(pairs)], len(pairs))
    if len(axes):
        # Readers see farther than the atom that made the axis.
        depth = n_layers + settings.shared_hops
        where = (graph, found.first[axes], ones[len(pairs) :], cutoff, depth, settings, n_turns)
        completed, axis = complete_axes(*where)
        if mirror:
            completed, axis = completed.with_mirror_images(), axis.repeat(2)
        frames = Frames.cat([frames, completed])
        served = torch.cat([served, len(pairs) + axis])
    of_read = torch.repeat_interleave(counts[served])
    read = (counts.cumsum(0) - counts)[served][of_read] + run_index(counts[served])
    weights = frames.weights[of_read] * reads.weights[read]
    return frames, Reads(of_read, reads.atoms[read], weights)
