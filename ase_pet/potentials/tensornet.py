r"""TensorNet: message passing with 3×3 tensors, O(3)-equivariant by construction.

Each atom and channel carries a tensor X with parts I (isotropic), A (antisymmetric) and S
(symmetric traceless). Mixing of channels, norms and matrix products keep its behaviour under
rotations, so that an energy read from norms is exactly invariant. With unit vectors u, distances
r, cutoff factor f, radial functions R and learnt layers W,

.. math::
    X_i &= \sum_k n_k\, W_k \sum_j f(r)\, Z_{ij}\, (W'_k R(r))\, T_k(u), \qquad
    T = 1,\; [u]_\times,\; uu^T - \tfrac13 \\
    X &\leftarrow X/(|X|^2 + 1), \quad Y_k = W_k X_k, \quad
    M_i = \sum_k \sum_j f(r)\, \phi_k(R(r))\, Y_{jk} \\
    X &\leftarrow X + D + D^2, \quad D_k = W_k P_k/(|P|^2 + 1), \quad P = MY + YM

(2YM for rotations alone), and the energy is a perceptron of the norms of I, A and S. A dipole is
read from A, which turns like a vector, a polarizability from S and I.

How it is made fast: a pair of atoms is embedded and weighed once for both its directions; the
embedding adds up radial functions times directions by neighbouring element, and meets channels
only after the sum; edges never hold a tensor for all channels.

Source:
    Simeon & De Fabritiis, NeurIPS 2023 (arXiv 2306.06482).
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.cartesian import Basis
from ase_pet.potentials.cutoffs import cosine_cutoff
from ase_pet.potentials.radial import make_basis
from ase_pet.potentials.species import SpeciesTable
from ase_pet.potentials.splines import Splines
from ase_pet.potentials.tensornet_charges import Charges, Coulomb
from ase_pet.potentials.tensornet_layers import (
    ACTIVATIONS,
    Embedding,
    Interaction,
    TensorNetHypers,
)
from ase_pet.potentials.tensornet_pairs import Neighborhoods, Pairs, Rows
from ase_pet.potentials.tensornet_readouts import Readout, TensorHead, in_double
from ase_pet.potentials.tensors import RANKS

__all__ = ["TensorNet", "TensorNetHypers"]

#: Å², the least squared distance; the engine refuses atoms as close as this long before.
_TINY = 1e-12
_CHARGE_FACTOR = 0.1


class TensorNet(nn.Module):
    """A TensorNet backbone: a :class:`~ase_pet.potentials.base.Backbone`, equivariant as it is.

    Args:
        hypers: Hyperparameters.
        species: Atomic numbers that the model knows, in any order.

    Attributes:
        cutoff: Å; infinite with a Coulomb energy, which is between all atoms.
        n_layers: Receptive field in hops.
        species: Atomic numbers, sorted.
        symmetry: ``"O(3)"`` or ``"SO(3)"``, exact by construction.
        takes_charge: Whether the total charge of a structure matters.
        tensors: Names of the tensors that it predicts.

    Raises:
        ValueError: If ``species`` is empty or holds a number twice.
    """

    def __init__(self, hypers: TensorNetHypers, species: Sequence[int]) -> None:
        super().__init__()
        self.hypers = hypers
        self.species_table = SpeciesTable(species)
        self.species = self.species_table.species
        self.cutoff = math.inf if hypers.coulomb else hypers.cutoff
        self.n_layers = hypers.n_layers + 1 if hypers.messages == "neighbor" else 1
        self.symmetry: str | None = hypers.group
        self.takes_charge = hypers.charge or hypers.n_charges > 0
        self.basis = Basis()
        self.radial = make_basis(hypers.rbf, hypers.n_functions, hypers.cutoff, hypers.inner_cutoff)
        self.embedding = Embedding(hypers, len(self.species))
        self.layers = nn.ModuleList(Interaction(hypers) for _ in range(hypers.n_layers))
        self.readout = Readout(hypers)
        d, q, n_predictions = hypers.n_units, hypers.n_charges, hypers.n_layers + 1
        activation = ACTIVATIONS[hypers.activation]()
        self.charges = nn.ModuleList(
            Charges(d, q, activation) for _ in range(n_predictions if q else 0)
        )
        self.coulomb = Coulomb(q * n_predictions) if hypers.coulomb else None
        self.tensors = hypers.tensors
        self.tensor_heads = nn.ModuleDict(
            {name: TensorHead(hypers, RANKS[name], len(self.species)) for name in self.tensors}
        )

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type in which the network computes."""
        return self.embedding.mix.weight.dtype

    def with_splines(self, n_pieces: int = 2048) -> TensorNet:
        """Return a copy for evaluation, whose interactions take their weights from splines.

        They belong to the weights, the dtype and the device at present. Energies have first
        derivatives only.

        Args:
            n_pieces: Pieces of a spline.

        Raises:
            ValueError: If the weights of interactions depend on more than a distance.
        """
        if self.hypers.n_charges:
            raise ValueError(
                "splines: interactions of this model depend on charges, not on distances alone; "
                "leave splines out"
            )
        exact, splined = copy.deepcopy(self).cpu().double(), copy.deepcopy(self)

        def weights(filters: Any, r: Tensor) -> Tensor:
            functions, envelope = exact._describe(r)
            values: Tensor = envelope * filters(functions)
            return values

        for layer, like in zip(splined.layers, exact.layers, strict=True):
            function = functools.partial(weights, like.filters)
            splines = Splines(function, self.hypers.cutoff, n_pieces)
            layer.splines = splines.to(self.embedding.mix.weight)
        return splined

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        """Estimate the bytes of one evaluation with its gradient: linear in atoms and edges.

        An edge takes 7 ``n_units`` numbers a layer, 2 with splines, and 5 more for each function
        and direction.

        Args:
            n_atoms: Atoms of the graph.
            n_neighbors: The largest number of neighbours of an atom.
        """
        h = self.hypers
        splined = any(layer.splines is not None for layer in self.layers)
        of_edge = (2 if splined else 7) * h.n_units * max(1, h.n_layers) + 50 * h.n_functions
        of_atom = 9 * h.n_units * (8 + 20 * h.n_layers)
        return (
            n_atoms * (n_neighbors * of_edge + of_atom) * self.embedding.mix.weight.element_size()
        )

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, float64.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        return self.predict(graph)[0]

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV, and tensors of the atoms, float64.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        return self._evaluate(self.inputs(graph), graph)

    @property
    def compilable(self) -> bool:
        """Whether :meth:`read` is all that there is."""
        return not self.hypers.n_charges

    def inputs(self, graph: Graph) -> Neighborhoods:
        """What :meth:`read` needs: elements are checked, and pairs chosen.

        An edge and its reverse are one entry, and their vectors share the gradient evenly.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        species = self.species_table(graph.numbers)
        edges = torch.arange(graph.n_edges, device=graph.reverse.device)
        near = graph.vectors.square().sum(1) < self.hypers.cutoff**2
        chosen = torch.nonzero((edges <= graph.reverse) & near)[:, 0]
        back = graph.reverse[chosen]
        vectors = graph.vectors.to(self.dtype)
        there = vectors[chosen]
        mean = 0.5 * (there - vectors[back])
        mean = torch.where((back == chosen)[:, None], there, mean)
        first, second = graph.centers[chosen], graph.others[chosen]
        strength = vectors.new_ones(graph.n_atoms)
        if self.hypers.charge and graph.charge is not None:
            strength += _CHARGE_FACTOR * graph.charge.to(self.dtype)[graph.system_index]
        shift = strength.new_zeros(graph.n_atoms, dtype=torch.float64)
        if self.hypers.energy_shift:
            sizes = torch.bincount(graph.system_index, minlength=graph.n_systems)
            shift += self.hypers.energy_shift / sizes[graph.system_index]
        rows = Rows.build(first, second, species, len(self.species))
        return Neighborhoods(mean, first, second, rows, species, strength, shift)

    def read(self, inputs: Neighborhoods) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`predict`; shapes alone decide what is done. There are no charges in it."""
        return self._evaluate(inputs, None)

    def _evaluate(
        self, inputs: Neighborhoods, graph: Graph | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies and tensors; the graph is for charges of atoms."""
        species, strength = inputs.species, inputs.strength[:, None]
        r = inputs.vectors.square().sum(1).clamp_min(_TINY).sqrt()
        directions = inputs.vectors / r[:, None]
        where = inputs.first, inputs.second, r, directions, inputs.rows
        pairs = Pairs(*where, *self._describe(r))
        itself = self._describe(r.new_zeros(1)) if self.hypers.self_loops else None

        def predict(x: Tensor, k: int) -> Tensor | None:
            if graph is None or not len(self.charges):
                return None
            total = x.new_zeros(graph.n_systems, 1)
            if graph.charge is not None:
                total = graph.charge.to(total.dtype)[:, None]
            found: Tensor = self.charges[k](x, graph, total)
            return found

        x = self.embedding(pairs, species, self.basis, itself)
        charges = [predict(x, 0)]
        for k, layer in enumerate(self.layers):
            x = layer(x, pairs, self.basis, strength, itself, charges[k])
            charges.append(predict(x, k + 1))
        # The readout is a small part of the work, and where single precision costs most: the same
        # rounding of several eV in all atoms of a crystal adds up.
        energies = in_double(self.readout, x)
        if self.coulomb is not None:
            channels = torch.cat([q for q in charges if q is not None], 1)
            energies = energies + self.coulomb(channels.double(), graph)
        energies = self.hypers.energy_scale * energies + inputs.shift
        tensors = {name: in_double(head, x, species) for name, head in self.tensor_heads.items()}
        return energies, tensors

    def _describe(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Radial functions [n, n_functions] and envelope [n, 1] of distances [n], Å."""
        low, high = self.hypers.inner_cutoff, self.hypers.cutoff
        if low == 0.0:
            envelope = cosine_cutoff(r, high, high)
        else:
            # A full period of the cosine: zero at both ends.
            t = ((r - low) / (high - low)).clamp(0.0, 1.0)
            envelope = 0.5 * (1.0 - torch.cos(2.0 * torch.pi * t))
        return self.radial(r), envelope[:, None]
