"""Transformer layers of a ModernPET on some of the atoms, with derivatives written by hand.

What a block leaves in the row of an atom's own token is overwritten by the next block: nodes go
from block to block beside the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from ase_pet.data import run_index
from ase_pet.potentials.pet.modern_layers import Block, FeedForward, MessageLayer
from ase_pet.potentials.pet.pullbacks import (
    Pullback,
    attention,
    glu,
    linear,
    norm_linear,
    normalize,
    perceptron,
    pull_back,
    silu,
)

PairPullback = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
RowsPullback = Callable[[Tensor, Tensor], Tensor]


class Part:
    """Some atoms of a run with their edges, few enough for the caches of a processor.

    Tokens are rows of one array, [n_atoms · n_tokens, d].

    Args:
        atoms: Which.
        edges: Theirs.
        counts: [n_atoms], edges of each.
        geometry: [n_edges, 4], vector and length, Å.
        logarithms: [n_edges], of the cutoff factors: a bias of attention.
        by_geometry: Where gradients with respect to the geometry are added.
        by_logarithms: Likewise.
    """

    def __init__(
        self,
        atoms: slice,
        edges: slice,
        counts: Tensor,
        *,
        geometry: Tensor,
        logarithms: Tensor,
        by_geometry: Tensor,
        by_logarithms: Tensor,
    ) -> None:
        n_tokens = 1 + (int(counts.max()) if len(counts) else 0)
        first = torch.arange(len(counts), device=counts.device) * n_tokens + 1
        self.atoms, self.edges = atoms, edges
        self.shape = (len(counts), n_tokens)
        self.slots = torch.repeat_interleave(first, counts) + run_index(counts)
        bias = logarithms.new_full(self.shape, torch.finfo(logarithms.dtype).min / 4)
        bias[:, 0] = 0.0
        bias.view(-1).index_copy_(0, self.slots, logarithms)
        self.bias = bias[:, None, None, :]
        self.geometry, self.by_geometry = geometry, by_geometry
        self.by_logarithms = by_logarithms

    def layer(
        self,
        layer: MessageLayer,
        nodes: Tensor,
        messages: Tensor,
        neighbors: Tensor,
        first: Tensor | None,
    ) -> tuple[Tensor, Tensor, PairPullback]:
        """A message-passing layer: nodes and messages -> nodes and tokens of the edges.

        The messages of the first layer are rows of a table, ``first``.
        """
        compressed, pull_compressed = self.compress(layer, messages, neighbors, first)
        (n, t), d = self.shape, compressed.shape[1]
        tokens = compressed.new_zeros(n * t, d).index_copy_(0, self.slots, compressed)
        blocks: list[PairPullback] = []
        for block in cast("Iterable[Block]", layer.blocks):
            nodes, tokens, pull_block = self.block(block, nodes, tokens)
            blocks.append(pull_block)

        def pull(by_nodes: Tensor, by_tokens: Tensor) -> tuple[Tensor, Tensor]:
            by_rows = by_tokens.new_zeros(n * t, d).index_copy_(0, self.slots, by_tokens)
            while blocks:
                by_nodes, by_rows = blocks.pop()(by_nodes, by_rows)
            return by_nodes, pull_compressed(by_rows.index_select(0, self.slots))

        return nodes, tokens.index_select(0, self.slots), pull

    def compress(
        self, layer: MessageLayer, messages: Tensor, neighbors: Tensor, first: Tensor | None
    ) -> tuple[Tensor, Pullback]:
        """Tokens of edges, [n_edges, d], of geometry, species and messages.

        What is linear in geometry and species is multiplied out before it meets the edges.
        """
        into, act, out = layer.compress
        assert isinstance(into, nn.Linear)
        d = into.weight.shape[0]
        of_geometry, of_species, of_messages = (into.weight[:, k : k + d] for k in (0, d, 2 * d))
        by_geometry = of_geometry @ layer.coordinates.weight
        bias = torch.addmv(into.bias, of_geometry, layer.coordinates.bias)
        table = first if layer.neighbor_species is None else layer.neighbor_species.weight
        assert table is not None
        x = torch.addmm(bias, table, of_species.t()).index_select(0, neighbors)
        x.addmm_(self.geometry, by_geometry.t())
        if first is None:
            x.addmm_(messages, of_messages.t())
        y, pull = perceptron(x, nn.Sequential(act, out))

        def pull_parts(g: Tensor) -> Tensor:
            g = pull(g)
            self.by_geometry.addmm_(g, by_geometry)
            return g @ of_messages if first is None else g

        return y, pull_parts

    def block(
        self, block: Block, nodes: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor, PairPullback]:
        """A transformer block: nodes [n_atoms, n], and rows, of which own ones are overwritten."""
        narrow = nodes
        if block.wide:
            narrow = block.contract(nodes)
        self.own(tokens).copy_(narrow)
        rows = _pre_norm if block.norm_first else _post_norm
        read, tokens, pull_rows = rows(self, block, tokens)
        pulls: list[Pullback] = []
        if block.wide:
            nodes = block.expand(read).add_(nodes)
            normed, pull_norm = normalize(nodes, block.norm_node)
            hidden = linear(normed, block.node_mlp.w_in.weight, block.node_mlp.w_in.bias)
            step, pulls = _feed_forward(block.node_mlp, hidden)
            nodes, pulls = step.add_(nodes), [pull_norm, *pulls]
        else:
            nodes = read

        def pull(by_nodes: Tensor, by_tokens: Tensor) -> tuple[Tensor, Tensor]:
            by_read = by_nodes
            if block.wide:
                by_nodes = pull_back(pulls, by_nodes).add_(by_nodes)
                by_read = by_nodes @ block.expand.weight
            by_tokens = pull_rows(by_read, by_tokens)
            own = self.own(by_tokens)
            before = (
                torch.addmm(by_nodes, own, block.contract.weight) if block.wide else own.clone()
            )
            own.zero_()
            return before, by_tokens

        return nodes, tokens, pull

    def own(self, rows: Tensor) -> Tensor:
        """The rows of the atoms themselves: a view, [n_atoms, d], of [n_atoms · n_tokens, d]."""
        return rows.view(*self.shape, -1)[:, 0]

    def attend(self, block: Block, qkv: Tensor) -> tuple[Tensor, Pullback]:
        """Attention of rows, and the linear layer after it."""
        n, t = self.shape
        qkv = qkv.view(n, t, -1)
        x, pull_attention = attention(qkv, self.bias, block.n_heads, block.temperature)
        y, pull_out = linear(x.flatten(0, 1), block.out.weight, block.out.bias)

        def pull(g: Tensor) -> Tensor:
            by_qkv, by_bias = pull_attention(pull_out(g))
            self.by_logarithms += by_bias.view(-1).index_select(0, self.slots)
            return by_qkv.flatten(0, 1)

        return y, pull


def _feed_forward(
    mlp: FeedForward, hidden: tuple[Tensor, Pullback]
) -> tuple[Tensor, list[Pullback]]:
    """What follows the first linear layer of a perceptron, from that layer's rows and pullback."""
    h, pull_in = hidden
    a, pull_act = glu(h) if mlp.gated else silu(h)
    y, pull_out = linear(a, mlp.w_out.weight, mlp.w_out.bias)
    return y, [pull_in, pull_act, pull_out]


