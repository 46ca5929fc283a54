r"""What all PETs share: edge tokens in padded rows, and attention that fades at the cutoff.

.. math::
    \alpha_{qj} = \frac{f_j\, e^{s_{qj}}}{\sum_l f_l\, e^{s_{ql}}}, \quad
    s_{qj} = \frac{q\cdot k_j}{T\sqrt{d}}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ase_pet.data import Graph, lengthen, run_index

#: Å² under the root of a distance, and what keeps averages finite without neighbours.
TINY = 1e-15


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Edges laid out in rows, one for each atom, padded to the longest.

    Attributes:
        slots: [n_edges], place of an edge in the flattened rows; ``None`` if every slot has its
            edge.
        n_slots: Length of a row: the largest number of neighbours.
        factors: [n_atoms, n_slots], cutoff factors, 0 where padded.
    """

    slots: Tensor | None
    n_slots: int
    factors: Tensor

    @staticmethod
    def build(graph: Graph, factors: Tensor) -> Rows:
        """Lay out the edges of a graph with their cutoff factors [n_edges]."""
        counts = torch.bincount(graph.centers, minlength=graph.n_atoms)
        n_slots = int(counts.max()) if graph.n_atoms else 0
        slots = graph.centers * n_slots + run_index(counts)
        padded = factors.new_zeros(graph.n_atoms * n_slots).index_put((slots,), factors)
        return Rows(slots, n_slots, padded.view(graph.n_atoms, n_slots))

    def pad(self, edge_values: Tensor) -> Tensor:
        """[n_edges, d] -> [n_atoms, n_slots, d]."""
        n_atoms, d = self.factors.shape[0], edge_values.shape[1]
        if self.slots is None:
            return edge_values.view(n_atoms, self.n_slots, d)
        flat = edge_values.new_zeros(n_atoms * self.n_slots, d)
        return flat.index_put((self.slots,), edge_values).view(n_atoms, self.n_slots, d)

    def unpad(self, rows: Tensor) -> Tensor:
        """[n_atoms, n_slots, d] -> [n_edges, d]."""
        flat = rows.reshape(-1, rows.shape[2])
        return flat if self.slots is None else flat[self.slots]

    def bias(self, *, central: bool) -> Tensor:
        """Logarithms of the factors, [n_atoms, 1, 1, n_tokens], to be added to scores.

        f e^s = e^(s + ln f): a factor becomes a bias of the softmax. Padding gets a very low one.

        Args:
            central: Whether a central token, whose factor is 1, comes before those of the edges.
        """
        factors = self.factors
        if central:
            factors = torch.cat([factors.new_ones(len(factors), 1), factors], 1)
        present = factors > 0
        low = torch.full_like(factors, torch.finfo(factors.dtype).min / 4)
        logarithms = torch.where(present, factors, 1.0).log()
        return torch.where(present, logarithms, low)[:, None, None, :]


@dataclass(frozen=True, slots=True, eq=False)
class Environments:
    """What a PET is given: all that depends on the data has been decided.

    Attributes:
        vectors: [n_edges, 3], Å, in the network's dtype.
        species: [n_atoms], rows of tables.
        others: [n_edges], the atom at the end of each edge.
        reverse: [n_edges], the edge the other way.
        rows: Their layout, with cutoff factors.
        added: [n_atoms, n], to the nodes after each layer.
    """

    vectors: Tensor
    species: Tensor
    others: Tensor
    reverse: Tensor
    rows: Rows
    added: Tensor | None = None

    def pack(self, enlarge: Callable[[int], int]) -> tuple[Tensor | None, ...]:
        """The same in plain tensors of full rows, whose shapes are two sizes that differ.

        Slots without an edge get one of no length and of factor 0, whose reverse is itself, and
        atoms are added that have no other edges: nothing that is real hears of them.

        Args:
            enlarge: The size to which a number of atoms, or of slots, is padded.

        Returns:
            vectors [n, s, 3], factors [n, s], species [n], others [n, s], reverse [n, s] and
            added [n, d], if any, of at least two atoms and slots.
        """
        n_atoms, old = self.rows.factors.shape
        n, s = enlarge(max(2, n_atoms)), enlarge(max(2, old))
        s += s == n  # a compiler takes sizes for one that are the same at first
        assert self.rows.slots is not None
        slots = self.rows.slots + (s - old) * (self.rows.slots // max(1, old))
        itself = torch.arange(n * s, device=slots.device)
        added = self.added if self.added is None else lengthen(self.added, n)
        return (
            self.vectors.new_zeros(n * s, 3).index_copy(0, slots, self.vectors).view(n, s, 3),
            nn.functional.pad(self.rows.factors, (0, s - old, 0, n - n_atoms)),
            lengthen(self.species, n),
            torch.zeros_like(itself).index_copy(0, slots, self.others).view(n, s),
            itself.index_copy(0, slots, slots[self.reverse]).view(n, s),
            added,
        )

    @staticmethod
    def unpack(
        vectors: Tensor,
        factors: Tensor,
        species: Tensor,
        others: Tensor,
        reverse: Tensor,
        added: Tensor | None,
    ) -> Environments:
        """From what :meth:`pack` returns, without a look at any number."""
        rows = Rows(None, factors.shape[1], factors)
        flat = (tensor.flatten(0, 1) for tensor in (vectors, others, reverse))
        of_edges, ends, back = flat
        return Environments(of_edges, species, ends, back, rows, added)


def lengths(vectors: Tensor) -> Tensor:
    """Lengths [n_edges, 1] of edges, differentiable at 0, Å."""
    return torch.sqrt((vectors * vectors).sum(1, keepdim=True) + TINY)


def attend(qkv: Tensor, bias: Tensor, n_heads: int, temperature: float = 1.0) -> Tensor:
    """Attention of every token of a row to all of its row.

    Args:
        qkv: Queries, keys and values side by side, [n_atoms, n_tokens, 3 d].
        bias: [n_atoms, 1, 1, n_tokens], see :meth:`Rows.bias`.
        n_heads: Divides d.
        temperature: Divides the scores.

    Returns:
        [n_atoms, n_tokens, d].
    """
    n, t, width = qkv.shape
    d_head = width // (3 * n_heads)
    q, k, v = qkv.view(n, t, 3, n_heads, d_head).permute(2, 0, 3, 1, 4)
    scores = (q * (d_head**-0.5 / temperature)) @ k.transpose(-1, -2)
    alpha = (scores + bias).softmax(-1)
    out: Tensor = (alpha @ v).transpose(1, 2).reshape(n, t, n_heads * d_head)
    return out


def keep_edges(graph: Graph, kept: Tensor) -> Graph:
    """The same atoms with some of their edges.

    Args:
        graph: Edges sorted by centre.
        kept: [n_kept], which, increasing. An edge whose reverse is not kept points to itself.
    """
    here = torch.arange(len(kept), device=kept.device)
    place = torch.full_like(graph.reverse, -1).index_copy_(0, kept, here)
    back = place[graph.reverse[kept]]
    return replace(
        graph,
        centers=graph.centers[kept],
        others=graph.others[kept],
        reverse=torch.where(back < 0, here, back),
        vectors=graph.vectors.index_select(0, kept),
        shifts=None,  # no network looks at them
    )
