r"""Point Edge Transformer (PET) of the 2023 paper.

The environment of atom i is a set of tokens, one for each neighbour j, made of the edge vector,
the species and the message m_ij; a central token may be put first. A transformer, in which the
attention to token j is scaled by the cutoff factor f_j,

.. math:: \alpha_{qj} = \frac{f_j\, e^{q\cdot k_j/\sqrt{d}}}{\sum_l f_l\, e^{q\cdot k_l/\sqrt{d}}},

turns them into output tokens. Each layer reads energies from them, and the output token of the
edge (j, i) becomes the next layer's message on the edge (i, j). PET is not equivariant: the
vectors enter a linear layer as they are.

Source:
    Pozdnyakov & Ceriotti, NeurIPS 2023 (arXiv 2305.19302).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.cutoffs import cosine_cutoff, cosine_cutoff_and_slope
from ase_pet.potentials.pet.evaluation import energies, is_constant
from ase_pet.potentials.pet.original_energies import Network
from ase_pet.potentials.pet.original_hypers import PETHypers
from ase_pet.potentials.pet.tokens import TINY, Environments, Rows, attend, lengths
from ase_pet.potentials.species import SpeciesTable
from ase_pet.potentials.tensors import RANKS, anisotropic, symmetric, zero_tensors


class _Block(nn.Module):
    """One transformer block: attention scaled by cutoff factors, and an MLP."""

    def __init__(self, hypers: PETHypers, activation: nn.Module) -> None:
        super().__init__()
        d = hypers.d_model
        self.n_heads = hypers.n_heads
        self.temperature = 1.0
        self.norm_first = hypers.transformer == "PreLN"
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm_attention = nn.LayerNorm(d)
        self.norm_mlp = nn.LayerNorm(d)
        self.mlp = nn.Sequential(
            nn.Linear(d, hypers.d_feedforward),
            activation,
            nn.Linear(hypers.d_feedforward, d),
        )

    @property
    def layers(self) -> tuple[nn.Linear, nn.Module, nn.Linear]:
        """Those of the MLP."""
        into, act, out = self.mlp
        assert isinstance(into, nn.Linear)
        assert isinstance(out, nn.Linear)
        return into, act, out

    def attend(self, x: Tensor, bias: Tensor) -> Tensor:
        """[n_atoms, n_tokens, d], [n_atoms, 1, 1, n_tokens] -> [n_atoms, n_tokens, d]."""
        out: Tensor = self.out(attend(self.qkv(x), bias, self.n_heads))
        return out

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Same shapes as :meth:`attend`."""
        if self.norm_first:
            x = x + self.attend(self.norm_attention(x), bias)
            out: Tensor = x + self.mlp(self.norm_mlp(x))
        else:
            x = self.norm_attention(x + self.attend(x, bias))
            out = self.norm_mlp(x + self.mlp(x))
        return out


