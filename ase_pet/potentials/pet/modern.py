r"""Point Edge Transformer as metatrain trains it (PET-MAD and its relatives).

The tokens of atom i are one for each neighbour j, made of the edge vector, the species and the
message m_ij, and a central one. After each layer the tokens x of an edge and its reverse meet,

.. math::
    m_{ij} \leftarrow m_{ij} + x_{ij} + \mathrm{MLP}(\mathrm{norm}[x_{ij}, x_{ji}])
    \quad\text{or}\quad m_{ij} \leftarrow \tfrac12 (m_{ij} + x_{ji}),

and the energy is read from nodes and from edges, which fade with the cutoff factor f,

.. math:: E_i = s\,\Big(\varepsilon(h_i) + \sum_j f_{ij}\, \varepsilon'(m_{ij})\Big).

Distances and cutoffs are computed in the dtype of the vectors, which is float64.

Source:
    https://github.com/metatensor/metatrain; Mazitov et al., arXiv:2503.14118 (PET-MAD).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.constants import Constant
from ase_pet.potentials.cutoffs import cosine_cutoff, cotangent_switch
from ase_pet.potentials.pet.adaptive import adaptive_cutoffs
from ase_pet.potentials.pet.evaluation import energies, is_constant
from ase_pet.potentials.pet.modern_energies import ModernNetwork
from ase_pet.potentials.pet.modern_hypers import DIRECT, ModernPETHypers
from ase_pet.potentials.pet.modern_layers import (
    Combination,
    Conditioning,
    LongRange,
    MessageLayer,
    Readout,
)
from ase_pet.potentials.pet.tokens import TINY, Environments, Rows, keep_edges, lengths
from ase_pet.potentials.species import SpeciesTable


class ModernPET(nn.Module):
    """A PET backbone: a :class:`~ase_pet.potentials.base.Potential`.

    Args:
        hypers: Hyperparameters.
        species: Atomic numbers that the model knows, in any order.

    Attributes:
        cutoff: Å, the largest.
        n_layers: Receptive field in hops.
        species: Atomic numbers, sorted.
        symmetry: None: whatever invariance there is was learnt.
        tensors: None of those that :mod:`ase_pet.potentials.tensors` knows.
        takes_charge: Whether the total charge of a structure matters.
        takes_spin: Whether its spin multiplicity does.
        takes_positions: Whether there are long-range electrostatics; ``n_layers`` is the reach of
            the rest.

    Raises:
        ValueError: If ``species`` is empty or holds a number twice.
        ImportError: If ``long_range`` is asked for and torch-pme is not installed.
    """

    symmetry: str | None = None
    tensors: tuple[str, ...] = ()

    def __init__(self, hypers: ModernPETHypers, species: Sequence[int]) -> None:
        super().__init__()
        self.hypers = hypers
        self.species_table = SpeciesTable(species)
        self.species = self.species_table.species
        self.cutoff = hypers.cutoff
        self.n_layers = hypers.receptive_field
        self.takes_charge = self.takes_spin = hypers.conditioning
        self.takes_positions = hypers.long_range
        n_species, d, n = len(self.species), hypers.d_model, hypers.d_node
        depth, n_readouts = hypers.n_message_layers, hypers.n_readouts
        self.edge_species = nn.Embedding(n_species, d)
        self.node_species = nn.ModuleList(nn.Embedding(n_species, n) for _ in range(n_readouts))
        self.layers = nn.ModuleList(
            MessageLayer(hypers, n_species, first=k == 0) for k in range(depth)
        )
        forward = hypers.messages == "feedforward"
        self.combinations = nn.ModuleList(Combination(d) for _ in range(depth if forward else 0))
        self.conditioning = (
            Conditioning(n, hypers.max_charge, hypers.max_spin) if hypers.conditioning else None
        )
        self.long_range = LongRange(hypers) if hypers.long_range else None

        def readouts(n_values: int) -> nn.ModuleList:
            return nn.ModuleList(Readout(hypers, n_values) for _ in range(n_readouts))

        self.energies = readouts(1)
        self.direct = nn.ModuleDict({name: readouts(DIRECT[name]) for name in hypers.direct})
        self.scales = nn.ModuleDict()
        for name in hypers.direct:
            values = getattr(hypers, f"{name}_scales")
            if len(values) != n_species:
                raise ValueError(
                    f"{name}_scales: expected one for each of {n_species} elements, got "
                    f"{len(values)}"
                )
            self.scales[name] = Constant(values)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type in which the network computes."""
        return self.edge_species.weight.dtype

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        """Estimate the bytes of one evaluation with its gradient: what autograd keeps.

        Args:
            n_atoms: Atoms of the graph.
            n_neighbors: The largest number of neighbours of an atom.
        """
        h = self.hypers
        n_tokens = n_neighbors + 1
        if h.n_neighbors > 0.0:  # few atoms have three times as many as they are meant to
            n_tokens = min(n_tokens, math.ceil(3.0 * h.n_neighbors) + 1)
        kept = 10 * h.d_model + 5 * h.d_feedforward + 3 * h.n_heads * n_tokens
        block_values = (n_tokens * kept + 16 * h.d_node) * h.n_attention_layers
        layer_values = block_values + n_tokens * (12 * h.d_model + 4 * h.head_width)
        return n_atoms * layer_values * h.n_message_layers * self.edge_species.weight.element_size()

    def cutoffs(self, graph: Graph) -> Tensor:
        """Cutoff of each atom [n_atoms], Å, in the dtype of the vectors."""
        h = self.hypers
        if h.n_neighbors == 0.0:
            return graph.vectors.new_full((graph.n_atoms,), h.cutoff)
        return adaptive_cutoffs(
            _distances(graph),
            graph.centers,
            graph.n_atoms,
            cutoff=h.cutoff,
            width=h.adaptive_width,
            n_neighbors=h.n_neighbors,
            method=h.adaptive_method,
        )

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, in the network's dtype.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
            ValueError: If a charge or multiplicity is beyond the model's table.
        """
        if self.long_range is None and is_constant(self):
            return self._energies(graph)
        return self._read(graph)["energy"]

    @property
    def n_last_features(self) -> int:
        """Number of features of an atom that the energy is linear in."""
        return 2 * self.hypers.head_width * self.hypers.n_readouts

    def last_features(self, graph: Graph) -> Tensor:
        """Features [n_atoms, n_last_features] that the energy is linear in, but for a constant.

        Layer by layer that is read: of nodes, then the sum over edges. In the network's dtype,
        before the scale of the energies.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
            ValueError: If a charge or multiplicity is beyond the model's table.
        """
        inputs = self.inputs(graph)
        found = [
            read.last_features(nodes, edges, inputs.rows)  # type: ignore[operator]
            for read, (nodes, edges) in zip(
                self.energies, self._features(inputs, graph), strict=True
            )
        ]
        return torch.cat(found, 1)

    def predict_direct(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies, and what heads say without being derivatives of them.

        Returns:
            Energies [n_atoms], eV, and of the following those that the model has, all in the
            network's dtype: "forces" [n_atoms, 3], eV/Å, whose sum is not zero, and "stress"
            [n_atoms, 3, 3], eV, to be summed, made symmetric and divided by the volume.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
            ValueError: If a charge or multiplicity is beyond the model's table.
        """
        found = self._read(graph, direct=True)
        return found.pop("energy"), found

    def inputs(self, graph: Graph) -> Environments:
        """What :meth:`read` needs: edges are chosen, elements and states checked, rows laid out.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
            ValueError: If a charge or multiplicity is beyond the model's table.
        """
        species, condition = self.species_table(graph.numbers), self._condition(graph)
        graph, factors = self._within(graph)
        return Environments(
            graph.vectors.to(self.dtype),
            species,
            graph.others,
            graph.reverse,
            Rows.build(graph, factors),
            condition if condition is None else condition[graph.system_index],
        )

    @property
    def compilable(self) -> bool:
        """Whether :meth:`read` is all that there is."""
        return self.long_range is None

    def read(
        self, inputs: Environments, *, direct: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`forward`, or :meth:`predict_direct`; shapes alone decide what is done.

        There are no long-range electrostatics in it.
        """
        found = self._sum(self._advance(inputs), inputs, direct=direct)
        return found.pop("energy"), found

    def _read(self, graph: Graph, *, direct: bool = False) -> dict[str, Tensor]:
        inputs = self.inputs(graph)
        return self._sum(self._features(inputs, graph), inputs, direct=direct)

    def _sum(
        self, features: Iterable[tuple[Tensor, Tensor]], inputs: Environments, *, direct: bool
    ) -> dict[str, Tensor]:
        """Scaled sums of readouts over the layers."""
        heads = {"energy": self.energies, **(dict(self.direct.items()) if direct else {})}
        found: dict[str, Tensor] = {}
        for k, (nodes, edges) in enumerate(features):
            for name, reads in heads.items():
                value = reads[k](nodes, edges, inputs.rows)  # type: ignore[index]
                found[name] = found[name] + value if name in found else value
        shapes = {"energy": (-1,), "forces": (-1, 3), "stress": (-1, 3, 3)}
        scales = {
            name: self.scales[name](self.dtype)[inputs.species][:, None] for name in self.direct
        }
        scales["energy"] = self.hypers.energy_scale
        return {name: (value * scales[name]).view(shapes[name]) for name, value in found.items()}

    def _within(self, graph: Graph) -> tuple[Graph, Tensor]:
        """The edges within the cutoffs, and their factors [n_edges] in the network's dtype."""
        h, d = self.hypers, _distances(graph)
        pair: float | Tensor = h.cutoff
        kept = d < h.cutoff
        if h.n_neighbors > 0.0:
            own = self.cutoffs(graph)
            pair = 0.5 * (own.index_select(0, graph.centers) + own.index_select(0, graph.others))
            kept = d <= pair
        switch = cotangent_switch if h.cutoff_function == "Bump" else cosine_cutoff
        factors = switch(d, pair, h.cutoff_width).to(self.dtype)
        if not bool(kept.all()):
            chosen = kept.nonzero().flatten()
            graph, factors = keep_edges(graph, chosen), factors.index_select(0, chosen)
        return graph, factors

    def _energies(self, graph: Graph) -> Tensor:
        """Energies [n_atoms] of a network whose weights are constants."""
        species = self.species_table(graph.numbers)
        graph, factors = self._within(graph)
        condition = self._condition(graph)
        added = None if condition is None else condition[graph.system_index]
        network, depth = ModernNetwork(self, species, added), self.hypers.depth
        vectors = graph.vectors.to(self.dtype)
        return self.hypers.energy_scale * energies(graph, vectors, factors, depth, network)

    def _features(self, inputs: Environments, graph: Graph) -> Iterable[tuple[Tensor, Tensor]]:
        """Nodes [n_atoms, n] and edges [n_edges, d] of each layer that is read."""
        layers = self._advance(inputs)
        if self.long_range is None:
            return layers
        nodes, edges = zip(*layers, strict=True)
        return zip(self.long_range(nodes, graph), edges, strict=True)

    def _advance(self, inputs: Environments) -> list[tuple[Tensor, Tensor]]:
        """Go through the layers, and return what each that is read makes of nodes and edges."""
        vectors, species, reverse = inputs.vectors, inputs.species, inputs.reverse
        geometry, neighbors = torch.cat([vectors, lengths(vectors)], 1), species[inputs.others]
        read = []
        messages = self.edge_species(neighbors)
        residual = self.hypers.messages == "residual"
        nodes = self.node_species[0](species)
        for k, layer in enumerate(self.layers):
            if residual and k:
                nodes = self.node_species[k](species)
            nodes, tokens = layer(nodes, messages, geometry, neighbors, inputs.rows)
            if inputs.added is not None:
                nodes = nodes + inputs.added
            if residual:
                read.append((nodes, tokens))
                messages = 0.5 * (messages + tokens[reverse])
            else:
                messages = messages + self.combinations[k](tokens, reverse)
        return read if residual else [(nodes, messages)]

    def _condition(self, graph: Graph) -> Tensor | None:
        """What charge and multiplicity of each structure add to its nodes, [n_systems, n]."""
        if self.conditioning is None:
            return None
        h, zeros = self.hypers, graph.vectors.new_zeros(graph.n_systems)
        charge = zeros if graph.charge is None else graph.charge
        spin = zeros + 1.0 if graph.spin is None else graph.spin
        _require_whole("charge", charge, -h.max_charge, h.max_charge)
        _require_whole("spin", spin, 1, h.max_spin)
        found: Tensor = self.conditioning(charge, spin)
        return found


def _distances(graph: Graph) -> Tensor:
    """Lengths of the edges [n_edges], Å."""
    lengths: Tensor = torch.linalg.vector_norm(graph.vectors, dim=1)
    return lengths + TINY


def _require_whole(name: str, values: Tensor, least: int, most: int) -> None:
    """Check numbers [n_systems] that choose rows of a table."""
    bad = (values != values.round()) | (values < least) | (values > most)
    if bool(bad.any()):
        raise ValueError(
            f"{name}: the model was trained for whole numbers from {least} to {most}, got "
            f"{float(values[bad][0]):g}"
        )
