"""The energies of a ModernPET, with their derivatives written by hand.

The same function of the same weights as that of :mod:`~ase_pet.potentials.pet.modern_layers`, which
serves where weights are differentiated, too. It needs fewer operations than autograd, and atoms go
through the layers part by part, each part small enough for the caches of a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.potentials.pet.modern_layers import Combination, MessageLayer, Readout
from ase_pet.potentials.pet.modern_parts import PairPullback, Part
from ase_pet.potentials.pet.pullbacks import Pullback, layer_norm, perceptron
from ase_pet.potentials.pet.tokens import lengths

if TYPE_CHECKING:
    from ase_pet.potentials.pet.modern import ModernPET

SplitPullback = Callable[[Tensor], tuple[Tensor, Tensor]]
#: Tokens that are evaluated together.
ROWS = 2048


class Energies(torch.autograd.Function):
    """Energies [n_atoms] of a network whose weights are constants, in its units.

    Differentiable once, with respect to the vectors [n_edges, 3] of the edges, Å, and their cutoff
    factors [n_edges].
    """

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        factors: Tensor,
        model: ModernPET,
        inputs: tuple[Graph, Tensor, Tensor | None],
    ) -> Tensor:
        """Evaluate; ``inputs`` are the graph, species of atoms, condition of structures."""
        graph, species, condition = inputs
        with torch.inference_mode():  # operations are dispatched faster in it
            ctx.run = run = _Run(graph, vectors, factors)
            energies, ctx.pull = run.network(model, species, condition)
        return energies.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to vectors and factors."""
        if torch.is_grad_enabled():
            raise RuntimeError(
                "energies of a model with constant weights have first derivatives only: call "
                "requires_grad_(True) on the model for create_graph=True"
            )
        if ctx.pull is None:
            raise RuntimeError("these energies were differentiated before; evaluate them again")
        pull, ctx.pull = ctx.pull, None
        with torch.inference_mode():
            pull(gradients[0])
            by_vectors, by_factors = ctx.run.pull()
        return by_vectors.clone(), by_factors.clone(), None, None


