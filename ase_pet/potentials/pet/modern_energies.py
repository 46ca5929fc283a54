"""The energies of a ModernPET, with their derivatives written by hand.

The same function of the same weights as that of :mod:`~ase_pet.potentials.pet.modern_layers`, which
serves where weights are differentiated, too.

What a block leaves in the row of an atom's own token is overwritten by the next block: nodes go
from block to block beside the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from ase_pet.potentials.pet.evaluation import Evaluation, Merge
from ase_pet.potentials.pet.modern_layers import Block, Combination, MessageLayer, Readout
from ase_pet.potentials.pet.parts import Part, join
from ase_pet.potentials.pet.pullbacks import Pullback, layer_norm, normalize, perceptron

if TYPE_CHECKING:
    from ase_pet.potentials.pet.modern import ModernPET

#: From gradients by nodes, if they are read, and by tokens to those by nodes and messages or rows.
PairPullback = Callable[[Tensor | None, Tensor], tuple[Tensor, Tensor]]
#: The same of a whole layer.
LayerPullback = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
SplitPullback = Callable[[Tensor], tuple[Tensor, Tensor]]


class ModernNetwork:
    """The layers of a network for one evaluation.

    Args:
        model: The weights.
        species: [n_atoms], rows of its tables.
        added: [n_atoms, n], to the nodes after each layer; or None.
    """

    def __init__(self, model: ModernPET, species: Tensor, added: Tensor | None) -> None:
        self.model, self.species, self.added = model, species, added

    def __call__(self, run: Evaluation) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Energies of the atoms that are read, and what takes their gradient back."""
        self.run, arranged = run, run.arrangement
        self.neighbors = self.species.index_select(0, arranged.others)
        self.species = self.species.index_select(0, arranged.atoms)
        self.added = None if self.added is None else self.added.index_select(0, arranged.atoms)
        return self.residual() if self.model.hypers.messages == "residual" else self.feedforward()

    def feedforward(self) -> tuple[Tensor, Callable[[Tensor], None]]:
        """One stream of nodes and messages through all layers, read at the end."""
        model, run = self.model, self.run
        messages, nodes = model.edge_species(self.neighbors), model.node_species[0](self.species)
        pulls: list[tuple[LayerPullback, Pullback]] = []
        for k, layer in enumerate(cast("Iterable[MessageLayer]", model.layers)):
            n_edges = run.extent(k + 1)[1]
            nodes, tokens, pull_layer = self.layer(layer, k, nodes, messages)
            mixed, pull_mixed = self.combination(
                cast("Combination", model.combinations[k]), k, tokens
            )
            messages = mixed.add_(messages[:n_edges])
            pulls.append((pull_layer, pull_mixed))
        energies, pull_readout = self.readout(cast("Readout", model.energies[0]), nodes, messages)

        def pull(g: Tensor) -> None:
            by_nodes, by_messages = pull_readout(g)
            while pulls:
                pull_layer, pull_mixed = pulls.pop()
                by_nodes, further = pull_layer(by_nodes, pull_mixed(by_messages))
                further[: len(by_messages)] += by_messages
                by_messages = further

        return energies, pull

    def residual(self) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Layers that begin with fresh nodes and are all read; see :meth:`feedforward`."""
        model, run = self.model, self.run
        messages = model.edge_species(self.neighbors)
        n_read, m_read = run.extent(run.depth - 1)
        energies = messages.new_zeros(n_read)
        pulls: list[tuple[LayerPullback, SplitPullback]] = []
        for k, layer in enumerate(cast("Iterable[MessageLayer]", model.layers)):
            n_atoms, _ = run.extent(k)
            nodes = model.node_species[k](self.species[:n_atoms])
            nodes, tokens, pull_layer = self.layer(layer, k, nodes, messages)
            heads = cast("Readout", model.energies[k])
            read, pull_read = self.readout(heads, nodes[:n_read], tokens[:m_read])
            energies = energies + read
            pulls.append((pull_layer, pull_read))
            if k < run.depth - 1:
                further = run.reversed(tokens, k + 1)
                messages = further.add_(messages[: len(further)]).mul_(0.5)

        def pull(g: Tensor) -> None:
            by_messages: Tensor | None = None  # of the layer after
            while pulls:
                k, (pull_layer, pull_read) = len(pulls) - 1, pulls.pop()
                by_nodes, by_tokens = pull_read(g)
                if by_messages is not None:
                    by_messages.mul_(0.5)
                    back = run.reversed_back(by_messages, k)
                    back[: len(by_tokens)] += by_tokens
                    by_tokens = back
                _, further = pull_layer(by_nodes, by_tokens)
                if by_messages is not None:
                    further[: len(by_messages)] += by_messages
                by_messages = further

        return energies, pull

    def layer(
        self, layer: MessageLayer, k: int, nodes: Tensor, messages: Tensor
    ) -> tuple[Tensor, Tensor, LayerPullback]:
        """Layer k, part by part: nodes that go on and tokens of all its edges."""
        first = self.model.edge_species.weight if k == 0 else None
        table = first if layer.neighbor_species is None else layer.neighbor_species.weight
        embedding = (layer.coordinates.weight, layer.coordinates.bias)
        merge, parts = Merge(embedding, None, layer.compress, table), self.run.of_layer(k)
        done = [self.advance(layer, merge, k, part, nodes, messages) for part in parts]
        pulls = [pull for _, _, pull in done]

        def pull(by_nodes: Tensor, by_tokens: Tensor) -> tuple[Tensor, Tensor]:
            found = []
            for part in parts:
                goes_on = part.atoms.stop <= len(by_nodes)
                of_part = by_nodes[part.atoms] if goes_on else None
                found.append(pulls.pop(0)(of_part, by_tokens[part.edges]))
            return join([nodes for nodes, _ in found]), join([edges for _, edges in found])

        going_on = [nodes for nodes, _, _ in done if nodes is not None]
        return join(going_on), join([edges for _, edges, _ in done]), pull

    def advance(
        self,
        layer: MessageLayer,
        merge: Merge,
        k: int,
        part: Part,
        nodes: Tensor,
        messages: Tensor,
    ) -> tuple[Tensor | None, Tensor, PairPullback]:
        """Layer k on a part: nodes, if anybody reads them, and tokens of the edges."""
        only = part.hop > 0 and self.run.is_last(part, k)
        residual = self.model.hypers.messages == "residual"
        into = None if k == 0 else messages[part.edges]
        tokens, pull_merged = merge.tokens(self.run, part, self.neighbors[part.edges], into)
        rows, of_part = part.rows(tokens), nodes[part.atoms]
        blocks = [cast("Block", block) for block in layer.blocks]
        bias = part.bias(blocks[0], central=True)
        pulls: list[PairPullback] = []
        goes_on: Tensor | None = of_part
        for block in blocks:
            assert goes_on is not None
            last = block is blocks[-1]
            node = not (last and (part.hop > 0 if residual else only))
            goes_on, rows, pull_block = _transform(
                part, block, goes_on, rows, bias, node=node, last=last and only
            )
            pulls.append(pull_block)
        if goes_on is not None and self.added is not None:
            goes_on = goes_on + self.added[part.atoms]

        def pull(by_nodes: Tensor | None, by_tokens: Tensor) -> tuple[Tensor, Tensor]:
            by_rows = part.rows_of(by_tokens, last=only)
            while pulls:
                by_nodes, by_rows = pulls.pop()(by_nodes, by_rows)
            assert by_nodes is not None
            return by_nodes, pull_merged(by_rows.index_select(0, part.slots))

        return goes_on, part.edges_of(rows, last=only), pull

    def combination(self, layer: Combination, k: int, tokens: Tensor) -> tuple[Tensor, Pullback]:
        """What feedforward messages of layer k + 1 take up from tokens of layer k."""
        d, parts = tokens.shape[1], self.run.of_layer(k + 1)
        reverse, n_edges = self.run.arrangement.reverse, self.run.extent(k + 1)[1]

        def mix(part: Part) -> tuple[Tensor, Pullback]:
            others = tokens.index_select(0, reverse[part.edges])
            pair = torch.cat([tokens[part.edges], others], 1)
            normed, pull_norm = layer_norm(pair, layer.norm)
            mixed, pull_mlp = perceptron(normed, layer.mlp)
            return mixed, lambda g: pull_norm(pull_mlp(g))

        mixed, pull_mixed = _each(parts, mix)

        def pull(g: Tensor) -> Tensor:
            by_pair = pull_mixed(g)
            by_tokens = self.run.reversed_back(by_pair[:, d:], k)
            by_tokens[:n_edges].add_(by_pair[:, :d]).add_(g)
            return by_tokens

        return mixed.add_(tokens[:n_edges]), pull

    def readout(self, heads: Readout, nodes: Tensor, edges: Tensor) -> tuple[Tensor, SplitPullback]:
        """Energies of the atoms that are read, that one layer is read for."""
        run, n_edges = self.run, len(edges)
        centers, factors = run.arrangement.centers[:n_edges], run.factors[:n_edges]
        of_nodes, pull_nodes = perceptron(nodes, heads.nodes)
        parts = run.of_layer(run.depth - 1)
        of_edges, pull_edges = _each(parts, lambda part: perceptron(edges[part.edges], heads.edges))
        energies = of_nodes[:, 0].index_add(0, centers, of_edges[:, 0] * factors)

        def pull(g: Tensor) -> tuple[Tensor, Tensor]:
            by_term = g.index_select(0, centers)
            run.by_factors[:n_edges].addcmul_(by_term, of_edges[:, 0])
            return pull_nodes(g[:, None]), pull_edges((by_term * factors)[:, None])

        return energies, pull


def _transform(
    part: Part,
    block: Block,
    nodes: Tensor,
    rows: Tensor,
    bias: Tensor,
    *,
    node: bool,
    last: bool,
) -> tuple[Tensor | None, Tensor, PairPullback]:
    """A transformer block: nodes [n_atoms, n], and rows, of which own ones are overwritten.

    ``node``: whether anybody reads the nodes that it makes; ``last``: see :meth:`Part.transform`.
    """
    part.own(rows).copy_(block.contract(nodes) if block.wide else nodes)
    read, rows, pull_rows = part.transform(block, rows, bias, node=node, last=last)
    pulls: list[Pullback] = []
    made = read
    if read is not None and block.wide:
        made = block.expand(read).add_(nodes)
        normed, pull_norm = normalize(made, block.norm_node)
        step, pull_mlp = perceptron(normed, block.node_mlp.layers)
        made, pulls = step.add_(made), [pull_norm, pull_mlp]

    def pull(by_nodes: Tensor | None, by_rows: Tensor) -> tuple[Tensor, Tensor]:
        by_read = by_nodes
        if by_nodes is not None and block.wide:
            by_nodes = pulls[0](pulls[1](by_nodes)).add_(by_nodes)
            by_read = by_nodes @ block.expand.weight
        by_rows = pull_rows(by_read, by_rows)
        own = part.own(by_rows)
        if not block.wide:
            before = own.clone()
        elif by_nodes is None:
            before = own @ block.contract.weight
        else:
            before = torch.addmm(by_nodes, own, block.contract.weight)
        own.zero_()
        return before, by_rows

    return made, rows, pull


def _each(
    parts: list[Part], evaluate: Callable[[Part], tuple[Tensor, Pullback]]
) -> tuple[Tensor, Pullback]:
    """Rows of edges [n_edges, d], made part by part."""
    done = [evaluate(part) for part in parts]
    pulls = [pull for _, pull in done]
    rows = join([rows for rows, _ in done])
    return rows, lambda g: join([pulls.pop(0)(g[part.edges]) for part in parts])
