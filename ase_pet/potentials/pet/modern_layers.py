"""Parts of the PET that metatrain trains: transformer blocks, message-passing layers, heads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.electrostatics import Electrostatics
from ase_pet.potentials.pet.modern_hypers import ModernPETHypers
from ase_pet.potentials.pet.tokens import Rows, attend


class FeedForward(nn.Module):
    r"""Perceptron of one hidden layer.

    .. math:: W'\,\mathrm{SiLU}(W x) \quad\text{or, gated,}\quad W' (v\,\sigma(g)), \; (v, g) = W x

    Args:
        width: Of input and output.
        hidden: Of the hidden layer.
        gated: Whether it is gated (which metatrain calls SwiGLU).
    """

    def __init__(self, width: int, hidden: int, *, gated: bool) -> None:
        super().__init__()
        self.w_in = nn.Linear(width, 2 * hidden if gated else hidden)
        self.act = nn.GLU() if gated else nn.SiLU()
        self.w_out = nn.Linear(hidden, width)

    @property
    def layers(self) -> tuple[nn.Linear, nn.Module, nn.Linear]:
        """One after the other."""
        return self.w_in, self.act, self.w_out

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        out: Tensor = self.w_out(self.act(self.w_in(x)))
        return out


class Block(nn.Module):
    """One transformer block over the tokens of an atom: its own, and those of its edges.

    The central token may be wider than the others: it is contracted before and expanded after, and
    has a residual and a perceptron of its own. If it is not, it is what the block makes of the
    tokens, in a PreLN block what attention alone makes of them.
    """

    def __init__(self, hypers: ModernPETHypers) -> None:
        super().__init__()
        d, n = hypers.d_model, hypers.d_node
        gated = hypers.activation == "SwiGLU"
        norm = nn.RMSNorm if hypers.normalization == "RMSNorm" else nn.LayerNorm
        self.n_heads = hypers.n_heads
        self.temperature = hypers.temperature
        self.norm_first = hypers.transformer == "PreLN"
        self.wide = n != d
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm_attention: nn.Module = norm(d)
        self.norm_mlp: nn.Module = norm(d)
        self.mlp = FeedForward(d, hypers.d_feedforward, gated=gated)
        if self.wide:
            self.contract = nn.Linear(n, d)
            self.expand = nn.Linear(d, n)
            self.norm_node = norm(n)
            self.node_mlp = FeedForward(n, 2 * n, gated=gated)

    @property
    def layers(self) -> tuple[nn.Linear, nn.Module, nn.Linear]:
        """Those of the perceptron of tokens."""
        return self.mlp.layers

    def forward(self, nodes: Tensor, edges: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Advance central tokens [n_atoms, n] and edge tokens [n_atoms, n_slots, d].

        Args:
            nodes: Central tokens.
            edges: Edge tokens, in padded rows.
            bias: [n_atoms, 1, 1, 1 + n_slots], of attention.
        """
        narrow = self.contract(nodes) if self.wide else nodes
        tokens = torch.cat([narrow[:, None], edges], 1)
        if self.norm_first:
            attended = self._attend(self.norm_attention(tokens), bias)
            node, edges = attended[:, 0], edges + attended[:, 1:]
            edges = edges + self.mlp(self.norm_mlp(edges))
        else:
            tokens = self.norm_attention(tokens + self._attend(tokens, bias))
            tokens = self.norm_mlp(tokens + self.mlp(tokens))
            node, edges = tokens[:, 0], tokens[:, 1:]
        if self.wide:
            node = nodes + self.expand(node)
            node = node + self.node_mlp(self.norm_node(node))
        return node, edges

    def _attend(self, tokens: Tensor, bias: Tensor) -> Tensor:
        out: Tensor = self.out(attend(self.qkv(tokens), bias, self.n_heads, self.temperature))
        return out


