"""The energies of a PET of the 2023 paper, with their derivatives written by hand.

The same function of the same weights as that of :mod:`~ase_pet.potentials.pet.original`, which
serves where weights are differentiated, and for dipoles and polarizabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ase_pet.potentials.pet.evaluation import Evaluation, Merge
from ase_pet.potentials.pet.parts import Part, RowsPullback, TransformerBlock, join
from ase_pet.potentials.pet.pullbacks import Pullback, normalize, perceptron
from ase_pet.potentials.pet.tokens import TINY

if TYPE_CHECKING:
    from ase_pet.potentials.pet.original import PET, MessageLayer

#: Columns of a geometry of vector and length.
_COLUMNS = {"vector_and_length": slice(4), "vector": slice(3), "length": slice(3, 4)}
#: From gradients by energies, if they are read, and by tokens to one by messages.
LayerPullback = Callable[[Tensor | None, Tensor | None], Tensor]


class Network:
    """The layers of a network for one evaluation.

    Args:
        model: The weights.
        species: [n_atoms], rows of its tables.
    """

    def __init__(self, model: PET, species: Tensor) -> None:
        self.model, self.species = model, species

    def __call__(self, run: Evaluation) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Energies of the atoms that are read, and what takes their gradient back."""
        self.run = run
        factor, table = self.model.hypers.residual_factor, self.model.embedding.weight
        neighbors = self.species.index_select(0, run.arrangement.others)
        messages: Tensor | None = None
        read: list[Tensor] = []
        pulls: list[list[LayerPullback]] = []
        for k, layer in enumerate(cast("Iterable[MessageLayer]", self.model.layers)):
            merge = _merge(layer, table if k == 0 else None)
            if k == run.depth - 1:
                found, by_messages = self.last(layer, merge, neighbors, messages)
                read.append(found)
                break
            done = [
                self.layer(layer, merge, part, k, neighbors, messages) for part in run.of_layer(k)
            ]
            read.append(join([found for found, _, _ in done if found is not None]))
            pulls.append([pull for _, _, pull in done])
            further = run.reversed(join([tokens for _, tokens, _ in done]), k + 1)
            if messages is None:
                messages = table.index_select(0, neighbors[: len(further)])
            messages = further.add_(messages[: len(further)]).mul_(factor)

        def pull(g: Tensor) -> None:
            by_next = run.scaled(g, by_messages)
            while pulls:
                k, layer_pulls = len(pulls) - 1, pulls.pop()
                assert by_next is not None
                by_next.mul_(factor)
                by_tokens, found = run.reversed_back(by_next, k), []
                for part in run.of_layer(k):
                    by_energies = None if part.hop else g[part.atoms]
                    found.append(layer_pulls.pop(0)(by_energies, by_tokens[part.edges]))
                if k:
                    by_messages_k = join(found)
                    by_messages_k[: len(by_next)] += by_next
                    by_next = by_messages_k

        return torch.stack(read).sum(0) if len(read) > 1 else read[0], pull

    def last(
        self, layer: MessageLayer, merge: Merge, neighbors: Tensor, messages: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The last layer: energies, and their gradients by messages.

        It mixes no atoms, so that a part goes back before the next one is evaluated, as if the
        gradient of its energies were one.
        """
        run, read, by_messages = self.run, [], []
        for part in run.of_layer(run.depth - 1):
            energies, _, pull = self.layer(layer, merge, part, run.depth - 1, neighbors, messages)
            assert energies is not None
            read.append(energies)
            if run.differentiable:
                by_messages.append(pull(torch.ones_like(energies), None))
        wanted = run.differentiable and messages is not None
        return join(read), join(by_messages) if wanted else None

    def layer(
        self,
        layer: MessageLayer,
        merge: Merge,
        part: Part,
        k: int,
        neighbors: Tensor,
        messages: Tensor | None,
    ) -> tuple[Tensor | None, Tensor, LayerPullback]:
        """A message-passing layer on a part: energies, if they are read, and tokens of the edges.

        Args:
            layer: The weights.
            merge: Its first weights.
            part: Atoms and edges.
            k: Number of the layer.
            neighbors: [n_edges], species of the neighbours of all edges.
            messages: [n_edges, d], of all edges; None in the first layer.
        """
        only = part.hop > 0 and self.run.is_last(part, k)
        into = None if messages is None else messages[part.edges]
        tokens, pull_merged = merge.tokens(self.run, part, neighbors[part.edges], into)
        own = self.own(layer, part)
        x = part.rows(tokens, own)
        blocks = [cast("TransformerBlock", block) for block in layer.blocks]
        bias = part.bias(blocks[0], central=own is not None)
        pulls: list[RowsPullback] = []
        for block in blocks:
            last = only and block is blocks[-1]
            _, x, pull_block = part.transform(block, x, bias, node=False, last=last)
            pulls.append(pull_block)
        pull_norm: Pullback | None = None
        if not isinstance(layer.final_norm, nn.Identity):
            x, pull_norm = normalize(x, layer.final_norm)
        energies, pull_energies = (None, None) if part.hop else self.read(layer, part, x)
        sends = k < self.run.depth - 1

        def pull(by_energies: Tensor | None, by_tokens: Tensor | None) -> Tensor:
            g = None if by_tokens is None else part.rows_of(by_tokens, last=only)
            if pull_energies is not None and by_energies is not None:
                read = pull_energies(by_energies)
                g = read if g is None else g.add_(read)
            assert g is not None
            if pull_norm is not None:
                g = pull_norm(g)
            while pulls:
                g = pulls.pop()(None, g)
            return pull_merged(g.index_select(0, part.slots))

        return energies, part.edges_of(x, last=only) if sends else x, pull

    def own(self, layer: MessageLayer, part: Part) -> Tensor | None:
        """The atoms' own tokens [n_atoms, d], if there are any."""
        if layer.central_species is None:
            return None
        species = self.species.index_select(0, self.run.arrangement.atoms[part.atoms])
        return layer.central_species.weight.index_select(0, species)

    def read(self, layer: MessageLayer, part: Part, x: Tensor) -> tuple[Tensor, Pullback]:
        """Energies [n_atoms] that a layer is read for, from rows."""
        h, (n, t) = self.model.hypers, part.shape
        factors = part.rows(self.run.factors[part.edges]).view(n, t)
        by_factors = self.run.by_factors[part.edges]
        d, central = x.shape[1], layer.central_species is not None
        if central:
            energies, pull_head = perceptron(part.own(x), _head(layer.heads, h.target))
        else:
            pooled, pull_pooled = _pool(x.view(n, t, d), factors, average=h.average_pooling)
            energies, pull_head = perceptron(pooled, _head(layer.heads, h.target))
        energies = energies[:, 0]
        pull_bonds: Pullback | None = None
        if layer.bond_heads is not None:
            bonds, pull_bonds = perceptron(x, _head(layer.bond_heads, h.target))
            total, pull_total = _pool(bonds.view(n, t, 1), factors, average=h.average_bond_energies)
            energies = energies + total[:, 0]

        def pull(g: Tensor) -> Tensor:
            g = g.unsqueeze(1)
            if pull_bonds is None:
                rows = torch.zeros_like(x)
            else:
                by_bonds, found = pull_total(g)
                by_factors.add_(found.view(-1).index_select(0, part.slots))
                rows = pull_bonds(by_bonds.view(-1, 1))
            by_central = pull_head(g)
            if central:
                part.own(rows).add_(by_central)
            else:
                by_rows, found = pull_pooled(by_central)
                by_factors.add_(found.view(-1).index_select(0, part.slots))
                rows.add_(by_rows.view(-1, d))
            return rows

        return energies, pull


def _merge(layer: MessageLayer, first: Tensor | None) -> Merge:
    """How a layer merges; the messages of the first one are rows of a table."""
    linear, act = layer.coordinates, layer.coordinate_activation
    weight = linear.weight.new_zeros(linear.out_features, 4)
    weight[:, _COLUMNS[layer.hypers.coordinates]] = linear.weight
    table = first if layer.neighbor_species is None else layer.neighbor_species.weight
    layers = layer.compress if isinstance(layer.compress, nn.Sequential) else [layer.compress]
    activation = None if isinstance(act, nn.Identity) else act
    return Merge((weight, linear.bias), activation, layers, table)


def _head(heads: nn.ModuleList, target: int) -> Iterable[nn.Module]:
    return cast("nn.Sequential", heads[target])


def _pool(
    rows: Tensor, factors: Tensor, *, average: bool
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Sum or mean of rows [n, t, d] weighted by factors [n, t] -> [n, d].

    The pullback gives gradients with respect to both.
    """
    pooled = torch.bmm(factors.unsqueeze(1), rows)[:, 0]
    total = factors.sum(1, keepdim=True) + TINY if average else None
    if total is not None:
        pooled = pooled / total

    def pull(g: Tensor) -> tuple[Tensor, Tensor]:
        if total is not None:
            g = g / total
        by_factors = torch.bmm(rows, g.unsqueeze(2))[:, :, 0]
        if total is not None:
            by_factors -= (g * pooled).sum(1, keepdim=True)
        return factors.unsqueeze(2) * g.unsqueeze(1), by_factors

    return pooled, pull
