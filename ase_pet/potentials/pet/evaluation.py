"""Energies of a PET with constant weights, with derivatives written by hand: what all PETs share.

Fewer operations are needed than with autograd, less is kept, atoms go through the layers part by
part, and each layer takes those atoms only that somebody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.pet.parts import Arrangement, Part, with_zero
from ase_pet.potentials.pet.pullbacks import Pullback, apply, perceptron
from ase_pet.potentials.pet.tokens import lengths

#: From distances [n_edges], Å, to cutoff factors and their derivatives, per Å.
Switch = Callable[[Tensor], tuple[Tensor, Tensor]]


class Evaluation:
    """One evaluation: atoms in parts, and the gradients that these gather.

    Layer k = 0, 1, ... takes the atoms less than ``depth - k`` hops away from one that is read.

    Args:
        graph: Atoms and edges.
        vectors: [n_edges, 3], Å, in the network's dtype.
        factors: [n_edges], of the cutoff, or a function that gives them and their slopes, of
            lengths [n_edges].
        depth: Number of layers.
        differentiable: Whether anybody will ask for gradients.
    """

    def __init__(
        self,
        graph: Graph,
        vectors: Tensor,
        factors: Tensor | Switch,
        depth: int,
        *,
        differentiable: bool,
    ) -> None:
        self.graph, self.depth, self.differentiable = graph, depth, differentiable
        self.arrangement = arranged = Arrangement.of(graph, depth)
        vectors = vectors.index_select(0, arranged.edges)
        self.geometry = torch.cat([vectors, lengths(vectors)], 1)
        self.slopes: Tensor | None = None
        if isinstance(factors, Tensor):
            self.factors = factors.index_select(0, arranged.edges)
        else:
            self.factors, self.slopes = factors(self.geometry[:, 3])
        # Small enough for any softmax, where there is no neighbour.
        self.present = self.factors.clamp_min(torch.finfo(vectors.dtype).tiny)
        self.logarithms = self.present.log2()
        self.by_geometry = torch.zeros_like(self.geometry)
        self.by_factors = torch.zeros_like(self.factors)
        self.by_logarithms = torch.zeros_like(self.factors)
        self.parts = [self._part(*where) for where in arranged.divide()]

    def _part(self, hop: int, atoms: slice, edges: slice) -> Part:
        read = None
        if hop:  # in its last layer a shell is read only by the one before
            assert self.graph.hops is not None
            read = self.graph.hops[self.arrangement.others[edges]] < hop
        return Part(
            hop,
            atoms,
            edges,
            self.arrangement,
            logarithms=self.logarithms[edges],
            by_logarithms=self.by_logarithms[edges],
            read=read,
        )

    def of_layer(self, k: int) -> list[Part]:
        """The parts that layer k evaluates; those that are read if k is ``depth - 1``."""
        return [part for part in self.parts if part.hop < self.depth - k]

    def extent(self, k: int) -> tuple[int, int]:
        """Number of atoms and of edges of layer k."""
        parts = self.of_layer(k)
        return (parts[-1].atoms.stop, parts[-1].edges.stop) if parts else (0, 0)

    def is_last(self, part: Part, k: int) -> bool:
        """Whether layer k is the last that evaluates a part."""
        return part.hop == self.depth - 1 - k

    def reversed(self, tokens: Tensor, k: int) -> Tensor:
        """Tokens of the reverse edges, [n_edges of layer k, d]."""
        return tokens.index_select(0, self.arrangement.reverse[: self.extent(k)[1]])

    def reversed_back(self, g: Tensor, k: int) -> Tensor:
        """From gradients by reversed tokens of layer k + 1 to those by the tokens of layer k.

        Reversing twice leaves every edge where it was.
        """
        reverse = self.arrangement.reverse[: self.extent(k)[1]]
        if len(g) < len(reverse):
            reverse, g = reverse.clamp_max(len(g)), with_zero(g)
        return g.index_select(0, reverse)

    def scaled(self, g: Tensor, by_messages: Tensor | None) -> Tensor | None:
        """Multiply what was gathered as if the gradient of energies were one by what it is.

        Args:
            g: [n_read].
            by_messages: [n_read_edges, d], is multiplied, too, if there is any.
        """
        n_edges = self.extent(self.depth - 1)[1]
        scale = g.index_select(0, self.arrangement.centers[:n_edges])
        for gathered in (self.by_factors, self.by_logarithms):
            gathered[:n_edges].mul_(scale)
        self.by_geometry[:n_edges].mul_(scale.unsqueeze(1))
        return None if by_messages is None else by_messages.mul_(scale.unsqueeze(1))

    def pull(self) -> tuple[Tensor, Tensor]:
        """The gradients gathered, with respect to vectors and factors, in the order of parts."""
        vanished = self.factors < self.present
        by_factors = (self.by_logarithms / self.present).masked_fill_(vanished, 0.0)
        by_factors += self.by_factors
        by_lengths = self.by_geometry[:, 3]
        if self.slopes is not None:
            by_lengths = torch.addcmul(by_lengths, by_factors, self.slopes)
        along = (by_lengths / self.geometry[:, 3]).unsqueeze(1)
        return torch.addcmul(self.by_geometry[:, :3], along, self.geometry[:, :3]), by_factors

    def to_graph(self, of_edges: Tensor) -> Tensor:
        """Values of edges in the order of the graph, zero for those left out."""
        if len(of_edges) < self.graph.n_edges:
            of_edges = with_zero(of_edges)
        return of_edges.index_select(0, self.arrangement.places)


#: From an evaluation to energies of the atoms that are read, and what takes their gradient back.
Evaluate = Callable[[Evaluation], tuple[Tensor, Callable[[Tensor], None]]]


class _Energies(torch.autograd.Function):
    """Energies [n_atoms] of a network whose weights are constants, in its units.

    Differentiable once, with respect to the vectors [n_edges, 3] of the edges, Å, and to cutoff
    factors [n_edges] that are given. Zero for atoms that are not read.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        factors: Tensor | Switch,
        graph: Graph,
        depth: int,
        network: Evaluate,
    ) -> Tensor:
        """Evaluate; see :class:`Evaluation` for the arguments."""
        differentiable = any(ctx.needs_input_grad)
        with torch.inference_mode():  # operations are dispatched faster in it
            run = Evaluation(graph, vectors, factors, depth, differentiable=differentiable)
            found, ctx.pull = network(run)
            ctx.run, ctx.read = run, run.arrangement.atoms[: len(found)]
        return found.new_zeros(graph.n_atoms).index_copy_(0, ctx.read, found)

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
            pull(gradients[0].index_select(0, ctx.read))
            by_vectors, by_factors = ctx.run.pull()
        wanted = ctx.needs_input_grad[1]
        return (
            ctx.run.to_graph(by_vectors),
            ctx.run.to_graph(by_factors) if wanted else None,
            *[None] * 3,
        )