class MessageLayer(nn.Module):
    """One message-passing layer: messages and nodes in, transformer, tokens and nodes out."""

    def __init__(self, hypers: ModernPETHypers, n_species: int, *, first: bool) -> None:
        super().__init__()
        d = hypers.d_model
        self.coordinates = nn.Linear(4, d)
        self.neighbor_species = None if first else nn.Embedding(n_species, d)
        self.compress = nn.Sequential(
            nn.Linear((2 if first else 3) * d, d), nn.SiLU(), nn.Linear(d, d)
        )
        self.blocks = nn.ModuleList(Block(hypers) for _ in range(hypers.n_attention_layers))

    def forward(
        self, nodes: Tensor, messages: Tensor, geometry: Tensor, neighbors: Tensor, rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Advance one layer.

        Args:
            nodes: [n_atoms, n].
            messages: [n_edges, d].
            geometry: [n_edges, 4], vector and length of each edge, Å.
            neighbors: [n_edges], species index of each neighbour.
            rows: The padded layout.

        Returns:
            Nodes [n_atoms, n] and edge tokens [n_edges, d].
        """
        parts = [self.coordinates(geometry)]
        if self.neighbor_species is not None:
            parts.append(self.neighbor_species(neighbors))
        edges = rows.pad(self.compress(torch.cat([*parts, messages], 1)))
        bias = rows.bias(central=True)
        for block in self.blocks:
            nodes, edges = block(nodes, edges, bias)
        return nodes, rows.unpad(edges)


class Combination(nn.Module):
    """How feedforward messages take up those of the reverse edges."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.mlp = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, reverse: Tensor) -> Tensor:
        """Tokens [n_edges, d] and reverse edges [n_edges] -> what is added, [n_edges, d]."""
        mixed: Tensor = self.mlp(self.norm(torch.cat([tokens, tokens[reverse]], 1)))
        return tokens + mixed


class Conditioning(nn.Module):
    """What total charge and spin multiplicity add to the nodes of a structure.

    Args:
        width: Of nodes.
        max_charge: Largest total charge of either sign, e.
        max_spin: Largest multiplicity.
    """

    def __init__(self, width: int, max_charge: int, max_spin: int) -> None:
        super().__init__()
        self.max_charge = max_charge
        self.charge = nn.Embedding(2 * max_charge + 1, width)
        self.spin = nn.Embedding(max_spin, width)
        self.mlp = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, charge: Tensor, spin: Tensor) -> Tensor:
        """Charges and multiplicities [n_systems], whole and within range -> [n_systems, width]."""
        rows = (charge.long() + self.max_charge, spin.long() - 1)
        out: Tensor = self.mlp(torch.cat([self.charge(rows[0]), self.spin(rows[1])], 1))
        return out


class LongRange(nn.Module):
    """What the charges of a whole structure add to its nodes.

    Args:
        hypers: Hyperparameters.

    Raises:
        ImportError: If torch-pme is not installed.
    """

    def __init__(self, hypers: ModernPETHypers) -> None:
        super().__init__()
        n = hypers.d_node
        self.charges = nn.Linear(n, n)
        self.mlp = nn.Sequential(nn.Linear(n, n), nn.SiLU(), nn.Linear(n, n))
        self.potentials = Electrostatics(
            exclusion=hypers.cutoff,
            smearing=hypers.smearing,
            spacing=hypers.mesh_spacing,
            n_nodes=hypers.mesh_nodes,
        )

    def forward(self, layers: Sequence[Tensor], graph: Graph) -> list[Tensor]:
        """Nodes [n_atoms, n] of each layer that is read -> the same with what they see."""
        nodes = torch.stack(list(layers)).sum(0) / math.sqrt(len(layers))
        charges = self.charges(nodes).to(torch.float64)
        seen = self.mlp(self.potentials(charges, graph).to(nodes.dtype))
        return [math.sqrt(0.5) * (node + seen) for node in layers]


class Readout(nn.Module):
    """Heads of one quantity in one layer, on nodes and on edges.

    Args:
        hypers: Hyperparameters.
        n_values: Number of components.
    """

    def __init__(self, hypers: ModernPETHypers, n_values: int) -> None:
        super().__init__()

        def head(width: int) -> nn.Sequential:
            h = hypers.head_width
            layers = (nn.Linear(width, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU())
            return nn.Sequential(*layers, nn.Linear(h, n_values))

        self.nodes = head(hypers.d_node)
        self.edges = head(hypers.d_model)

    def forward(self, nodes: Tensor, edges: Tensor, rows: Rows) -> Tensor:
        """Nodes [n_atoms, n] and edges [n_edges, d] -> [n_atoms, n_values]."""
        out: Tensor = self.nodes(nodes) + _fading_sum(self.edges(edges), rows)
        return out

    def last_features(self, nodes: Tensor, edges: Tensor, rows: Rows) -> Tensor:
        """What meets the last weights, [n_atoms, 2 head_width]: of nodes, then of edges."""
        of_edges = _fading_sum(self.edges[:-1](edges), rows)
        return torch.cat([self.nodes[:-1](nodes), of_edges], 1)


def _fading_sum(edge_values: Tensor, rows: Rows) -> Tensor:
    """Sum of values [n_edges, v] over the edges of each atom, times the cutoff factors."""
    return torch.einsum("nsv,ns->nv", rows.pad(edge_values), rows.factors)