class _Run:
    """One evaluation: what all parts of the network share, and the gradients that they gather.

    Args:
        graph: Edges within the cutoffs.
        vectors: [n_edges, 3], Å, in the network's dtype.
        factors: [n_edges].
    """

    def __init__(self, graph: Graph, vectors: Tensor, factors: Tensor) -> None:
        self.graph, self.factors = graph, factors
        self.geometry = torch.cat([vectors, lengths(vectors)], 1)
        # Small enough for any softmax, where there is no neighbour.
        self.present = factors.clamp_min(torch.finfo(factors.dtype).tiny)
        self.by_geometry = torch.zeros_like(self.geometry)
        self.by_factors = torch.zeros_like(factors)
        self.by_logarithms = torch.zeros_like(factors)
        self.parts = [self._part(*where) for where in _divide(graph)]

    def _part(self, atoms: slice, edges: slice, counts: Tensor) -> Part:
        return Part(
            atoms,
            edges,
            counts,
            geometry=self.geometry[edges],
            logarithms=self.present[edges].log(),
            by_geometry=self.by_geometry[edges],
            by_logarithms=self.by_logarithms[edges],
        )

    def pull(self) -> tuple[Tensor, Tensor]:
        """The gradients gathered, with respect to vectors and factors."""
        by_lengths = self.by_geometry[:, 3:] / self.geometry[:, 3:]
        return (
            torch.addcmul(self.by_geometry[:, :3], by_lengths, self.geometry[:, :3]),
            torch.addcdiv(self.by_factors, self.by_logarithms, self.present),
        )

    def network(
        self, model: ModernPET, species: Tensor, condition: Tensor | None
    ) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Energies [n_atoms], and what takes their gradient back."""
        evaluate = self.residual if model.hypers.messages == "residual" else self.feedforward
        added = None if condition is None else condition[self.graph.system_index]
        return evaluate(model, species, species[self.graph.others], added)

    def feedforward(
        self, model: ModernPET, species: Tensor, neighbors: Tensor, added: Tensor | None
    ) -> tuple[Tensor, Callable[[Tensor], None]]:
        """One stream of nodes and messages through all layers, read at the end.

        Args:
            model: The network.
            species: [n_atoms], rows of tables.
            neighbors: [n_edges], likewise.
            added: [n_atoms, n], to the nodes after each layer.
        """
        messages, nodes = model.edge_species(neighbors), model.node_species[0](species)
        pulls: list[tuple[PairPullback, Pullback]] = []
        for k, layer in enumerate(cast("Iterable[MessageLayer]", model.layers)):
            first = model.edge_species.weight if k == 0 else None
            nodes, tokens, pull_layer = self.layer(layer, nodes, messages, neighbors, first)
            nodes = nodes if added is None else nodes + added
            mixed, pull_mixed = self.combination(cast("Combination", model.combinations[k]), tokens)
            messages = mixed.add_(messages)
            pulls.append((pull_layer, pull_mixed))
        readout = cast("Readout", model.energies[0])
        energies, pull_readout = self.readout(readout, nodes, messages)

        def pull(g: Tensor) -> None:
            by_nodes, by_messages = pull_readout(g)
            while pulls:
                pull_layer, pull_mixed = pulls.pop()
                by_nodes, further = pull_layer(by_nodes, pull_mixed(by_messages))
                by_messages = further.add_(by_messages)

        return energies, pull

    def residual(
        self, model: ModernPET, species: Tensor, neighbors: Tensor, added: Tensor | None
    ) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Layers that begin with fresh nodes and are all read; see :meth:`feedforward`."""
        messages, reverse = model.edge_species(neighbors), self.graph.reverse
        energies = messages.new_zeros(len(species))
        pulls: list[tuple[PairPullback, SplitPullback]] = []
        for k, layer in enumerate(cast("Iterable[MessageLayer]", model.layers)):
            first = model.edge_species.weight if k == 0 else None
            nodes = model.node_species[k](species)
            nodes, tokens, pull_layer = self.layer(layer, nodes, messages, neighbors, first)
            nodes = nodes if added is None else nodes + added
            read, pull_read = self.readout(cast("Readout", model.energies[k]), nodes, tokens)
            energies, messages = energies + read, 0.5 * (messages + tokens[reverse])
            pulls.append((pull_layer, pull_read))

        def pull(g: Tensor) -> None:
            by_messages = torch.zeros_like(messages)
            while pulls:
                pull_layer, pull_read = pulls.pop()
                by_nodes, by_tokens = pull_read(g)
                _, further = pull_layer(by_nodes, by_tokens + by_messages[reverse])
                by_messages = 0.5 * (further + by_messages)

        return energies, pull

    def layer(
        self,
        layer: MessageLayer,
        nodes: Tensor,
        messages: Tensor,
        neighbors: Tensor,
        first: Tensor | None,
    ) -> tuple[Tensor, Tensor, PairPullback]:
        """A message-passing layer, part by part; see :meth:`Part.layer`."""
        done = [
            part.layer(layer, nodes[part.atoms], messages[part.edges], neighbors[part.edges], first)
            for part in self.parts
        ]
        pulls = [pull for _, _, pull in done]

        def pull(by_nodes: Tensor, by_tokens: Tensor) -> tuple[Tensor, Tensor]:
            found = [
                pulls.pop(0)(by_nodes[part.atoms], by_tokens[part.edges]) for part in self.parts
            ]
            return _join([nodes for nodes, _ in found]), _join([edges for _, edges in found])

        return _join([nodes for nodes, _, _ in done]), _join([edges for _, edges, _ in done]), pull

    def combination(self, layer: Combination, tokens: Tensor) -> tuple[Tensor, Pullback]:
        """What feedforward messages take up, [n_edges, d].

        Reversing twice leaves every edge where it was, so that the gradient of a reversal is one.
        """
        reverse, d = self.graph.reverse, tokens.shape[1]

        def mix(part: Part) -> tuple[Tensor, Pullback]:
            others = tokens.index_select(0, reverse[part.edges])
            pair = torch.cat([tokens[part.edges], others], 1)
            normed, pull_norm = layer_norm(pair, layer.norm)
            mixed, pull_mlp = perceptron(normed, layer.mlp)
            return mixed, lambda g: pull_norm(pull_mlp(g))

        mixed, pull_mixed = self.each(mix)

        def pull(g: Tensor) -> Tensor:
            by_pair = pull_mixed(g)
            return by_pair[:, d:].index_select(0, reverse).add_(by_pair[:, :d]).add_(g)

        return mixed.add_(tokens), pull

    def readout(self, heads: Readout, nodes: Tensor, edges: Tensor) -> tuple[Tensor, SplitPullback]:
        """Energies [n_atoms] that one layer is read for."""
        centers, factors = self.graph.centers, self.factors
        of_nodes, pull_nodes = perceptron(nodes, heads.nodes)
        of_edges, pull_edges = self.each(lambda part: perceptron(edges[part.edges], heads.edges))
        energies = of_nodes[:, 0].index_add(0, centers, of_edges[:, 0] * factors)

        def pull(g: Tensor) -> tuple[Tensor, Tensor]:
            by_term = g.index_select(0, centers)
            self.by_factors.addcmul_(by_term, of_edges[:, 0])
            return pull_nodes(g[:, None]), pull_edges((by_term * factors)[:, None])

        return energies, pull

    def each(self, evaluate: Callable[[Part], tuple[Tensor, Pullback]]) -> tuple[Tensor, Pullback]:
        """Rows of edges [n_edges, d], made part by part."""
        done = [evaluate(part) for part in self.parts]
        pulls = [pull for _, pull in done]
        rows = _join([rows for rows, _ in done])
        return rows, lambda g: _join([pulls.pop(0)(g[part.edges]) for part in self.parts])


def _divide(graph: Graph) -> Iterator[tuple[slice, slice, Tensor]]:
    """Ranges of atoms and of their edges, with the number of edges of each atom."""
    counts = torch.bincount(graph.centers, minlength=graph.n_atoms)
    longest = 1 + (int(counts.max()) if len(counts) else 0)
    start, first = 0, 0
    for part in torch.split(counts, max(1, ROWS // longest)):
        stop, last = start + len(part), first + int(part.sum())
        yield slice(start, stop), slice(first, last), part
        start, first = stop, last


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