def _pre_norm(part: Part, block: Block, x: Tensor) -> tuple[Tensor, Tensor, RowsPullback]:
    """Rows through a PreLN block; what the node reads is what attention makes of its own row."""
    qkv, pull_qkv = norm_linear(x, block.norm_attention, block.qkv)
    y, pull_attention = part.attend(block, qkv)
    read = part.own(y).clone()
    x1 = y.add_(x)
    y, pulls = _feed_forward(block.mlp, norm_linear(x1, block.norm_mlp, block.mlp.w_in))

    def pull(by_read: Tensor, g: Tensor) -> Tensor:
        g = pull_back(pulls, g).add_(g)
        part.own(g).copy_(by_read)
        through = pull_qkv(pull_attention(g))
        part.own(g).zero_()  # the sum of the own row goes nowhere
        return through.add_(g)

    return read, y.add_(x1), pull


def _post_norm(part: Part, block: Block, x: Tensor) -> tuple[Tensor, Tensor, RowsPullback]:
    """Rows through a PostLN block; the node reads its own row."""
    qkv, pull_qkv = linear(x, block.qkv.weight, block.qkv.bias)
    y, pull_attention = part.attend(block, qkv)
    x1, pull_first = normalize(y.add_(x), block.norm_attention)
    y, pulls = _feed_forward(block.mlp, linear(x1, block.mlp.w_in.weight, block.mlp.w_in.bias))
    x2, pull_second = normalize(y.add_(x1), block.norm_mlp)

    def pull(by_read: Tensor, g: Tensor) -> Tensor:
        part.own(g).copy_(by_read)
        g = pull_second(g)
        g = pull_first(pull_back(pulls, g).add_(g))
        return pull_qkv(pull_attention(g)).add_(g)

    return part.own(x2).clone(), x2, pull