class MessageLayer(nn.Module):
    """One message-passing layer: tokens in, transformer, tokens and energies out."""

    def __init__(self, hypers: PETHypers, n_species: int, index: int) -> None:
        super().__init__()
        d = hypers.d_model
        act: nn.Module = {"silu": nn.SiLU, "mish": nn.Mish}[hypers.activation]()
        last = index == hypers.n_message_layers - 1
        self.hypers = hypers
        self.blends = hypers.blend_neighbor_species and index > 0
        central = hypers.central_token_last if last else hypers.central_token_first

        n_coordinates = {"vector_and_length": 4, "vector": 3, "length": 1}[hypers.coordinates]
        self.coordinates = nn.Linear(n_coordinates, d)
        self.coordinate_activation = act if hypers.coordinate_activation else nn.Identity()
        merged = (3 if self.blends else 2) * d
        self.compress = (
            nn.Sequential(nn.Linear(merged, d), act, nn.Linear(d, d))
            if hypers.compress == "mlp"
            else nn.Linear(merged, d)
        )
        self.neighbor_species = nn.Embedding(n_species, d) if self.blends else None
        self.central_species = nn.Embedding(n_species, d) if central else None
        self.blocks = nn.ModuleList(_Block(hypers, act) for _ in range(hypers.n_attention_layers))
        self.final_norm = nn.LayerNorm(d) if hypers.transformer == "PreLN" else nn.Identity()

        def head(n_values: int) -> nn.Sequential:
            h = hypers.head_width
            return nn.Sequential(nn.Linear(d, h), act, nn.Linear(h, h), act, nn.Linear(h, n_values))

        def heads() -> nn.ModuleList:
            return nn.ModuleList(head(1) for _ in range(hypers.n_targets))

        def tensor_heads() -> nn.ModuleDict:
            return nn.ModuleDict({name: head(3 ** RANKS[name]) for name in hypers.tensors})

        self.heads = heads()
        self.bond_heads = heads() if hypers.bond_energies else None
        self.tensor_heads = tensor_heads()
        self.bond_tensor_heads = tensor_heads()

    def forward(
        self,
        messages: Tensor,
        geometry: Tensor,
        species: Tensor,
        others: Tensor,
        rows: Rows,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Advance one layer.

        Args:
            messages: [n_edges, d].
            geometry: [n_edges, n_coordinates], vector and/or length of each edge, Å.
            species: [n_atoms], species indices.
            others: [n_edges], atom index of each neighbour.
            rows: The padded layout.

        Returns:
            Output tokens [n_edges, d], energies [n_atoms], eV, and tensors, flat.
        """
        parts = [self.coordinate_activation(self.coordinates(geometry))]
        if self.neighbor_species is not None:
            parts.append(self.neighbor_species(species)[others])
        tokens = rows.pad(self.compress(torch.cat([*parts, messages], 1)))
        if self.central_species is not None:
            tokens = torch.cat([self.central_species(species)[:, None], tokens], 1)
        bias = rows.bias(central=self.central_species is not None)
        for block in self.blocks:
            tokens = block(tokens, bias)
        tokens = self.final_norm(tokens)
        if self.central_species is not None:
            central, tokens = tokens[:, 0], tokens[:, 1:]
        else:
            central = self._pool(tokens, rows.factors, average=self.hypers.average_pooling)
        energies = self.heads[self.hypers.target](central)[:, 0]
        if self.bond_heads is not None:
            bonds = self.bond_heads[self.hypers.target](tokens)
            average = self.hypers.average_bond_energies
            energies = energies + self._pool(bonds, rows.factors, average=average)[:, 0]
        tensors = {
            name: head(central) + self._pool(of_bonds(tokens), rows.factors, average=False)
            for (name, head), of_bonds in zip(
                self.tensor_heads.items(), self.bond_tensor_heads.values(), strict=True
            )
        }
        return rows.unpad(tokens), energies, tensors

    @staticmethod
    def _pool(values: Tensor, factors: Tensor, *, average: bool) -> Tensor:
        """Sum or mean of [n_atoms, n_slots, d] weighted by the factors -> [n_atoms, d]."""
        pooled = torch.einsum("nsd,ns->nd", values, factors)
        return pooled / (factors.sum(1, keepdim=True) + TINY) if average else pooled


class PET(nn.Module):
    """A PET backbone: a :class:`~ase_pet.potentials.base.Potential`.

    Args:
        hypers: Hyperparameters.
        species: Atomic numbers that the model knows, in any order.

    Attributes:
        cutoff: Å.
        n_layers: Receptive field in hops.
        species: Atomic numbers, sorted.
        symmetry: None: whatever invariance there is was learnt.
        tensors: Names of the tensors that it predicts; they too turn only as far as it was learnt.

    Raises:
        ValueError: If ``species`` is empty or holds a number twice.
    """

    symmetry: str | None = None

    def __init__(self, hypers: PETHypers, species: Sequence[int]) -> None:
        super().__init__()
        self.hypers = hypers
        self.species_table = SpeciesTable(species)
        self.species = self.species_table.species
        self.cutoff = hypers.cutoff
        self.n_layers = hypers.n_message_layers
        self.tensors = hypers.tensors
        self.embedding = nn.Embedding(len(self.species), hypers.d_model)
        self.layers = nn.ModuleList(
            MessageLayer(hypers, len(self.species), k) for k in range(hypers.n_message_layers)
        )

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type in which the network computes."""
        return self.embedding.weight.dtype

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        """Estimate the bytes of one evaluation with its gradient: what autograd keeps.

        Args:
            n_atoms: Atoms of the graph.
            n_neighbors: The largest number of neighbours of an atom.
        """
        h = self.hypers
        n_tokens = n_neighbors + 1
        kept = 16 * h.d_model + 3 * h.d_feedforward + 4 * h.n_heads * n_tokens
        block_values = n_tokens * kept * h.n_attention_layers
        layer_values = block_values + n_tokens * (10 * h.d_model + 4 * h.head_width)
        return n_atoms * layer_values * h.n_message_layers * self.embedding.weight.element_size()

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, in the network's dtype.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        return self._energies(graph) if is_constant(self) else self._evaluate(self.inputs(graph))[0]

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV, and tensors of the atoms, in the network's dtype.

        An atom alone has no direction: what the network says of it beyond an isotropic matrix is
        subtracted, so that nothing is left, or jumps, as its last neighbour leaves.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        if not self.tensors:
            return self(graph), {}
        return self.read(self.inputs(graph))

    def _energies(self, graph: Graph) -> Tensor:
        """Energies [n_atoms] of a network whose weights are constants."""
        species = self.species_table(graph.numbers)

        def switch(r: Tensor) -> tuple[Tensor, Tensor]:
            return cosine_cutoff_and_slope(r, self.cutoff, self.hypers.cutoff_width)

        vectors, network = graph.vectors.to(self.dtype), Network(self, species)
        return energies(graph, vectors, switch, self.n_layers, network)

    @property
    def compilable(self) -> bool:
        """Whether :meth:`read` is all that there is."""
        return True

    def inputs(self, graph: Graph) -> Environments:
        """What :meth:`read` needs: elements are checked, and rows laid out.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        species = self.species_table(graph.numbers)
        vectors = graph.vectors.to(self.dtype)
        r = lengths(vectors)[:, 0]
        factors = cosine_cutoff(r, self.cutoff, self.hypers.cutoff_width)
        rows = Rows.build(graph, factors)
        return Environments(vectors, species, graph.others, graph.reverse, rows)

    def read(self, inputs: Environments) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`predict`; shapes alone decide what is done."""
        energies, tensors = self._evaluate(inputs)
        if tensors:
            species = torch.arange(len(self.species), device=energies.device)
            none, nothing = species[:0], inputs.vectors[:0]
            rows = Rows(none, 0, nothing.new_zeros(len(species), 0))
            _, alone = self._evaluate(Environments(nothing, species, none, none, rows))
            tensors = {
                name: value - anisotropic(alone[name])[inputs.species]
                for name, value in tensors.items()
            }
        return energies, tensors

    def _evaluate(self, inputs: Environments) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies and tensors as the heads give them."""
        vectors, species, others = inputs.vectors, inputs.species, inputs.others
        geometry = {
            "vector_and_length": lambda: torch.cat([vectors, lengths(vectors)], 1),
            "vector": lambda: vectors,
            "length": lambda: lengths(vectors),
        }[self.hypers.coordinates]()
        messages = self.embedding(species)[others]
        energies = vectors.new_zeros(len(species))
        tensors = zero_tensors(self.tensors, energies)
        for layer in self.layers:
            tokens, contribution, parts = layer(messages, geometry, species, others, inputs.rows)
            energies = energies + contribution
            for name, part in parts.items():
                tensors[name] = tensors[name] + symmetric(part.view(tensors[name].shape))
            messages = self.hypers.residual_factor * (messages + tokens[inputs.reverse])
        return energies, tensors
