"""The layers of TensorNet: embedding and interaction; equations in ``tensornet.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ase_pet.potentials.cartesian import (
    SIZES,
    Basis,
    Mix,
    gather_scale_add,
    multiply,
    scale_parts,
    shorten,
)
from ase_pet.potentials.hypers import check_choices, check_least
from ase_pet.potentials.radial import RADIAL_BASES
from ase_pet.potentials.splines import Splines
from ase_pet.potentials.tensornet_pairs import Pairs
from ase_pet.potentials.tensors import RANKS


class ShiftedSoftplus(nn.Module):
    """ln(1 + exp x) - ln 2."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return nn.functional.softplus(x) - 0.6931471805599453


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "shifted_softplus": ShiftedSoftplus,
    "sigmoid": nn.Sigmoid,
    "mish": nn.Mish,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNetHypers:
    """Hyperparameters of a TensorNet; the defaults make a small model.

    Attributes:
        cutoff: Å.
        inner_cutoff: Å, below which nothing is a neighbour; 0 in almost every model.
        n_units: Channels.
        n_layers: Interaction layers; the receptive field is one hop more.
        n_functions: Radial functions.
        rbf: Radial basis, one of :data:`ase_pet.potentials.radial.RADIAL_BASES`.
        activation: Nonlinearity everywhere but in a gated readout.
        group: ``"O(3)"``, or ``"SO(3)"``: the energy may tell mirror images apart.
        self_loops: Each atom is its own neighbour at distance zero.
        messages: Whose tensors a message carries: the neighbour's, or the ``"center"``'s own.
        charge: The total charge of a structure scales its interactions.
        n_charges: Channels of charges that messages know of (TensorNet2); 0 for none.
        coulomb: Add the energy of these charges, between all atoms of a finite structure.
        readout: A perceptron, or a ``"gated"`` one: a perceptron times a sigmoid one.
        readout_width: Width of its hidden layers.
        readout_depth: How many hidden layers it has.
        energy_scale: eV, by which the readout of an atom is multiplied.
        energy_shift: eV, added once for each structure (spread evenly over its atoms).
        dipole: Predict a dipole too, e·Å.
        polarizability: Predict a polarizability too, e²Å²/eV.
    """

    cutoff: float = 5.0
    inner_cutoff: float = 0.0
    n_units: int = 64
    n_layers: int = 1
    n_functions: int = 16
    rbf: str = "exponential"
    activation: str = "silu"
    group: Literal["O(3)", "SO(3)"] = "O(3)"
    self_loops: bool = False
    messages: Literal["neighbor", "center"] = "neighbor"
    charge: bool = False
    n_charges: int = 0
    coulomb: bool = False
    readout: Literal["perceptron", "gated"] = "perceptron"
    readout_width: int = 32
    readout_depth: int = 1
    energy_scale: float = 1.0
    energy_shift: float = 0.0
    dipole: bool = False
    polarizability: bool = False

    def __post_init__(self) -> None:
        check_least(self, 1, ("n_units", "n_functions", "readout_width", "readout_depth"))
        check_least(self, 0, ("n_layers", "n_charges"))
        if self.coulomb and not self.n_charges:
            raise ValueError("coulomb: expected n_charges of at least 1 with it, got 0")
        if not 0.0 <= self.inner_cutoff < self.cutoff:
            raise ValueError(
                f"inner_cutoff: expected at least 0 and less than cutoff={self.cutoff}, "
                f"got {self.inner_cutoff}"
            )
        choices: dict[str, Sequence[str]] = {
            "rbf": RADIAL_BASES,
            "activation": tuple(ACTIVATIONS),
            "group": ("O(3)", "SO(3)"),
            "messages": ("neighbor", "center"),
            "readout": ("perceptron", "gated"),
        }
        check_choices(self, choices)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that are predicted."""
        return tuple(name for name in RANKS if getattr(self, name))

    @property
    def n_blocks(self) -> int:
        """Number of modules with weights, at least."""
        return self.n_layers + self.readout_depth


class Embedding(nn.Module):
    """The first tensors of each atom, from elements and positions of its neighbours."""

    def __init__(self, hypers: TensorNetHypers, n_species: int) -> None:
        super().__init__()
        d = hypers.n_units
        activation = ACTIVATIONS[hypers.activation]()
        self.species = nn.Embedding(n_species, d)
        self.pair = nn.Linear(2 * d, d)
        self.filters = nn.Linear(hypers.n_functions, 3 * d)
        self.norm = nn.LayerNorm(d)
        self.gate = nn.Sequential(
            nn.Linear(d, 2 * d), activation, nn.Linear(2 * d, 3 * d), activation
        )
        self.mix = Mix(d)

    def forward(
        self, pairs: Pairs, species: Tensor, basis: Basis, itself: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Tensors [9, n_atoms, n_units].

        Args:
            pairs: Who is whose neighbour.
            species: [n_atoms], species indices.
            basis: Of 3×3 tensors.
            itself: Radial functions [1, n_functions] and envelope [1, 1] of a self loop.
        """
        d, n = self.mix.weight.shape[1], len(species)
        filters = torch.cat([self.filters.weight, self.filters.bias[:, None]], 1).view(3, d, -1)
        # Linear([z_i, z_j]) is a sum of two tables, one row for each element.
        weight, table = self.pair.weight, self.species.weight
        of_center, of_other = table @ weight[:, :d].T, table @ weight[:, d:].T
        of_center = of_center + self.pair.bias

        # Sums over neighbours of one element, for each atom that has some: [9, n_rows, ...].
        rows, n_rows = pairs.rows, len(pairs.rows.owners)
        radial = pairs.envelope * nn.functional.pad(pairs.functions, (0, 1), value=1.0)
        tensors = basis.of_directions(pairs.directions)
        there = (tensors[:, :, None] * radial[:, None, :]).flatten(1)
        back = torch.cat([tensors[:, :1], -tensors[:, 1:4], tensors[:, 4:]], 1)
        back = (back[:, :, None] * radial[:, None, :]).flatten(1)
        summed = radial.new_zeros(n_rows, there.shape[1])
        summed = summed.index_add(0, rows.row_of[:, 0], there)
        summed = summed.index_add(0, rows.row_of[:, 1], back)
        summed = summed.view(n_rows, 9, radial.shape[1]).transpose(0, 1)

        z = of_center[species[rows.owners]] + of_other[rows.elements]
        parts = torch.split(summed, SIZES)
        filtered = torch.cat([part @ w.T for part, w in zip(parts, filters, strict=True)])
        x = radial.new_zeros(9, n, d).index_add(1, rows.owners, filtered * z)
        if itself is not None:
            # A self loop has no direction: only its isotropic part is not zero.
            functions, envelope = itself
            z = of_center[species] + of_other[species]
            weight = envelope * nn.functional.linear(
                functions, filters[0, :, :-1], filters[0, :, -1]
            )
            x = torch.cat([x[:1] + 3**0.5 * weight * z, x[1:]])
        norms = self.norm(x.square().sum(0))
        return scale_parts(self.mix(x), self.gate(norms))