def energies(
    graph: Graph, vectors: Tensor, factors: Tensor | Switch, depth: int, network: Evaluate
) -> Tensor:
    """Energies [n_atoms] of a network whose weights are constants, in its units.

    Args:
        graph: Atoms and edges.
        vectors: [n_edges, 3], Å, in the network's dtype.
        factors: [n_edges], of the cutoff; or a function that gives them and their slopes.
        depth: Number of layers.
        network: They.
    """
    if not graph.n_atoms:
        return vectors.new_zeros(0)
    _keep_memory()
    found: Tensor = _Energies.apply(vectors, factors, graph, depth, network)  # type: ignore[no-untyped-call]
    return found


@cache
def _keep_memory() -> None:
    """Let the C library keep what one part frees for the next one, once in a process.

    The GNU library's gives memory back that exceeds twice the largest block ever freed, of at most
    32 MiB, and its pages would have to be cleared anew. Elsewhere this does nothing.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


class Merge:
    """How geometry, species and messages become tokens of edges: the weights of one layer.

    What is linear in geometry and species is multiplied out before it meets the edges.

    Args:
        coordinates: [d, 4], [d], weight and bias, of vector and length.
        activation: Of the embedded coordinates, if any.
        layers: The first merges what is side by side: coordinates, rows of a table, messages.
        table: [n_species, d], or None.
    """

    def __init__(
        self,
        coordinates: tuple[Tensor, Tensor],
        activation: nn.Module | None,
        layers: Iterable[nn.Module],
        table: Tensor | None,
    ) -> None:
        into, *self.after = layers
        assert isinstance(into, nn.Linear)
        d = into.out_features
        weight, bias = coordinates
        self.of_geometry, *further = torch.split(into.weight, d, 1)
        self.of_messages = further[-1]
        self.bias: Tensor = into.bias
        self.activation, self.embedding = activation, coordinates
        if activation is None:
            self.bias = torch.addmv(self.bias, self.of_geometry, bias)
            self.of_geometry = self.of_geometry @ weight
        self.table = None if table is None else torch.addmm(self.bias, table, further[0].t())

    def tokens(
        self, run: Evaluation, part: Part, neighbors: Tensor, messages: Tensor | None
    ) -> tuple[Tensor, Pullback]:
        """Tokens of the edges of a part, [n_edges, d], with a pullback to messages if any.

        Args:
            run: Has the geometry.
            part: The edges.
            neighbors: [n_edges], species of the neighbours, rows of the table.
            messages: [n_edges, d]; None if they are rows of the table.
        """
        geometry, pull_geometry = run.geometry[part.edges], None
        if self.activation is not None:
            weight, bias = self.embedding
            geometry, pull_geometry = apply(
                self.activation, nn.functional.linear(geometry, weight, bias)
            )
        if self.table is not None:
            x = self.table.index_select(0, neighbors).addmm_(geometry, self.of_geometry.t())
        else:
            x = torch.addmm(self.bias, geometry, self.of_geometry.t())
        if messages is not None:
            x.addmm_(messages, self.of_messages.t())
        y, pull = perceptron(x, self.after)

        def pull_parts(g: Tensor) -> Tensor:
            g = pull(g)
            if pull_geometry is None:
                run.by_geometry[part.edges].addmm_(g, self.of_geometry)
            else:
                embedded = pull_geometry(g @ self.of_geometry)
                run.by_geometry[part.edges].addmm_(embedded, self.embedding[0])
            return g if messages is None else g @ self.of_messages

        return y, pull_parts


def is_constant(module: nn.Module) -> bool:
    """Whether no weight requires a gradient; ``parameters()`` takes several times as long."""
    for weight in module._parameters.values():
        if weight is not None and weight.requires_grad:
            return False
    for child in module._modules.values():
        if child is not None and not is_constant(child):
            return False
    return True
