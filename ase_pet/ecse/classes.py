r"""Rotated copies that are the same: one of each class is evaluated, for all.

In a crystal most copies differ only in how their atoms are numbered: those of equivalent atoms, and
those that the symmetry of a site carries into one another. Copy M is taken for copy P if a map of
its atoms and edges to those of P keeps elements, rotated vectors (within :data:`TOLERANCE`), the
ends of edges, and the relative coefficients of what is read. (Then it keeps the reverses of edges,
too: no two edges of an atom have the same vector.) Messages, energies, and gradients by rotated
vectors are then those of P at the images, up to the sum of the coefficients, and each copy turns
its gradients back by its own rotation. Energy and gradient are what they are without classes.

Copies that may be the same have equal fingerprints, sums over the edges of the atom that made the
frame:

.. math::
    F = l_i + \sum_e \sin(k\cdot R\,r_e + l_j), \qquad
    l_i \leftarrow z_i + \frac{1}{n_i}\sum_e \sin(q\,|r_e| + l_j),

with n the number of edges, z a number for each element, k and q arbitrary, and l = z to begin with.
(Numbers on a grid would part copies that rounding puts on two sides of a line.) The map starts at
that atom and follows the edges of each atom in the order of :math:`k\cdot R\,r_e`. Where a
fingerprint misleads, copies are evaluated one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ase_pet.data import Graph, run_index
from ase_pet.ecse.ensemble import Copies
from ase_pet.ecse.frames import directions
from ase_pet.ecse.segments import segment_sum

#: Å. Far above the rounding of rotated vectors (1e-13 Å if positions are 1000 Å from the origin),
#: and far below displacements that matter: at 100 eV/Å² it changes forces by 1e-8 eV/Å.
TOLERANCE = 1e-10
#: Relative difference of coefficients that is taken for rounding.
_SAME_SHARE = 1e-12
#: Distance of fingerprints up to which they count as equal.
_GAP = 1e-9
#: How often copies that fingerprints misled look for others of their kind.
_ROUNDS = 4
#: k and q, 1/Å: along no symmetry axis, and of no rational ratio to anything.
_DIRECTION = (0.9134172, 1.3478641, 0.6180339)
_RADIAL = 1.7320513
#: Numbers of elements, charges and spins.
_PHASES = (1.6180339, 0.7071067, 2.2360679)


def alike(graph: Graph, rotations: Tensor, owners: Tensor, depth: int) -> Tensor | None:
    """Label copies that may be the same.

    Args:
        graph: Edges sorted by centre.
        rotations: Of copies, [n_copies, 3, 3].
        owners: [n_copies], int64, the atom that made each frame.
        depth: Hops around its neighbours in which atoms tell copies apart.

    Returns:
        [n_copies], int64; ``None`` if no two copies are alike, or in single precision.
    """
    if rotations.dtype != torch.float64 or len(owners) < 2:
        return None
    kinds, degree = _kinds(graph), torch.bincount(graph.centers, minlength=graph.n_atoms)
    labels, phases = kinds, _RADIAL * directions(graph.vectors)[1]
    for _ in range(depth):
        terms = torch.sin(phases + labels[graph.others])
        sums = segment_sum(terms, graph.centers, graph.n_atoms)
        labels = kinds + sums / degree.clamp_min(1)
    counts = degree[owners]
    copy = torch.repeat_interleave(counts)
    edges = (degree.cumsum(0) - degree)[owners][copy] + run_index(counts)
    turned = (rotations.new_tensor(_DIRECTION) @ rotations)[copy]
    terms = torch.sin((turned * graph.vectors[edges]).sum(1) + labels[graph.others[edges]])
    prints = segment_sum(terms, copy, len(owners)) + labels[owners]
    values, order = torch.sort(prints)
    ends = torch.nn.functional.pad(values.diff() > _GAP, (1, 0)).cumsum(0)
    found = torch.empty_like(owners)
    found[order] = ends
    return found if int(ends[-1]) + 1 < len(owners) else None


def _kinds(graph: Graph) -> Tensor:
    """A number for each atom that tells elements, charges and spins of structures apart."""
    kinds = _PHASES[0] * graph.numbers.to(torch.float64)
    for phase, state in zip(_PHASES[1:], (graph.charge, graph.spin), strict=True):
        if state is not None:
            kinds = kinds + phase * state[graph.system_index]
    return kinds


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """What is evaluated of some copies, and whose results each copy takes.

    Attributes:
        graph: The representatives, as one disconnected graph; its vectors are rotated.
        represents: [n_copies], bool, whether a copy is a representative.
        edges: [n_edges], int64, the edge of ``graph`` that is an edge of the copies.
        nodes: [n_nodes], int64, likewise of nodes.
    """

    graph: Graph
    represents: Tensor
    edges: Tensor
    nodes: Tensor


def classify(
    copies: Copies, rotated: Graph, roots: Tensor, labels: Tensor, shares: Tensor
) -> Classes | None:
    """Find the copies that are the same.

    Args:
        copies: Some copies.
        rotated: Their graph, rotated.
        roots: [n_copies], int64, the node from which copies are compared, or -1.
        labels: [n_copies], int64; only copies of equal labels are compared.
        shares: [n_nodes], relative coefficients of the nodes in what is read of their copy.

    Returns:
        ``None`` if there are no two.
    """
    here = torch.arange(len(labels), device=labels.device)
    represents, waiting = torch.ones_like(here, dtype=torch.bool), roots >= 0
    nodes = torch.arange(rotated.n_atoms, device=here.device)
    edges = torch.arange(rotated.n_edges, device=here.device)
    rows = _Rows.of(rotated)
    for _ in range(_ROUNDS):
        leaders = _first(torch.where(waiting, labels, -1 - here))
        if bool((leaders == here).all()):
            break
        image, partner, same = _compare(copies, rotated, rows, roots, leaders, shares)
        joins = same & (leaders != here)
        of_nodes = torch.nonzero(joins[copies.node_copies])[:, 0]
        nodes[of_nodes] = image[of_nodes]
        edges = torch.where(joins[copies.copies], partner, edges)
        represents &= ~joins
        waiting &= ~same
    if bool(represents.all()):
        return None
    carriers = here.new_ones(rotated.n_atoms - len(copies.nodes), dtype=torch.bool)
    kept_nodes = torch.cat([represents[copies.node_copies], carriers])
    kept_edges = represents[copies.copies]
    return Classes(
        _part(rotated, kept_nodes, kept_edges),
        represents,
        (kept_edges.cumsum(0) - 1)[edges],
        (kept_nodes.cumsum(0) - 1)[nodes],
    )


def _first(labels: Tensor) -> Tensor:
    """The first place [n] where each label [n] is found."""
    _, group = torch.unique(labels, return_inverse=True)
    here = torch.arange(len(labels), device=labels.device)
    return torch.full_like(here, len(here)).scatter_reduce(0, group, here, "amin")[group]


class _Rows(NamedTuple):
    """The edges of each node in the order of their vectors along a direction.

    Attributes:
        order: [n_edges], int64, edges, node by node.
        first: [n_nodes], int64, where each node begins.
        place: [n_edges], int64, of each edge among those of its node.
        degree: [n_nodes], int64.
    """

    order: Tensor
    first: Tensor
    place: Tensor
    degree: Tensor

    @staticmethod
    def of(graph: Graph) -> _Rows:
        degree = torch.bincount(graph.centers, minlength=graph.n_atoms)
        first = degree.cumsum(0) - degree
        order = torch.argsort(graph.vectors @ graph.vectors.new_tensor(_DIRECTION))
        order = order[torch.argsort(graph.centers[order], stable=True)]
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        return _Rows(order, first, place - first[graph.centers], degree)


def _compare(
    copies: Copies,
    graph: Graph,
    rows: _Rows,
    roots: Tensor,
    leaders: Tensor,
    shares: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Map copies to their leaders.

    Returns:
        The images [n_nodes] of nodes and [n_edges] of edges, and whether each copy [n_copies] is
        its leader.
    """
    n_members = len(copies.nodes)
    vectors, centers, others = graph.vectors, graph.centers, graph.others
    image = torch.arange(graph.n_atoms, device=roots.device)
    image[:n_members] = -1
    rooted = roots >= 0
    image[roots[rooted]] = roots[leaders[rooted]]
    last = max(graph.n_edges - 1, 0)
    while True:
        known = image[centers] >= 0
        partner = rows.order[(rows.first[image[centers]] + rows.place).clamp_max(last)]
        new = torch.nonzero(known & (image[others] < 0))[:, 0]
        if not len(new):
            break
        image[others[new]] = others[partner[new]]

    at = torch.where(image >= 0, image, 0)
    kinds = _kinds(graph)
    near = (shares - shares[at]).abs() <= _SAME_SHARE
    good_nodes = (image >= 0) & (rows.degree == rows.degree[at]) & (kinds == kinds[at]) & near
    good_edges = (vectors - vectors[partner]).abs().amax(1) <= TOLERANCE
    good_edges &= image[others] == others[partner]
    same = torch.ones_like(rooted)
    same[copies.node_copies[~good_nodes[:n_members]]] = False
    same[copies.copies[~good_edges]] = False
    return image, partner, same


def _part(graph: Graph, nodes: Tensor, edges: Tensor) -> Graph:
    """The graph of some nodes [n_nodes] and all of their edges [n_edges], bool."""
    new_nodes, new_edges = nodes.cumsum(0) - 1, edges.cumsum(0) - 1
    return Graph(
        numbers=graph.numbers[nodes],
        system_index=graph.system_index[nodes],
        n_systems=graph.n_systems,
        centers=new_nodes[graph.centers[edges]],
        others=new_nodes[graph.others[edges]],
        reverse=new_edges[graph.reverse[edges]],
        vectors=graph.vectors[edges],
        charge=graph.charge,
        spin=graph.spin,
        hops=None if graph.hops is None else graph.hops[nodes],
    )