class Interaction(nn.Module):
    """One interaction layer."""

    def __init__(self, hypers: TensorNetHypers) -> None:
        super().__init__()
        d = hypers.n_units
        activation = ACTIVATIONS[hypers.activation]()
        self.hypers = hypers
        self.filters = nn.Sequential(
            *(nn.Linear(hypers.n_functions + 2 * hypers.n_charges, d), activation),
            *(nn.Linear(d, 2 * d), activation),
            *(nn.Linear(2 * d, 3 * d), activation),
        )
        self.splines: Splines | None = None
        self.mix_in = Mix(d)
        self.mix_out = Mix(d)

    def forward(
        self,
        x: Tensor,
        pairs: Pairs,
        basis: Basis,
        strength: Tensor,
        itself: tuple[Tensor, Tensor] | None,
        charges: Tensor | None = None,
    ) -> Tensor:
        """Advance tensors [9, n_atoms, n_units] by one layer.

        Args:
            x: Tensors.
            pairs: Who is whose neighbour.
            basis: Of 3×3 tensors.
            strength: [n_atoms, 1], factor of products, 1 without charge.
            itself: Radial functions [1, n_functions] and envelope [1, 1] of a self loop.
            charges: [n_atoms, n_charges], e, if messages know of them.
        """
        x = shorten(x)
        y = self.mix_in(x)
        message = self._messages(y, pairs, charges)
        if itself is not None:
            functions, envelope = itself
            if charges is not None:
                functions = torch.cat([functions.expand(len(charges), -1), charges, charges], 1)
            message = message + scale_parts(y, envelope * self.filters(functions))
        y, message = basis.matrices(y), basis.matrices(message)
        both_ways = self.hypers.group == "O(3)"
        product = multiply(y, message, both_ways=both_ways)
        p = (1.0 if both_ways else 2.0) * strength * basis.components(product)
        change = self.mix_out(shorten(p))
        matrices = basis.matrices(change)
        square = basis.components(multiply(matrices, matrices))
        advanced: Tensor = x + change + strength * square
        return advanced

    def _messages(self, y: Tensor, pairs: Pairs, charges: Tensor | None) -> Tensor:
        """Sums over neighbours [9, n_atoms, n_units]."""
        first, second, functions = pairs.first, pairs.second, pairs.functions
        back = None
        if charges is not None:
            q, p = charges[first], charges[second]
            back = pairs.envelope * self.filters(torch.cat([functions, p, q], 1))
            functions = torch.cat([functions, q, p], 1)
        if self.splines is None:
            there = pairs.envelope * self.filters(functions)
        else:
            there = self.splines(pairs.distances)
        if self.hypers.messages == "center":
            total = there.new_zeros(y.shape[1], there.shape[1])
            total = total.index_add(0, first, there)
            total = total.index_add(0, second, there if back is None else back)
            return scale_parts(y, total)
        there = there.view(len(there), 3, y.shape[2])
        if back is None:
            return gather_scale_add(there, y, second, first, both_ways=True)
        to_second = gather_scale_add(back.view_as(there), y, first, second)
        return gather_scale_add(there, y, second, first) + to_second
