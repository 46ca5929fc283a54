"""The sum of a backbone and its baselines, in float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_pet.data import Graph
from ase_pet.potentials.base import Backbone, Potential, takes_positions
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.tensors import predict, tensors_of
from ase_pet.potentials.zbl import ZBL
from ase_pet.potentials.zbl_covalent import CovalentZBL


class Total(nn.Module):
    """Backbone + composition + short-range repulsion: a Potential in float64.

    Args:
        backbone: The trained network, bare or symmetrised.
        composition: Energy of the elements.
        zbl: Repulsion of nuclei.

    Attributes:
        species: Atomic numbers of the backbone, sorted.
        cutoff: Å, that of the longest-ranged term.
        n_layers: Receptive field of the deepest term, in hops.
    """

    def __init__(
        self,
        backbone: Backbone,
        composition: Composition | None = None,
        zbl: ZBL | CovalentZBL | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.composition = composition
        self.zbl = zbl

    @property
    def terms(self) -> list[Potential]:
        """The potentials that add up to the total."""
        return [t for t in (self.backbone, self.zbl, self.composition) if t is not None]

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that the backbone knows, sorted."""
        return self.backbone.species

    @property
    def cutoff(self) -> float:
        """Å, the largest of the terms."""
        return max(term.cutoff for term in self.terms)

    @property
    def n_layers(self) -> int:
        """Hops, the largest of the terms."""
        return max(term.n_layers for term in self.terms)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that the backbone predicts."""
        return tensors_of(self.backbone)

    @property
    def takes_positions(self) -> bool:
        """Whether positions and cells matter to the backbone."""
        return takes_positions(self.backbone)

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV, and tensors of the atoms, float64.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        energies, tensors = predict(self.backbone, graph)
        energies = energies.to(torch.float64)
        for term in self.terms[1:]:
            energies = energies + term(graph).to(torch.float64)
        return energies, {name: value.to(torch.float64) for name, value in tensors.items()}

    def forward(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV, float64.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        return self.predict(graph)[0]
