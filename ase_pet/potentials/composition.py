"""Energy of the elements: a constant for each atom."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
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
    values: Tensor

    def __init__(self, energies: Mapping[int, float]) -> None:
        super().__init__()
        self.species_table = SpeciesTable(list(energies))
        values = torch.tensor([float(energies[z]) for z in self.species], dtype=torch.float64)
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"energies: expected finite values, got {dict(energies)}")
        self.register_buffer("values", values, persistent=False)

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers, sorted."""
        return self.species_table.species

    @property
    def energies(self) -> dict[int, float]:
        """Energy of each element, eV."""
        return dict(zip(self.species, self.values.tolist(), strict=True))

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, float64.

        Raises:
            UnknownSpeciesError: If an element has no energy here.
        """
        return self.values[self.species_table(graph.numbers)]

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Follow devices but keep float64: total energies need its digits."""
        exact = self.values
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.values = exact.to(self.values.device)
        return self
