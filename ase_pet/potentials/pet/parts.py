"""What the hand-written evaluations of all PETs share: atoms in parts, and transformer blocks.

Tokens of a part are rows of one array, [n_atoms · n_tokens, d]: for each atom its own, then those
of its edges, padded to the longest. Atoms of similar numbers of neighbours are together, so that
little is padded, and so few that their rows stay in the caches of a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ase_pet.data import Graph, run_index
from ase_pet.potentials.pet.pullbacks import (
    Pullback,
    attention,
    linear,
    norm_weight,
    normalize,
    perceptron,
)

#: Rows that are evaluated together.
ROWS = 2048

#: From gradients by what the atoms' own rows say, if anybody reads it, and by rows to one by rows.
RowsPullback = Callable[[Tensor | None, Tensor], Tensor]


class TransformerBlock(Protocol):
    """Weights of attention and of a perceptron, with a norm for each."""

    n_heads: int
    temperature: float
    norm_first: bool
    qkv: nn.Linear
    out: nn.Linear
    norm_attention: nn.Module
    norm_mlp: nn.Module

    @property
    def layers(self) -> tuple[nn.Linear, nn.Module, nn.Linear]:
        """The perceptron: a linear layer, an activation, a linear layer."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """Atoms in the order of evaluation: by hops, then by number of neighbours, most first.

    Atoms that no layer evaluates are left out.

    Attributes:
        atoms: [n], atoms of the graph.
        edges: [n_edges], edges of the graph.
        centers: [n_edges], in this order.
        others: [n_edges], as in the graph.
        reverse: [n_edges], in this order; an edge whose reverse is left out points to itself.
        places: [edges of the graph], where each is in this order; n_edges if it is left out.
        runs: [n_edges], place of each among the edges of its atom.
        counts: [n], edges of each atom.
        shells: [n_shells + 1], the first atom of each number of hops.
    """

    atoms: Tensor
    edges: Tensor
    centers: Tensor
    others: Tensor
    reverse: Tensor
    places: Tensor
    runs: Tensor
    counts: Tensor
    shells: list[int]

    @staticmethod
    def of(graph: Graph, depth: int) -> Arrangement:
        """Arrange the atoms less than ``depth`` hops away from one whose energy is read."""
        counts = torch.bincount(graph.centers, minlength=graph.n_atoms)
        first = counts.cumsum(0) - counts
        if graph.hops is None:
            atoms, shells = torch.argsort(counts, descending=True, stable=True), [0, graph.n_atoms]
        else:
            within = torch.bincount(graph.hops, minlength=depth)[:depth].cumsum(0)
            shells = [0, *within.tolist()]
            keys = graph.hops[: shells[-1]] * (graph.n_edges + 1) - counts[: shells[-1]]
            atoms = torch.argsort(keys, stable=True)
        counts = counts[atoms]
        centers = torch.repeat_interleave(counts)
        here = torch.arange(len(centers), device=centers.device)
        runs = here - (counts.cumsum(0) - counts)[centers]
        edges = first[atoms][centers].add_(runs)
        places = torch.full_like(graph.reverse, len(edges)).index_copy_(0, edges, here)
        reverse = places[graph.reverse[edges]]
        reverse = torch.where(reverse < len(edges), reverse, here)
        others = graph.others[edges]
        return Arrangement(atoms, edges, centers, others, reverse, places, runs, counts, shells)

    def divide(self) -> Iterator[tuple[int, slice, slice]]:
        """Parts of the atoms: hops, range of atoms and range of edges."""
        ends = [0, *self.counts.cumsum(0).tolist()]
        for hop, (start, stop) in enumerate(zip(self.shells, self.shells[1:], strict=False)):
            while start < stop:
                longest = 1 + ends[start + 1] - ends[start]
                n_parts = -(-(stop - start) // max(1, ROWS // longest))
                end = start + -(-(stop - start) // n_parts)
                yield hop, slice(start, end), slice(ends[start], ends[end])
                start = end


class Part:
    """Some atoms with their edges, few enough for the caches of a processor.

    Args:
        hop: How far they are from atoms whose energies are read.
        atoms: Which.
        edges: Theirs.
        arrangement: Of all.
        logarithms: [n_edges], to base 2, of the cutoff factors: a bias of attention.
        by_logarithms: Where gradients with respect to natural ones are added.
        read: [n_edges], whether anybody reads what the last block makes of an edge; None if all
            are read.
    """

    def __init__(
        self,
        hop: int,
        atoms: slice,
        edges: slice,
        arrangement: Arrangement,
        *,
        logarithms: Tensor,
        by_logarithms: Tensor,
        read: Tensor | None,
    ) -> None:
        self.hop, self.atoms, self.edges = hop, atoms, edges
        counts = arrangement.counts[atoms]
        n, t = len(counts), 1 + int(counts[0])
        self.shape = (n, t)
        self.centers = arrangement.centers[edges] - atoms.start
        self.slots = (self.centers * t).add_(arrangement.runs[edges]).add_(1)
        # For each row its edge or, beyond the edges, the atom that it belongs to.
        rows = torch.arange(n, device=counts.device).add_(len(self.slots)).repeat_interleave(t)
        here = torch.arange(len(self.slots), device=counts.device)
        self.sources = rows.index_copy_(0, self.slots, here)
        self.logarithms, self.by_logarithms = logarithms, by_logarithms
        self.read: Tensor | None = None
        self.queries: Tensor | None = None
        if read is not None:
            self._ask(read.nonzero().flatten())

    def _ask(self, read: Tensor) -> None:
        """Lay out the rows of edges that are read in padded rows of their own."""
        (n, t), device = self.shape, read.device
        wanted = torch.bincount(self.centers[read], minlength=n)
        m = 1 + int(wanted.max())
        first = torch.arange(n, device=device) * m + 1
        self.read, self.places = read, torch.repeat_interleave(first, wanted) + run_index(wanted)
        own = torch.arange(n, device=device) * t
        queries = own.repeat_interleave(m)
        self.queries = queries.index_copy_(0, self.places, self.slots[read])

    def rows(self, of_edges: Tensor, own: Tensor | None = None) -> Tensor:
        """Values [n_edges, d] of edges in padded rows, [n_atoms · n_tokens, d].

        Args:
            of_edges: Values.
            own: Those of the atoms, [n_atoms, d]; zero without.
        """
        if own is None:
            return with_zero(of_edges).index_select(0, self.sources.clamp_max(len(of_edges)))
        return torch.cat([of_edges, own]).index_select(0, self.sources)

    def own(self, rows: Tensor) -> Tensor:
        """The rows of the atoms themselves: a view, [n_atoms, d], of [n_atoms · n_tokens, d]."""
        return rows.view(*self.shape, -1)[:, 0]

    def bias(self, block: TransformerBlock, *, central: bool) -> Tensor:
        """Base-2 logarithms of factors for each head, [n_atoms · n_heads, 1, n_tokens]."""
        low = torch.finfo(self.logarithms.dtype).min / 4
        bias = self.logarithms.new_full(self.shape, low)
        if central:
            bias[:, 0] = 0.0
        bias.view(-1).index_copy_(0, self.slots, self.logarithms)
        return bias.repeat_interleave(block.n_heads, 0).unsqueeze(1)

    def attend(
        self, block: TransformerBlock, x: Tensor, weight: Tensor, bias: Tensor, *, last: bool
    ) -> tuple[Tensor, Pullback]:
        """Attention of rows [n, d] with the linear layers before and after it.

        Args:
            block: The rest of the weights.
            x: Rows.
            weight: [3 d, d], of queries, keys and values.
            bias: See :meth:`bias`.
            last: Only those rows ask that are read.
        """
        (n, t), h, d = self.shape, block.n_heads, x.shape[1]
        queries = self.queries if last else None

        def heads(rows: Tensor, kinds: int) -> Tensor:
            """[n · tokens, kinds · d] -> [kinds, n · h, tokens, d / h]."""
            rows = rows.view(n, -1, kinds, h, d // h).permute(2, 0, 3, 1, 4)
            return rows.reshape(kinds, n * h, -1, d // h)

        def rows(heads: Tensor) -> Tensor:
            """The way back."""
            kinds = len(heads)
            tokens = heads.view(kinds, n, h, -1, d // h).permute(1, 3, 0, 2, 4)
            return tokens.reshape(-1, kinds * d)

        if queries is None:
            q, k, v = made = heads(nn.functional.linear(x, weight, block.qkv.bias), 3)
        else:
            asking = x.index_select(0, queries)
            q = heads(nn.functional.linear(asking, weight[:d], block.qkv.bias[:d]), 1)[0]
            k, v = made = heads(nn.functional.linear(x, weight[d:], block.qkv.bias[d:]), 2)
        out, pull_attention = attention(q, k, v, bias, block.temperature)
        y, pull_out = linear(rows(out.unsqueeze(0)), block.out.weight, block.out.bias)

        def pull(g: Tensor) -> Tensor:
            by_made, g = torch.empty_like(made), heads(pull_out(g), 1)[0]
            if queries is None:
                by_bias = pull_attention(g, by_made.unbind())
                by_x = torch.mm(rows(by_made), weight)
            else:
                by_q = torch.empty_like(q)
                by_bias = pull_attention(g, (by_q, *by_made))
                by_x = rows(by_made) @ weight[d:]
                by_x.index_add_(0, queries, rows(by_q.unsqueeze(0)) @ weight[:d])
            by_bias = by_bias.view(n, h, t).sum(1).view(-1)
            self.by_logarithms += by_bias.index_select(0, self.slots)
            return by_x

        return y, pull

    def transform(
        self, block: TransformerBlock, x: Tensor, bias: Tensor, *, node: bool, last: bool
    ) -> tuple[Tensor | None, Tensor, RowsPullback]:
        """Rows through a block.

        Args:
            block: The weights.
            x: Rows [n, d].
            bias: See :meth:`bias`.
            node: Whether a node reads its own row; its residual and perceptron are not those of
                the rows then.
            last: Only those rows are made that are read: those of :attr:`queries`.

        Returns:
            What nodes read, rows, and a pullback.
        """
        make = self._pre_norm if block.norm_first else self._post_norm
        return make(block, x, bias, node=node, last=last and self.queries is not None)

    def _pre_norm(
        self, block: TransformerBlock, x: Tensor, bias: Tensor, *, node: bool, last: bool
    ) -> tuple[Tensor | None, Tensor, RowsPullback]:
        """What a node reads is what attention makes of its own row."""
        normed, weight, pull_norm = norm_weight(x, block.norm_attention, block.qkv.weight)
        y, pull_attention = self.attend(block, normed, weight, bias, last=last)
        read = self.own(y).clone() if node else None
        x1 = y.add_(self._asking(x, last=last))
        into, act, out = block.layers
        normed, weight_in, pull_mlp_norm = norm_weight(x1, block.norm_mlp, into.weight)
        y, pull_mlp = perceptron(nn.functional.linear(normed, weight_in, into.bias), (act, out))

        def pull(by_read: Tensor | None, g: Tensor) -> Tensor:
            g = pull_mlp_norm(torch.mm(pull_mlp(g), weight_in)).add_(g)
            if by_read is None:
                return self._add(pull_norm(pull_attention(g)), g, last=last)
            self.own(g).copy_(by_read)
            through = pull_norm(pull_attention(g))
            self.own(g).zero_()  # the sum of the own row goes nowhere
            return through.add_(g)

        return read, y.add_(x1), pull

    def _post_norm(
        self, block: TransformerBlock, x: Tensor, bias: Tensor, *, node: bool, last: bool
    ) -> tuple[Tensor | None, Tensor, RowsPullback]:
        """The node reads its own row."""
        y, pull_attention = self.attend(block, x, block.qkv.weight, bias, last=last)
        x1, pull_first = normalize(y.add_(self._asking(x, last=last)), block.norm_attention)
        y, pull_mlp = perceptron(x1, block.layers)
        x2, pull_second = normalize(y.add_(x1), block.norm_mlp)

        def pull(by_read: Tensor | None, g: Tensor) -> Tensor:
            if by_read is not None:
                self.own(g).copy_(by_read)
            g = pull_second(g)
            g = pull_first(pull_mlp(g).add_(g))
            return self._add(pull_attention(g), g, last=last)

        return self.own(x2).clone() if node else None, x2, pull

    def _asking(self, x: Tensor, *, last: bool) -> Tensor:
        """The rows that go on."""
        return x.index_select(0, self.queries) if last and self.queries is not None else x

    def _add(self, rows: Tensor, g: Tensor, *, last: bool) -> Tensor:
        """Add gradients of the rows that went on."""
        if last and self.queries is not None:
            return rows.index_add_(0, self.queries, g)
        return rows.add_(g)

    def edges_of(self, rows: Tensor, *, last: bool) -> Tensor:
        """Rows of the edges, [n_edges, d]; zero where nobody reads them."""
        if not last or self.read is None:
            return rows.index_select(0, self.slots)
        edges = rows.new_zeros(len(self.slots), rows.shape[1])
        return edges.index_copy_(0, self.read, rows.index_select(0, self.places))

    def rows_of(self, g: Tensor, *, last: bool) -> Tensor:
        """The way back of gradients by rows of the edges."""
        if not last or self.read is None:
            return self.rows(g)
        assert self.queries is not None
        rows = g.new_zeros(len(self.queries), g.shape[1])
        return rows.index_copy_(0, self.places, g.index_select(0, self.read))


def with_zero(rows: Tensor) -> Tensor:
    """Rows [n, ...] and one of zeros after them."""
    return torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])


def join(parts: list[Tensor]) -> Tensor:
    """Rows of parts, one after the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
