"""Energy of the elements: a constant for each atom."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.constants import Constant
from ase_pet.potentials.species import SpeciesTable


class Composition(nn.Module):
    """A constant energy for each atom, by element.

    Args:
        energies: eV for each atomic number.

    Raises:
        ValueError: If ``energies`` is empty or holds a value that is not finite.
    """

    cutoff = 0.0
    n_layers = 0

    def __init__(self, energies: Mapping[int, float]) -> None:
        super().__init__()
        self.species_table = SpeciesTable(list(energies))
        values = [float(energies[z]) for z in self.species]
        if not all(map(math.isfinite, values)):
            raise ValueError(f"energies: expected finite values, got {dict(energies)}")
        self.constant = Constant(values)

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers, sorted."""
        return self.species_table.species

    @property
    def energies(self) -> dict[int, float]:
        """Energy of each element, eV."""
        return dict(zip(self.species, self.constant.values.tolist(), strict=True))

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, float64.

        Raises:
            UnknownSpeciesError: If an element has no energy here.
        """
        # Total energies need all digits, whatever the dtype of the network.
        values: Tensor = self.constant(torch.float64)
        return values[self.species_table(graph.numbers)]
